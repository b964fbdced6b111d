/** The compressions that kernels, modules and initramfs come in: a table of magics, and how each is undone. */
import { gunzipSync, constants as zlibConstants, zstdDecompressSync } from 'node:zlib';
import { KernelImageError } from '../errors.ts';
import { type RunTool, runTool } from '../tool.ts';

export type Compression = 'gzip' | 'zstd' | 'xz' | 'lzma' | 'bzip2' | 'lz4' | 'lzo';

interface Method {
  name: Compression;
  /** First bytes. */
  magic: number[];
  /** Node's own zlib; otherwise the command that decompresses stdin to stdout. */
  decode?: (bytes: Uint8Array, limit: number) => Buffer;
  command?: [string, ...string[]];
  /** Whether the kernel's build appends the uncompressed size (u32 LE) to it; gzip ends with it anyway. */
  sizeAppended: boolean;
}

/** zstd -22, which the kernel's build uses, may ask for a window of 128 MiB. */
const ZSTD_WINDOW_LOG = 27;

const METHODS: readonly Method[] = [
  {
    name: 'gzip',
    magic: [0x1f, 0x8b, 0x08],
    decode: (bytes, limit) => gunzipSync(bytes, { maxOutputLength: limit }),
    sizeAppended: false,
  },
  {
    name: 'zstd',
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    decode: (bytes, limit) =>
      zstdDecompressSync(bytes, {
        maxOutputLength: limit,
        params: { [zlibConstants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG },
      }),
    sizeAppended: true,
  },
  // The kernel's LZ4 is the legacy frame: `lz4 -l`.
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18], command: ['lz4', '-dc'], sizeAppended: true },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], command: ['xz', '-dc'], sizeAppended: true },
  // No magic proper: the properties byte of `lzma -9` and the start of its dictionary size.
  { name: 'lzma', magic: [0x5d, 0, 0], command: ['xz', '-dc', '--format=lzma'], sizeAppended: true },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68], command: ['bzip2', '-dc'], sizeAppended: true },
  // lzop's file format.
  {
    name: 'lzo',
    magic: [0x89, 0x4c, 0x5a, 0x4f, 0, 0x0d, 0x0a],
    command: ['lzop', '-dc'],
    sizeAppended: true,
  },
];

/** Largest result accepted, bytes: a generic distribution kernel is 66 MB. */
const MAX_OUTPUT = 512 * 1024 * 1024;

/** Which compression the bytes are in, by magic; null when none is known. */
export function detectCompression(bytes: Uint8Array): Compression | null {
  return methodOf(bytes)?.name ?? null;
}

/**
 * Decompresses bytes whose magic is in the table.
 * @throws {KernelImageError} unknown magic, or damaged data.
 * @throws {ToolError} the tool for this format is not installed; the hint names its package.
 */
export async function decompress(
  bytes: Uint8Array,
  limit = MAX_OUTPUT,
  run: RunTool = runTool,
): Promise<Buffer> {
  return decodeWith(methodOrThrow(bytes), bytes, limit, run);
}

/** A kernel's payload: as {@link decompress}, and the result is held against the size that the build appended. */
export async function decompressPayload(payload: Uint8Array, run: RunTool = runTool): Promise<Buffer> {
  const method = methodOrThrow(payload);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const expected = view.getUint32(payload.length - 4, true);
  if (expected > MAX_OUTPUT) throw new KernelImageError(`the kernel claims to be ${expected} bytes: damaged`);
  const compressed = method.sizeAppended ? payload.subarray(0, -4) : payload;
  const bytes = await decodeWith(method, compressed, MAX_OUTPUT, run);
  if (bytes.length !== expected)
    throw new KernelImageError(`unpacked to ${bytes.length} bytes, but the header says ${expected}: damaged`);
  return bytes;
}

async function decodeWith(method: Method, bytes: Uint8Array, limit: number, run: RunTool): Promise<Buffer> {
  if (method.command) {
    const [command, ...args] = method.command;
    return run(command, args, { input: bytes, maxOutput: limit });
  }
  try {
    return method.decode!(bytes, limit);
  } catch (cause) {
    throw new KernelImageError(`the ${method.name} data cannot be unpacked: damaged or truncated`, { cause });
  }
}

function methodOrThrow(bytes: Uint8Array): Method {
  const method = methodOf(bytes);
  if (method) return method;
  const start = Buffer.from(bytes.subarray(0, 8)).toString('hex');
  const known = METHODS.map(({ name }) => name).join(', ');
  throw new KernelImageError(`unknown compression (it starts with ${start}); known: ${known}`);
}

function methodOf(bytes: Uint8Array): Method | undefined {
  return METHODS.find(({ magic }) => magic.every((byte, index) => bytes[index] === byte));
}
