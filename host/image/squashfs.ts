/**
 * The squashfs 4.0 superblock: 96 bytes at the start, little-endian (linux/fs/squashfs/squashfs_fs.h).
 *
 * What it cannot tell: damage inside the compressed data. squashfs has no checksums; a flipped bit there shows as an
 * I/O error in the guest when the block is read, or not at all (the agreement's SHA3 over the file is what guards it).
 */
import { ImageCompressorError, ImageTruncatedError, NotAnImageError } from './errors.ts';

export const SUPERBLOCK_SIZE = 96;
const MAGIC = 0x73717368; // "hsqs" as bytes
const MAGIC_BIG_ENDIAN = 0x68737173; // "sqsh": squashfs 3 and older, big-endian
/** A table that the image does not have. */
const NO_TABLE = 0xffff_ffff_ffff_ffffn;
const MIN_BLOCK_LOG = 12;
const MAX_BLOCK_LOG = 20;

interface CompressorRow {
  id: number;
  name: string;
  /** Kernel symbol that reads it; null: no mainline kernel does. */
  symbol: string | null;
}

/** By the superblock's compressor field. */
export const COMPRESSORS = [
  { id: 1, name: 'gzip', symbol: 'CONFIG_SQUASHFS_ZLIB' },
  { id: 2, name: 'lzma', symbol: null },
  { id: 3, name: 'lzo', symbol: 'CONFIG_SQUASHFS_LZO' },
  { id: 4, name: 'xz', symbol: 'CONFIG_SQUASHFS_XZ' },
  { id: 5, name: 'lz4', symbol: 'CONFIG_SQUASHFS_LZ4' },
  { id: 6, name: 'zstd', symbol: 'CONFIG_SQUASHFS_ZSTD' },
] as const satisfies readonly CompressorRow[];
export type Compressor = (typeof COMPRESSORS)[number]['name'];

export interface Superblock {
  compressor: Compressor;
  /** Bytes of one data block. */
  blockSize: number;
  /** Bytes of the file system from the file's start; the rest is padding or metadata. */
  bytesUsed: number;
  inodes: number;
  /** When it was made, seconds since the epoch. */
  created: number;
}

/** What people hand over by mistake: bytes at an offset, and what they mean. */
const FOREIGN: readonly { at: number; bytes: string; what: string; hint?: string }[] = [
  {
    at: 0,
    bytes: '\x1f\x8b',
    what: 'gzip data',
    hint: 'A `docker save` or a root file system? Make an image of it: ya-vm image build.',
  },
  { at: 257, bytes: 'ustar', what: 'a tar archive', hint: 'Make an image of it: ya-vm image build.' },
  { at: 0, bytes: 'QFI\xfb', what: 'a qcow2 disk' },
  { at: 0, bytes: 'PK\x03\x04', what: 'a zip archive' },
  { at: 0, bytes: '\x7fELF', what: 'an ELF program' },
  { at: 0, bytes: '<', what: 'HTML or XML', hint: 'A download that ended in an error page? Fetch it again.' },
  { at: 0, bytes: '{', what: 'JSON', hint: 'A download that ended in an error message? Fetch it again.' },
];
/** Bytes of the file that {@link parseSuperblock} wants to see: the superblock, and what tells foreign formats. */
export const HEAD_SIZE = 512;

/**
 * Checks a superblock against itself and the file's size.
 * @param head The file's first {@link HEAD_SIZE} bytes, or the whole file when it is shorter.
 * @param size Bytes of the file.
 * @param supported Compressors that the guest's kernel mounts; default: all that a mainline kernel can.
 * @throws {NotAnImageError | ImageTruncatedError | ImageCompressorError}
 */
