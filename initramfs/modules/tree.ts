/** A kernel's modules folder on disk: its index files (made with depmod where missing) and its module files. */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { hasErrno } from '../../host/lib/errors.ts';
import { ModuleError } from '../errors.ts';
import { type RunTool, runTool } from '../tool.ts';
import { decompress, detectCompression } from '../vmlinux/decompress.ts';
import { parseElf } from '../vmlinux/elf.ts';
import { type IndexTexts, type ModuleIndex, parseIndex } from './index-files.ts';

export interface ModuleTree {
  /** `/lib/modules/<release>`, or a copy of it. */
  folder: string;
  /** Its last path component. */
  release: string;
  index: ModuleIndex;
}

/** Files of the index, by what they are called in {@link IndexTexts}. */
const INDEX_FILES = {
  dep: 'modules.dep',
  builtin: 'modules.builtin',
  softdep: 'modules.softdep',
  alias: 'modules.alias',
} as const;
/** Those that depmod makes; modules.builtin comes with the kernel. */
const MADE_BY_DEPMOD = ['softdep', 'alias', 'dep'] as const;

/** Largest module accepted, unpacked, bytes: xfs is 4 MB with debug data, GPU drivers 100 MB. */
const MAX_MODULE = 256 * 1024 * 1024;

/**
 * Opens a modules folder: `…/lib/modules/<release>` itself, or a root that has exactly one such folder.
 * @param keepIndex Write what depmod made into the folder, so that the next run finds it: for folders of our own.
 * @throws {ModuleError} no such folder, or nothing in it that looks like a kernel's modules.
 * @throws {ToolError} depmod is needed and not installed, or fails.
 */
export async function openModuleTree(
  path: string,
  keepIndex = false,
  run: RunTool = runTool,
): Promise<ModuleTree> {
  const folder = await findFolder(resolve(path));
  const release = basename(folder);
  const texts = await readIndex(folder);
  if (texts.dep === '') Object.assign(texts, await runDepmod(folder, release, keepIndex, run));
  return { folder, release, index: parseIndex(texts) };
}

/**
 * Reads one module, decompressed: the initramfs as a whole is compressed better, and the guest needs no decompressor.
 * @throws {ModuleError} it is not there, damaged, or no x86-64 object.
 */
export async function readModule(
  tree: ModuleTree,
  path: string,
  run: RunTool = runTool,
): Promise<Uint8Array> {
  const file = join(tree.folder, path);
  try {
    const bytes = await readFile(file);
    const object = detectCompression(bytes) ? await decompress(bytes, MAX_MODULE, run) : bytes;
    parseElf(object);
    return object;
  } catch (cause) {
    // A missing tool is not the module's fault, and its own error says what to install.
    if (hasErrno(cause, 'YAVM_E_INITRAMFS_TOOL')) throw cause;
    const hint = hasErrno(cause, 'ENOENT')
      ? 'modules.dep names it: run depmod, or give the complete modules folder.'
      : undefined;
    throw new ModuleError(`${file}: cannot be used`, { cause, hint });
  }
}

async function findFolder(path: string): Promise<string> {
  const at = await stat(path).catch((cause) => {
    throw new ModuleError(`${path}: no modules folder`, { cause });
  });
  if (!at.isDirectory()) throw new ModuleError(`${path}: not a folder`);
  if (await looksLikeModules(path)) return path;
  const found: string[] = [];
  // /usr/lib first: where /lib links to usr/lib, both show the same folder.
  for (const parent of [join(path, 'usr/lib/modules'), join(path, 'lib/modules')])
    for (const release of await readdir(parent).catch(() => []))
      if (await looksLikeModules(join(parent, release))) found.push(join(parent, release));
  const releases = new Set(found.map((each) => basename(each)));
  if (found[0] !== undefined && releases.size === 1) return found[0];
  if (releases.size > 1)
    throw new ModuleError(`${path}: modules of several kernels: ${[...releases].join(', ')}`, {
      hint: 'Name one of the folders.',
    });
  throw new ModuleError(`${path}: no kernel modules in it`, { hint: 'Expected /lib/modules/<release>.' });
}

async function looksLikeModules(folder: string): Promise<boolean> {
  const names: string[] = await readdir(folder).catch(() => []);
  return ['kernel', 'modules.dep', 'modules.builtin'].some((name) => names.includes(name));
}

async function readIndex(folder: string): Promise<IndexTexts> {
  const read = (name: string) =>
    readFile(join(folder, name), 'utf8').catch((cause) => {
      if (hasErrno(cause, 'ENOENT')) return '';
      throw new ModuleError(`${join(folder, name)}: cannot be read`, { cause });
    });
  return {
    dep: await read(INDEX_FILES.dep),
    builtin: await read(INDEX_FILES.builtin),
    softdep: await read(INDEX_FILES.softdep),
    alias: await read(INDEX_FILES.alias),
  };
}

/**
 * Lets depmod index the folder without writing to it: it sees a stand-in folder of symbolic links, under both
 * places that kmod builds look in.
 */
async function runDepmod(
  folder: string,
  release: string,
  keepIndex: boolean,
  run: RunTool,
): Promise<Pick<IndexTexts, (typeof MADE_BY_DEPMOD)[number]>> {
  const base = await mkdtemp(join(tmpdir(), 'ya-vm-depmod-'));
  try {
    const standIn = join(base, 'lib/modules', release);
    await mkdir(standIn, { recursive: true });
    await symlink('.', join(base, 'usr'));
    for (const name of await readdir(folder)) await symlink(join(folder, name), join(standIn, name));
    await run('depmod', ['-b', base, release]);
    const made = await readIndex(standIn);
    if (made.dep === '') throw new ModuleError(`${folder}: depmod found no module in it`);
    if (keepIndex) await keep(folder, made);
    return { dep: made.dep, softdep: made.softdep, alias: made.alias };
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

/** Writes what depmod made, modules.dep last and each at once: another build may be looking. */
async function keep(folder: string, made: IndexTexts): Promise<void> {
  for (const key of MADE_BY_DEPMOD) {
    const path = join(folder, INDEX_FILES[key]);
    await writeFile(`${path}.${process.pid}`, made[key]);
    await rename(`${path}.${process.pid}`, path);
  }
}
