/**
 * `build/out/ya-vm`: the program as people start it. The host's TypeScript is bundled, because Node's own type
 * stripping would cost every process 25 MB of private memory and 60 ms of start (measured on `ya-vm ps`).
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { bundleScripts } from './scripts/bundle.ts';
import { CODE, fileLoader, SCRIPTS } from './scripts/loader.ts';
import { compileScripts, NODE_OPTIONS } from './scripts/start.ts';

/** Folder beside the launcher with what it starts: scripts with V8's code of them, Node, the addon. */
const LIB = 'lib';

/** Packages that stay outside: serialport finds its prebuilt addon by its own path, esbuild its program. */
const EXTERNAL = ['serialport', 'esbuild'];

export interface LauncherInputs {
  /** Where the launcher is put, with `lib/` beside it. */
  out: string;
  /** What is started by itself, by its name in `lib/`: the CLI is `main`, the others are threads. */
  entries: Record<string, string>;
  /** The Node to run on. */
  node: string;
  /** The addon built for Node; native/load.ts looks for it beside the bundle. */
  addon: string;
}

/** Makes the launcher and its `lib/` anew. @throws when the bundle cannot be made. */
export async function buildLauncher({ out, entries, node, addon }: LauncherInputs): Promise<void> {
  // Made beside the old one and put in its place at the end: a start never finds half of it.
  const lib = join(out, `${LIB}.new`);
  rmSync(lib, { recursive: true, force: true });
  mkdirSync(lib, { recursive: true });
  await bundleHost(entries, lib);
  const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'));
  writeFileSync(join(lib, 'package.json'), JSON.stringify({ name, version, type: 'module' }));
  linkOrCopy(node, join(lib, 'node'));
  copyFileSync(addon, join(lib, 'yavm.node'));
  const old = join(out, `${LIB}.old`);
  rmSync(old, { recursive: true, force: true });
  if (existsSync(join(out, LIB))) renameSync(join(out, LIB), old);
  renameSync(lib, join(out, LIB));
  rmSync(old, { recursive: true, force: true });
  const script = join(out, 'ya-vm');
  writeFileSync(script, launcherScript());
  chmodSync(script, 0o755);
}

async function bundleHost(entries: Record<string, string>, lib: string): Promise<void> {
  const scripts = join(lib, SCRIPTS);
  await bundleScripts(entries, scripts, { external: EXTERNAL });
  await compileScripts(scripts, join(lib, CODE), lib);
  for (const entry of Object.keys(entries)) writeFileSync(join(lib, `${entry}.cjs`), fileLoader(entry));
}

/**
 * A script, not a program: it only has to find its own folder, through links and from anywhere.
 *
 * `--`: Node takes its own `--env-file` from all words, also from those of the script, up to these dashes.
 */
export function launcherScript(): string {
  return `#!/bin/sh
# ya-vm's launcher, made by the build (build/launcher.ts).
self=$(readlink -f -- "$0") && lib=\${self%/*}/${LIB} || exit 125
exec "$lib/node" ${NODE_OPTIONS.join(' ')} -- "$lib/main.cjs" "$@"
`;
}

/** Node is 120 MB: a hard link where the file system allows it. */
function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
    chmodSync(to, 0o755);
  }
}
