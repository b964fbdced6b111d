/** Archives in tests: bytes in pieces, whole streams, and the programs and libraries of others. */
import { execFileSync } from 'node:child_process';
import { type ArchiveOptions, packArchive, unpackArchive } from '../../host/transfer/archive/index.ts';
import type { Bytes } from '../../host/transfer/types.ts';

/** `bytes` in pieces of `size`, each overwritten when the next is asked for, as the contract of Bytes allows. */
export async function* pieces(bytes: Uint8Array, size = 64 * 1024): Bytes {
  const piece = new Uint8Array(size);
  for (let at = 0; at < bytes.byteLength; at += size) {
    const part = bytes.subarray(at, at + size);
    piece.set(part);
    yield piece.subarray(0, part.byteLength);
    piece.fill(0xaa);
  }
}

export async function collect(bytes: Bytes): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const piece of bytes) parts.push(Buffer.from(piece));
  return Buffer.concat(parts);
}

type Options = Pick<ArchiveOptions, 'format'> & Partial<ArchiveOptions>;

function complete(options: Options): ArchiveOptions {
  return { signal: new AbortController().signal, tempFolder: '/var/tmp', ...options };
}

export function pack(tar: Uint8Array, options: Options, size?: number): Promise<Buffer> {
  return collect(packArchive(pieces(tar, size), complete(options)));
}

export function unpack(archive: Uint8Array, options: Options, size?: number): Promise<Buffer> {
  return collect(unpackArchive(pieces(archive, size), complete(options)));
}

/** Runs a program. @throws Error with its complaints */
export function run(
  program: string,
  args: string[],
  options: { input?: Uint8Array; cwd?: string } = {},
): Buffer {
  return execFileSync(program, args, {
    ...options,
    maxBuffer: 2 ** 31 - 1,
    env: { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

/** Whether the program can be run. */
export function isThere(program: string): boolean {
  try {
    run(program, ['--help']);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}