export function parseSuperblock(head: Uint8Array, size: number, supported?: readonly string[]): Superblock {
  if (size === 0) throw new NotAnImageError('the file is empty');
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < 4 || view.getUint32(0, true) !== MAGIC) throw foreign(head, view);
  if (head.length < SUPERBLOCK_SIZE)
    throw new ImageTruncatedError(`the file ends inside the squashfs superblock, at byte ${size}`);
  const version = `${view.getUint16(28, true)}.${view.getUint16(30, true)}`;
  if (version !== '4.0') throw new NotAnImageError(`squashfs version ${version}; only 4.0 can be mounted`);

  const blockSize = view.getUint32(12, true);
  const blockLog = view.getUint16(22, true);
  if (blockLog < MIN_BLOCK_LOG || blockLog > MAX_BLOCK_LOG || blockSize !== 2 ** blockLog)
    throw damaged(`a block size of ${blockSize} bytes (log ${blockLog})`);
  const inodes = view.getUint32(4, true);
  if (inodes === 0 || view.getUint16(26, true) === 0) throw damaged('no inodes or no owners');
  const bytesUsed = view.getBigUint64(40, true);
  if (bytesUsed < SUPERBLOCK_SIZE) throw damaged(`a length of ${bytesUsed} bytes`);
  checkTables(view, bytesUsed);
  if (bytesUsed > BigInt(size))
    throw new ImageTruncatedError(`the squashfs is ${bytesUsed} bytes long, but the file has only ${size}`, {
      hint: 'Download or copy it again.',
    });
  return {
    compressor: compressorOf(view.getUint16(20, true), supported),
    blockSize,
    bytesUsed: Number(bytesUsed),
    inodes,
    created: view.getUint32(8, true),
  };
}

/** Tables come in this order and end before the file system does; the last three may be missing. */
function checkTables(view: DataView, bytesUsed: bigint): void {
  const inodes = view.getBigUint64(64, true);
  const directories = view.getBigUint64(72, true);
  const ids = view.getBigUint64(48, true);
  if (inodes < SUPERBLOCK_SIZE || directories <= inodes || ids <= directories || ids >= bytesUsed)
    throw damaged(
      `inode, directory and owner tables at bytes ${inodes}, ${directories} and ${ids} of ${bytesUsed}`,
    );
  // The root inode's reference: offset of its block in the inode table (48 bits), offset in that block (16 bits).
  if (view.getBigUint64(32, true) >> 16n >= directories - inodes)
    throw damaged('its root directory is not there');
  for (const [offset, what] of [
    [56, 'attribute'],
    [80, 'fragment'],
    [88, 'export'],
  ] as const) {
    const table = view.getBigUint64(offset, true);
    // Without fragments the field means nothing, and writers put what they like there.
    if (what === 'fragment' && view.getUint32(16, true) === 0) continue;
    if (table !== NO_TABLE && (table < SUPERBLOCK_SIZE || table >= bytesUsed))
      throw damaged(`its ${what} table at byte ${table} of ${bytesUsed}`);
  }
}

function compressorOf(id: number, supported?: readonly string[]): Compressor {
  const row: CompressorRow | undefined = COMPRESSORS.find((each) => each.id === id);
  if (!row) throw damaged(`compressor number ${id}`);
  if (row.symbol === null)
    throw new ImageCompressorError(`packed with ${row.name}, which no mainline kernel can mount`, {
      hint: 'Pack it again with lzo, zstd, xz, lz4 or gzip.',
    });
  if (supported && !supported.includes(row.name))
    throw new ImageCompressorError(`packed with ${row.name}, but the guest’s kernel lacks ${row.symbol}`, {
      hint: `Pack it again with ${supported.join(', ')}, or boot a kernel with ${row.symbol}=y (ya-vm initramfs build --help).`,
    });
  return row.name as Compressor;
}

/** For a file that is nothing known: damaged from its first byte on, or a wrong path. */
const FOREIGN_HINT =
  'Fetch it again, or make an image of a folder, a tar or a docker archive: ya-vm image build';

function foreign(head: Uint8Array, view: DataView): NotAnImageError {
  if (head.length >= 4 && view.getUint32(0, true) === MAGIC_BIG_ENDIAN)
    return new NotAnImageError('a big-endian squashfs, which only squashfs 3 and older had');
  const text = Buffer.from(head.subarray(0, HEAD_SIZE)).toString('latin1');
  const row = FOREIGN.find(({ at, bytes }) => text.startsWith(bytes, at));
  return new NotAnImageError(
    `not a squashfs image${row ? `: it is ${row.what}` : ' (no magic "hsqs" at its start)'}`,
    {
      hint: row?.hint ?? FOREIGN_HINT,
    },
  );
}

function damaged(what: string): NotAnImageError {
  return new NotAnImageError(`the squashfs superblock is damaged: it claims ${what}`);
}
