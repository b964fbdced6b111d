/** What is in an initramfs, and whether the manifest beside it describes it. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasErrno, YavmError } from '../host/lib/errors.ts';
import { type Entry, unpackCpio } from './cpio.ts';
import { ArchiveError } from './errors.ts';
import { describeEntry, digest, type Manifest, type ManifestEntry, parseManifest } from './manifest.ts';
import { moduleName, parseIndex } from './modules/index-files.ts';
import { type RunTool, runTool } from './tool.ts';
import { type Compression, decompress, detectCompression } from './vmlinux/decompress.ts';

export interface Inspection {
  path: string;
  /** Bytes of the file, and of the cpio in it. */
  size: number;
  unpacked: number;
  sha256: string;
  /** Null: a bare cpio. */
  compression: Compression | null;
  /** Of the modules; null when it has none. */
  release: string | null;
  /** In the order of its modules.dep, which loads. */
  modules: { name: string; size: number; dependencies: string[] }[];
  /** Canonical names of what its kernel has built in, by its modules.builtin. */
  builtin: string[];
  entries: ManifestEntry[];
  manifest: Manifest | null;
  /** Why the manifest beside it is not used, when there is one. */
  manifestProblem: string | null;
}

/** Bounds, bytes: of the file, and of what it unpacks to. */
const MAX_FILE = 512 * 1024 * 1024;
const MAX_UNPACKED = 1024 * 1024 * 1024;
const MAX_MANIFEST = 16 * 1024 * 1024;
const DEFAULT_NAME = 'initramfs.cpio.zst';
const MODULE_LIST = /^\/lib\/modules\/([^/]+)\/modules\.dep$/;

/**
 * Reads an initramfs, by the file's path or its folder's.
 * @throws {ArchiveError} it cannot be read, is no cpio, or is truncated.
 */
export async function inspect(path: string, run: RunTool = runTool): Promise<Inspection> {
  const { file, bytes } = await readBounded(path);
  const compression = detectCompression(bytes);
  const { cpio, entries } = await unpack(file, bytes, compression, run);
  const sum = digest(bytes);
  const { manifest, manifestProblem } = await readManifest(join(dirname(file), 'manifest.json'), sum.sha256);
  return {
    path: file,
    size: sum.size,
    unpacked: cpio.length,
    sha256: sum.sha256,
    compression,
    ...describeModules(entries),
    entries: entries.map(describeEntry),
    manifest,
    manifestProblem,
  };
}

async function readBounded(path: string): Promise<{ file: string; bytes: Buffer }> {
  try {
    const file = (await stat(path)).isDirectory() ? join(path, DEFAULT_NAME) : path;
    const at = await stat(file);
    if (!at.isFile()) throw new ArchiveError(`${file}: not a regular file`);
    if (at.size > MAX_FILE) throw new ArchiveError(`${file}: ${at.size} bytes are too many for an initramfs`);
    return { file, bytes: await readFile(file) };
  } catch (cause) {
    if (cause instanceof ArchiveError) throw cause;
    throw new ArchiveError(`${path}: the initramfs cannot be read`, {
      cause,
      hint: hasErrno(cause, 'ENOENT') ? 'make build, or: ya-vm initramfs build' : undefined,
    });
  }
}

async function unpack(
  file: string,
  bytes: Buffer,
  compression: Compression | null,
  run: RunTool,
): Promise<{ cpio: Buffer; entries: Entry[] }> {
  try {
    const cpio = compression ? await decompress(bytes, MAX_UNPACKED, run) : bytes;
    return { cpio, entries: unpackCpio(cpio) };
  } catch (cause) {
    // A missing decompressor says for itself what to do.
    if (cause instanceof YavmError && cause.code === 'YAVM_E_INITRAMFS_TOOL') throw cause;
    throw new ArchiveError(`${file}: not an initramfs, or damaged`, { cause });
  }
}

function describeModules(entries: readonly Entry[]): Pick<Inspection, 'release' | 'modules' | 'builtin'> {
  const files = new Map(
    entries.flatMap((entry) => (entry.type === 'file' ? [[entry.path, entry.data]] : [])),
  );
  const list = [...files.keys()].find((path) => MODULE_LIST.test(path));
  if (list === undefined) return { release: null, modules: [], builtin: [] };
  const text = (path: string) => Buffer.from(files.get(path) ?? '').toString('utf8');
  const lists = { dep: text(list), builtin: text(join(dirname(list), 'modules.builtin')) };
  const { modules, builtin } = parseIndex({ ...lists, softdep: '', alias: '' });
  return {
    release: (MODULE_LIST.exec(list) as RegExpExecArray)[1] as string,
    modules: [...modules.values()].map(({ path, dependencies }) => {
      const data = files.get(join(dirname(list), path));
      if (!data) throw new ArchiveError(`${list} names ${path}, which is not in the initramfs`);
      return { name: moduleName(path), size: data.length, dependencies };
    }),
    builtin: [...builtin],
  };
}

async function readManifest(
  path: string,
  sha256: string,
): Promise<Pick<Inspection, 'manifest' | 'manifestProblem'>> {
  try {
    if ((await stat(path)).size > MAX_MANIFEST) return { manifest: null, manifestProblem: 'it is too large' };
    const manifest = parseManifest(await readFile(path, 'utf8'));
    if (manifest.initramfs.sha256 === sha256) return { manifest, manifestProblem: null };
    return { manifest: null, manifestProblem: 'it describes another initramfs (SHA-256 differs)' };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return { manifest: null, manifestProblem: null };
    return { manifest: null, manifestProblem: error instanceof Error ? error.message : String(error) };
  }
}
