/** What the initramfs holds, as a table, and the parts that depend on the build: /init, modules, files asked for. */
import { lstat, readFile, stat } from 'node:fs/promises';
import type { Entry } from './cpio.ts';
import { ContentError } from './errors.ts';
import type { Closure } from './modules/closure.ts';
import { type ModuleIndex, moduleName } from './modules/index-files.ts';
import { interpreterOf, isElf, parseElf } from './vmlinux/elf.ts';

/** Folders and device nodes. Everything else under /dev comes with devtmpfs, which the kernel does not mount by itself. */
export const SKELETON: readonly Entry[] = [
  // Devices that must be there before /dev is mounted. The kernel opens /dev/console as stdin, stdout and stderr of /init.
  { type: 'character', path: '/dev/console', mode: 0o600, major: 5, minor: 1 },
  { type: 'character', path: '/dev/null', mode: 0o666, major: 1, minor: 3 },
  { type: 'character', path: '/dev/kmsg', mode: 0o600, major: 1, minor: 11 },
  // Mount points of the kernel's file systems.
  { type: 'directory', path: '/dev', mode: 0o755 },
  { type: 'directory', path: '/proc', mode: 0o555 },
  { type: 'directory', path: '/sys', mode: 0o555 },
  // For what is mounted before the task's root is there, and for that root.
  { type: 'directory', path: '/run', mode: 0o755 },
  { type: 'directory', path: '/mnt', mode: 0o755 },
  { type: 'directory', path: '/newroot', mode: 0o755 },
];

/** Largest file that `--file` takes, bytes: an initramfs lives in the guest's memory. */
const MAX_FILE = 256 * 1024 * 1024;
/** What the kernel reads of a `#!` line, bytes (BINPRM_BUF_SIZE). */
const MAX_SHEBANG = 256;

/** A file to put into the initramfs. */
export interface FileSpec {
  source: string;
  /** Absolute path in the initramfs. */
  path: string;
  /** Permission bits; default 0755 when the source is executable by its owner, else 0644. */
  mode?: number;
}

/** Parses `SRC:DST[:MODE]`, MODE octal. @throws {ContentError} */
export function parseFileSpec(text: string): FileSpec {
  const match = /^(.+?):(\/[^:]*)(?::([0-7]{3,4}))?$/.exec(text);
  if (match)
    return {
      source: match[1] as string,
      path: match[2] as string,
      mode: match[3] === undefined ? undefined : Number.parseInt(match[3], 8),
    };
  throw new ContentError(`--file ${text}: not SRC:DST[:MODE]`, {
    hint: 'DST is an absolute path in the initramfs, MODE octal: --file tools/strace:/bin/strace:755',
  });
}

/** Reads a file for the initramfs. @throws {ContentError} not a regular file, unreadable, or larger than 256 MiB. */
export async function fileEntry({ source, path, mode }: FileSpec): Promise<Entry> {
  try {
    const at = await stat(source);
    if (!at.isFile()) throw new ContentError(`${source}: not a regular file`);
    if (at.size > MAX_FILE)
      throw new ContentError(`${source}: ${at.size} bytes are too many for an initramfs`);
    const executable = (at.mode & 0o100) !== 0;
    return { type: 'file', path, mode: mode ?? (executable ? 0o755 : 0o644), data: await readFile(source) };
  } catch (cause) {
    if (cause instanceof ContentError) throw cause;
    const dangling = await lstat(source).then(
      (at) => at.isSymbolicLink(),
      () => false,
    );
    throw new ContentError(`${source}: cannot be put into the initramfs`, {
      cause,
      hint: dangling ? 'It is a symbolic link that leads nowhere.' : undefined,
    });
  }
}

/**
 * Checks that the kernel can start `/init` from these entries: a static ELF program, or a script or dynamic program
 * whose interpreter is in the initramfs too. Otherwise the guest would die with "No working init found".
 * @throws {ContentError}
 */
export function checkInit(init: Uint8Array, entries: readonly Entry[]): void {
  const interpreter = programInterpreter(init);
  if (interpreter === null || entries.some(({ path }) => path === interpreter)) return;
  throw new ContentError(`/init needs ${interpreter}, which is not in the initramfs`, {
    hint: 'Link it statically, or add the interpreter with --file.',
  });
}

function programInterpreter(init: Uint8Array): string | null {
  if (init[0] === 0x23 && init[1] === 0x21) {
    const line = Buffer.from(init.subarray(2, MAX_SHEBANG)).toString('utf8').split('\n', 1)[0] as string;
    const path = line.trim().split(/\s/, 1)[0] as string;
    if (path === '') throw new ContentError('/init starts with #! but names no interpreter');
    return path;
  }
  if (!isElf(init)) throw new ContentError('/init is neither an ELF program nor a #! script');
  try {
    return interpreterOf(init, parseElf(init));
  } catch (cause) {
    throw new ContentError('/init cannot be started', { cause });
  }
}

/** A module with its bytes. */
export interface LoadedModule {
  name: string;
  data: Uint8Array;
}

/**
 * `/lib/modules/<release>`: the files, flat, with an index of their own in depmod's syntax and paths relative to the
 * folder. modules.dep has exactly what is carried; soft dependencies (`pre:`) are hard ones in it, and modules.softdep has them
 * and those of `post:` by name, as far as they are carried. modules.builtin is the
 * kernel's whole list, so that a loader can tell "built in" from "not there"; modules.alias is restricted to what is carried.
 */
export function moduleEntries(
  release: string,
  index: ModuleIndex,
  closure: Closure,
  loaded: readonly LoadedModule[],
): Entry[] {
  const folder = `/lib/modules/${release}`;
  const text = (name: string, lines: string[]): Entry => {
    const data = Buffer.from(lines.map((line) => `${line}\n`).join(''));
    return { type: 'file', path: `${folder}/${name}`, mode: 0o644, data };
  };
  const carried = new Set(closure.modules.map(({ name }) => name));
  return [
    ...loaded.map(({ name, data }): Entry => {
      return { type: 'file', path: `${folder}/${name}.ko`, mode: 0o644, data };
    }),
    text(
      'modules.dep',
      closure.modules.map(({ name, dependencies }) => {
        return [`${name}.ko:`, ...dependencies.map((each) => `${each}.ko`)].join(' ');
      }),
    ),
    text(
      'modules.builtin',
      [...index.builtin].sort().map((name) => `${name}.ko`),
    ),
    text(
      'modules.alias',
      index.aliases.filter(([, name]) => carried.has(name)).map((alias) => `alias ${alias.join(' ')}`),
    ),
    text(
      'modules.softdep',
      closure.modules.flatMap(({ name }) => softLine(index, carried, name) ?? []),
    ),
  ];
}

/** `softdep NAME pre: A post: B`; null when nothing of it is carried under that name. */
function softLine(index: ModuleIndex, carried: ReadonlySet<string>, name: string): string | null {
  const part = (keyword: string, wanted: string[] = []) => {
    const known = wanted.map(moduleName).filter((each) => carried.has(each));
    return known.length === 0 ? [] : [keyword, ...known];
  };
  const words = [...part('pre:', index.softBefore.get(name)), ...part('post:', index.softAfter.get(name))];
  return words.length === 0 ? null : ['softdep', name, ...words].join(' ');
}
