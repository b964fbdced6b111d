/** The agent, out of an initramfs that has it: a program that is installed has it nowhere else. */
import { readFile, stat } from 'node:fs/promises';
import { unpackCpio } from './cpio.ts';
import { ArchiveError } from './errors.ts';
import { decompress, detectCompression } from './vmlinux/decompress.ts';

/** Bounds, bytes: of the archive, and of what it unpacks to. */
const MAX_ARCHIVE = 128 * 1024 * 1024;
const MAX_CPIO = 512 * 1024 * 1024;

/** The bytes of /init. @throws {ArchiveError} no initramfs, or one without it. */
export async function agentOf(initramfs: string): Promise<Uint8Array> {
  try {
    if ((await stat(initramfs)).size > MAX_ARCHIVE) throw new ArchiveError(`${initramfs}: too large`);
    const bytes = await readFile(initramfs);
    const cpio = detectCompression(bytes) ? await decompress(bytes, MAX_CPIO) : bytes;
    const init = unpackCpio(cpio).find(({ path }) => path === '/init');
    if (init?.type === 'file') return init.data;
  } catch (cause) {
    throw new ArchiveError(`${initramfs}: the agent cannot be read from it`, { cause });
  }
  throw new ArchiveError(`${initramfs}: has no /init`);
}
