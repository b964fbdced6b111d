/**
 * One executable: Node, stripped, with a script and assets put into it ("single executable application", by hand what
 * pkg's SEA mode does). Stripped before, never after: strip would damage what was put in.
 */
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'postject';
import { NODE_OPTIONS } from '../scripts/start.ts';
import { runTool } from '../tool.ts';

/** Names by which Node finds its payload (its documentation of single executables). */
const SECTION = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

export interface BinaryInputs {
  node: string;
  /** CommonJS, needs no file beside it. */
  script: string;
  /** Paths by name. */
  assets: Record<string, string>;
  /** For what is in between. */
  work: string;
  output: string;
}

/** @throws when a step fails; `output` is then as it was. */
export async function buildBinary({ node, script, assets, work, output }: BinaryInputs): Promise<void> {
  const [settings, blob, program] = ['sea.json', 'sea.blob', 'program'].map((name) => join(work, name)) as [
    string,
    string,
    string,
  ];
  const config = {
    main: script,
    output: blob,
    disableExperimentalSEAWarning: true,
    // A snapshot would not start on another CPU. The loader's own code is a line; the host's is made by itself.
    useSnapshot: false,
    useCodeCache: false,
    // Behind the dashes no word is an option of Node's, as `--env-file` of `ya-vm run` would be.
    execArgv: [...NODE_OPTIONS, '--'],
    assets,
  };
  writeFileSync(settings, JSON.stringify(config));
  await runTool(node, ['--experimental-sea-config', settings]);
  await runTool('strip', ['-o', program, node]);
  await quietly(() => inject(program, SECTION, readFileSync(blob), { sentinelFuse: FUSE }));
  chmodSync(program, 0o755);
  renameSync(program, output);
  rmSync(blob);
}

/** postject's ELF library complains about section names that its own notes do not have. */
async function quietly(act: () => Promise<void>): Promise<void> {
  const { log, warn, error } = console;
  Object.assign(console, { log() {}, warn() {}, error() {} });
  try {
    await act();
  } finally {
    Object.assign(console, { log, warn, error });
  }
}
