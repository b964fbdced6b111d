/** The JavaScript engine: QuickJS, from Debian's source package, at one pinned version. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runTool, ToolError } from './tool.ts';

/** Debian's upstream tarball (Debian 13 has this version). */
export const QUICKJS = {
  version: '2025.04.26',
  /** Its place beneath a Debian mirror. */
  path: 'pool/main/q/quickjs/quickjs_2025.04.26.orig.tar.xz',
  sha256: 'ec81da5b3249ed648dbc7df4a1654988910e66a118d9b71cb63534216efcfbbe',
} as const;

/** The C files of the engine itself; its command-line programs and libc module are not used. */
export const QUICKJS_SOURCES = ['quickjs.c', 'cutils.c', 'libregexp.c', 'libunicode.c', 'dtoa.c'] as const;

/** Flags that its own makefile compiles it with, where they matter to the result. */
export const QUICKJS_FLAGS = [
  '-D_GNU_SOURCE',
  `-DCONFIG_VERSION="${QUICKJS.version}"`,
  '-fwrapv',
  '-w',
] as const;

/** apt's own download program: it knows the machine's mirrors, proxies and certificates. */
const APT_HELPER = '/usr/lib/apt/apt-helper';

/** Names what to do when no mirror of the machine has the file. */
function unavailable(file: string, reasons: string[]): ToolError {
  return new ToolError(
    `QuickJS ${QUICKJS.version} could not be fetched: no Debian mirror of this machine has ${QUICKJS.path}.\n` +
      `  ${reasons.join('\n  ')}\n` +
      'If apt has no package lists, run "apt-get update". If this distribution is newer and has left that version, ' +
      `get the file from a mirror or archive that still has it (Debian 13: "apt-get source quickjs"), and put it at\n` +
      `  ${file}\n(sha256 ${QUICKJS.sha256})`,
  );
}

function isIntact(file: string): boolean {
  return existsSync(file) && createHash('sha256').update(readFileSync(file)).digest('hex') === QUICKJS.sha256;
}

/** The bases of all mirrors that apt is set up with, each once. */
async function mirrors(): Promise<string[]> {
  const list = await runTool('apt-get', ['indextargets', '--format', '$(REPO_URI)']);
  return [...new Set(list.split('\n').filter((line) => line !== ''))];
}

async function download(file: string): Promise<void> {
  const reasons: string[] = [];
  for (const mirror of await mirrors()) {
    const address = `${mirror.replace(/\/?$/, '/')}${QUICKJS.path}`;
    try {
      await runTool(APT_HELPER, ['download-file', address, `${file}.part`, `SHA256:${QUICKJS.sha256}`]);
      renameSync(`${file}.part`, file);
      return;
    } catch (error) {
      const lines = (error as Error).message.split('\n').filter((line) => line.startsWith('E:'));
      reasons.push(lines[0] ?? (error as Error).message);
    }
  }
  throw unavailable(file, reasons);
}

/**
 * The unpacked sources, fetched into `cache` when they are not there yet.
 * @returns the folder that holds quickjs.c.
 * @throws {ToolError} when no mirror has the file, or it is not the one that was pinned.
 */
export async function fetchQuickjs(cache: string): Promise<string> {
  mkdirSync(cache, { recursive: true });
  const file = join(cache, QUICKJS.path.slice(QUICKJS.path.lastIndexOf('/') + 1));
  const folder = join(cache, `quickjs-${QUICKJS.version}`);
  if (!isIntact(file)) {
    rmSync(file, { force: true });
    await download(file);
    if (!isIntact(file)) throw new ToolError(`${file}: not the pinned QuickJS ${QUICKJS.version}; remove it`);
  }
  if (!existsSync(folder)) {
    const unpacking = `${folder}.part`;
    rmSync(unpacking, { recursive: true, force: true });
    mkdirSync(unpacking);
    await runTool('tar', ['-xJf', file, '-C', unpacking, '--strip-components=1', '--no-same-owner']);
    renameSync(unpacking, folder);
  }
  return folder;
}
