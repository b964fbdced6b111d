/** The native addon for Node: native/addon → build/out/yavm.node. */
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Step } from './step.ts';
import { runSteps } from './step.ts';

const TOP = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** The addon, from the repository's top. */
export const ADDON = 'build/out/yavm.node';

/** The step that builds it; part of `make build`. */
export const addonStep: Step = {
  name: 'addon',
  says: 'native addon for Node',
  inputs: ['native/addon', 'build/addon.ts', 'package-lock.json'],
  outputs: [ADDON],
  after: [],
  run: compile,
};

/**
 * Builds the addon unless it is up to date.
 * @returns its absolute path.
 * @throws when the compiler fails; the message holds what it printed.
 */
export async function buildAddon(): Promise<string> {
  await runSteps([addonStep], (line) => console.error(line));
  return join(TOP, ADDON);
}

/** Runs cmake-js in native/addon, whose package.json names the Node-API version: so nothing is downloaded. */
async function compile(): Promise<void> {
  const out = join(TOP, 'build/cache/addon');
  const args = [
    join(TOP, 'node_modules/.bin/cmake-js'),
    'compile',
    '--log-level=error',
    '--prefer-make',
    '--config=MinSizeRel',
    '--parallel=2',
    `--directory=${join(TOP, 'native/addon')}`,
    `--out=${out}`,
    `--CDYAVM_NODE_INCLUDE=${nodeInclude()}`,
  ];
  await promisify(execFile)(process.execPath, args, { cwd: TOP, maxBuffer: 64 << 20 }).catch((error) => {
    throw new Error(`cmake-js failed on native/addon:\n${error.stdout}\n${error.stderr}`, { cause: error });
  });
  mkdirSync(dirname(join(TOP, ADDON)), { recursive: true });
  // By rename: a process that has the old one mapped keeps it.
  copyFileSync(join(out, 'MinSizeRel', 'yavm.node'), `${join(TOP, ADDON)}.new`);
  renameSync(`${join(TOP, ADDON)}.new`, join(TOP, ADDON));
}

/** include/node of the Node that runs this, for uv.h. */
function nodeInclude(): string {
  const folder = resolve(dirname(process.execPath), '../include/node');
  if (!existsSync(join(folder, 'uv.h'))) {
    throw new Error(`${process.execPath} has no ${folder}/uv.h: run with the pinned Node (make setup)`);
  }
  return folder;
}

if (import.meta.main) console.log(await buildAddon());
