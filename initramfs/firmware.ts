/** Firmware of devices for the initramfs: `/lib/firmware`, from where the kernel's package or a folder has it. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasErrno } from '../host/lib/errors.ts';
import type { Entry } from './cpio.ts';
import { ContentError } from './errors.ts';
import { type RunTool, runTool } from './tool.ts';
import { decompress, detectCompression } from './vmlinux/decompress.ts';

/** Largest firmware, bytes: those of GPUs have up to 80 MB. */
const MAX_FIRMWARE = 256 * 1024 * 1024;
/** Most files that one pattern stands for. */
const MAX_MATCHES = 1000;
/** Suffixes of files that distributions pack; the kernel would take them too, where it was built so. */
const PACKED = /\.(xz|zst)$/;

/** Where the firmware of a modules folder is: `lib/firmware` beside `lib/modules`, with the release's own first. */
export function firmwareFolders(modulesFolder: string, release: string): string[] {
  const folder = join(dirname(dirname(modulesFolder)), 'firmware');
  return [join(folder, release), folder];
}

/**
 * Reads firmware, unpacked: not every kernel unpacks it.
 * @param names As drivers ask for them (`amdgpu/navi10_sos.bin`); `*` stands for anything in the last part.
 * @param folders The first one that has a name counts.
 * @throws {ContentError} a name that is none, one that no folder has, or a file that cannot be read.
 */
export async function firmwareEntries(
  names: readonly string[],
  folders: readonly string[],
  run: RunTool = runTool,
): Promise<Entry[]> {
  const found = new Map<string, Entry>();
  for (const name of names)
    for (const { path, file } of await find(name, folders)) {
      if (!found.has(path)) found.set(path, await read(path, file, run));
    }
  return [...found.values()];
}

async function find(name: string, folders: readonly string[]): Promise<{ path: string; file: string }[]> {
  const parts = name.split('/');
  if (
    parts.some((part) => ['', '.', '..'].includes(part)) ||
    parts.slice(0, -1).some((part) => part.includes('*'))
  )
    throw new ContentError(`--firmware ${name}: not a name of firmware`, {
      hint: 'As a driver asks for it, without /lib/firmware: amdgpu/navi10_sos.bin, or amdgpu/navi10_*',
    });
  const last = parts.at(-1) as string;
  const pattern = new RegExp(`^${last.replace(/[^\w*-]/g, '\\$&').replaceAll('*', '.*')}$`);
  const below = parts.slice(0, -1).join('/');
  for (const folder of folders) {
    const listed = await readdir(join(folder, below)).catch((cause) => {
      if (hasErrno(cause, 'ENOENT') || hasErrno(cause, 'ENOTDIR')) return [];
      throw new ContentError(`${join(folder, below)}: cannot be read`, { cause });
    });
    const matching = listed.filter((each) => pattern.test(each.replace(PACKED, ''))).sort();
    const files = (await Promise.all(matching.map((each) => fileOnly(join(folder, below, each))))).flat();
    if (files.length > MAX_MATCHES)
      throw new ContentError(
        `--firmware ${name}: stands for ${files.length} files, more than ${MAX_MATCHES}`,
      );
    if (files.length > 0)
      return files.map((file) => {
        const base = file.slice(file.lastIndexOf('/') + 1).replace(PACKED, '');
        return { path: ['/lib/firmware', ...parts.slice(0, -1), base].join('/'), file };
      });
  }
  throw new ContentError(`--firmware ${name}: not in ${folders.join(', ') || 'any folder'}`, {
    hint: 'Debian has it in packages of their own (firmware-amd-graphics…): unpack one and give --firmware-from FOLDER.',
  });
}

async function fileOnly(file: string): Promise<string[]> {
  const at = await stat(file).catch(() => null);
  return at?.isFile() ? [file] : [];
}

async function read(path: string, file: string, run: RunTool): Promise<Entry> {
  try {
    if ((await stat(file)).size > MAX_FIRMWARE) throw new ContentError(`${file}: too large for an initramfs`);
    const bytes = await readFile(file);
    // By name: the content of firmware may look like anything.
    const packed = PACKED.test(file) && detectCompression(bytes) !== null;
    return {
      type: 'file',
      path,
      mode: 0o644,
      data: packed ? await decompress(bytes, MAX_FIRMWARE, run) : bytes,
    };
  } catch (cause) {
    if (cause instanceof ContentError || hasErrno(cause, 'YAVM_E_INITRAMFS_TOOL')) throw cause;
    throw new ContentError(`${file}: the firmware cannot be read`, { cause });
  }
}
