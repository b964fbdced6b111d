/**
 * Builds the driver's kernel modules as dkms would, of unpacked packages and for a kernel that is not this host's: its headers
 * lie in a folder, not below /usr/src, so what names that place in them is turned.
 */
import { accessSync, constants } from 'node:fs';
import { lstat, mkdir, readdir, readFile, readlink, rename, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, delimiter, isAbsolute, join, resolve } from 'node:path';
import type { RunTool } from '../../initramfs/tool.ts';
import { hasErrno } from '../lib/errors.ts';
import { MODULES } from './contents.ts';
import { DriverLayerError } from './errors.ts';

/** Milliseconds: 4 minutes on two fast cores, and a slow machine has one. */
const BUILD_TIMEOUT = 90 * 60_000;
/** What make says in all, bytes. */
const MAX_OUTPUT = 64 * 1024 * 1024;
const MAX_PARALLEL = 32;

/** @throws {DriverLayerError} the kernel's own compiler is not here, or make, or binutils */
export async function requireBuildTools(tree: string, release: string): Promise<void> {
  const { output } = await headersOf(tree, release);
  const config = await readFile(join(output, '.config'), 'utf8').catch((cause) => {
    throw new DriverLayerError(`the headers of ${release} have no .config`, { cause });
  });
  const compiler = compilerOf(config) ?? 'gcc';
  const missing = [compiler, 'make', 'ld', 'strip'].filter((name) => !isInPath(name));
  if (missing.length === 0) return;
  const packages = missing.map((name) => (name === 'ld' || name === 'strip' ? 'binutils' : name));
  throw new DriverLayerError(`kernel modules for ${release} cannot be built here: no ${missing.join(', ')}`, {
    hint: `sudo apt-get install ${[...new Set(packages)].join(' ')} (the compiler that built the kernel). Or build them elsewhere, and: --modules none FOLDER`,
  });
}

/** The compiler that built the kernel: CONFIG_CC_VERSION_TEXT="gcc-12 (Debian …) 12.2.0". */
export function compilerOf(config: string): string | null {
  const [, name] = /^CONFIG_CC_VERSION_TEXT="([\w.+-]+) /m.exec(config) ?? [];
  // By its triplet a distribution's compiler has one more name.
  return name?.replace(/^x86_64-linux-gnu-/, '') ?? null;
}

/** @returns a folder with the modules alone, without debugging information. @throws {DriverLayerError} */
export async function buildModules({
  tree,
  release,
  run,
}: {
  /** Unpacked: sources in usr/src, headers in usr/src and lib/modules. */
  tree: string;
  release: string;
  run: RunTool;
}): Promise<string> {
  const source = await driverSource(tree);
  const { sources, output } = await headersOf(tree, release);
  await turnMakefile(tree, output);
  const words = [
    ...['-C', source, `-j${Math.min(availableParallelism(), MAX_PARALLEL)}`, 'modules'],
    ...[`KERNEL_UNAME=${release}`, `SYSSRC=${sources}`, `SYSOUT=${output}`],
    // The folder's name is another each time, and would be in the modules.
    `KCFLAGS=-ffile-prefix-map=${tree}=.`,
  ];
  // What a make above us says to its own is not for this one.
  const env = { MAKEFLAGS: undefined, MAKELEVEL: undefined, MFLAGS: undefined, KERNELRELEASE: undefined };
  await run('make', words, { env, timeout: BUILD_TIMEOUT, maxOutput: MAX_OUTPUT }).catch((cause) => {
    throw new DriverLayerError(`${basename(source)} cannot be built for kernel ${release}`, {
      cause,
      hint: 'An old driver does not know a new kernel: choose another version of the driver or of the kernel set.',
    });
  });
  const built = join(tree, 'modules');
  await mkdir(built);
  for (const name of (await readdir(source)).filter((name) => MODULES.some((each) => name === `${each}.ko`)))
    await rename(join(source, name), join(built, name));
  const made = (await readdir(built)).map((name) => join(built, name));
  // 20 MB of 300 are left.
  if (made.length > 0) await run('strip', ['-g', '--', ...made]);
  return built;
}

/** What dkms would build. @throws {DriverLayerError} */
async function driverSource(tree: string): Promise<string> {
  const folder = join(tree, 'usr/src');
  for (const name of (await namesIn(folder)).filter((each) => each.startsWith('nvidia'))) {
    const inside = await namesIn(join(folder, name));
    if (inside.includes('dkms.conf') && inside.includes('Makefile')) return join(folder, name);
  }
  throw new DriverLayerError("the packages have no sources of NVIDIA's kernel modules in /usr/src");
}

/** Where `lib/modules/RELEASE/{source,build}` lead, in the tree. */
async function headersOf(tree: string, release: string): Promise<{ sources: string; output: string }> {
  // Newer packages name /usr/lib, where /lib leads.
  const folders = ['lib', 'usr/lib'].map((top) => join(tree, top, 'modules', release));
  const follow = async (name: string) => {
    for (const folder of folders) {
      const path = join(folder, name);
      const target = await readlink(path).catch((cause) => {
        if (hasErrno(cause, 'ENOENT')) return null;
        throw new DriverLayerError(`${path}: cannot be read`, { cause });
      });
      if (target !== null) return isAbsolute(target) ? join(tree, target) : resolve(folder, target);
    }
    return null;
  };
  const output = (await follow('build')) ?? join(tree, 'usr/src', `linux-headers-${release}`);
  return { output, sources: (await follow('source')) ?? output };
}

/** Debian's headers begin with `include /usr/src/…-common/Makefile`; Ubuntu's have a link that stays as it is. */
async function turnMakefile(tree: string, output: string): Promise<void> {
  const path = join(output, 'Makefile');
  const found = await lstat(path).catch((cause) => {
    throw new DriverLayerError(`${path}: the kernel's headers have no Makefile`, { cause });
  });
  if (!found.isFile()) return;
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.replaceAll(/^include \/usr\/src\//gm, `include ${tree}/usr/src/`));
}

async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort();
}

function isInPath(name: string): boolean {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/bin'];
  return folders.filter(isAbsolute).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
