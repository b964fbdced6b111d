/** How large a disk's file has to be, so that its user has what was promised. Pure. ext4 as root-disk.ts makes it. */

const KIB = 1024;
const MIB = 1024 * KIB;
/** Smallest disk worth having, bytes: a journal takes as much again. */
export const MIN_DISK = 16 * MIB;
/** ext4 with 4 KiB blocks ends at 16 TiB without the 64bit feature; far above any agreement. */
export const MAX_DISK = 8 * 1024 * 1024 * MIB;

export const BLOCK = 4 * KIB;
export const JOURNAL_MIB = 16;
/**
 * Bytes of disk per inode, and of the inode itself. mke2fs's own ratio: trees of many small files (node_modules) fit. The
 * tables take 1.5 % of the disk's size, but not of the host's room: nothing is written to them before it is used.
 */
export const INODE_RATIO = 16384;
export const INODE_SIZE = 256;
/** Blocks of one group: one bitmap block has a bit for each. */
const GROUP = BLOCK * 8 * BLOCK;
const DESCRIPTOR = 64;
/** mke2fs keeps room for descriptors of a file system 1024 times as large, at most this many blocks. */
const GROWTH = 1024;
const MAX_RESERVED = BLOCK / 4;
/** The kernel holds back 2 % of the blocks, at most 4096, for metadata of writes that it has not placed yet. */
const HELD_BACK_SHARE = 50;
const HELD_BACK_MOST = 4096 * BLOCK;

/**
 * Size of the file, so that a file system in it has at least `usable` bytes for its user: what ext4 keeps for itself
 * (inodes, bitmaps, descriptors with their copies, the journal of one that is kept), and what its driver holds back, is
 * added, so that the quota is honest.
 */
export function diskFileSize(usable: number, kept: boolean): number {
  let size = usable;
  // What is added needs metadata of its own, a few per mille of it: this settles at once.
  for (let round = 0; round < 4; round++) size = usable + metadataSize(size, kept ? JOURNAL_MIB : 0);
  return Math.ceil(size / MIB) * MIB;
}

/** What a file system of `size` bytes made with {@link mke2fsArguments} does not give to its user, rounded up. */
function metadataSize(size: number, journalMiB: number): number {
  const groups = Math.ceil(size / GROUP);
  const inodes = groups * Math.ceil(((GROUP / INODE_RATIO) * INODE_SIZE) / BLOCK) * BLOCK;
  const bitmaps = groups * 2 * BLOCK;
  const descriptors = Math.ceil((groups * DESCRIPTOR) / BLOCK);
  const reserved = Math.min(Math.ceil((groups * GROWTH * DESCRIPTOR) / BLOCK), MAX_RESERVED);
  const copies = backupGroups(groups) * (1 + descriptors + reserved) * BLOCK;
  const heldBack = Math.min(size / HELD_BACK_SHARE, HELD_BACK_MOST);
  // The last group may be part of one; its inodes are then fewer. Directories and roundings: 1 MiB.
  const tables = Math.min(inodes, (size / INODE_RATIO) * INODE_SIZE + MIB);
  return tables + bitmaps + copies + heldBack + (journalMiB + 1) * MIB;
}

/** Groups that hold a copy of superblock and descriptors: 0, 1 and the powers of 3, 5 and 7 (sparse_super). */
function backupGroups(groups: number): number {
  let count = Math.min(groups, 2);
  for (const base of [3, 5, 7]) for (let power = base; power < groups; power *= base) count++;
  return count;
}
