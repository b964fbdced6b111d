/**
 * Of a tar, mksquashfs gives the root directory to whoever runs it, whatever its options say (4.5). So the numbers of
 * who runs it stand for the root alone: files that belong to that number get a stand-in in the tar, and when the image is
 * made its table of owners is put right. An image is then the same whoever builds it.
 */
import { readSync, writeSync } from 'node:fs';
import { ImageBuildError } from '../errors.ts';
import { SUPERBLOCK_SIZE } from '../squashfs.ts';

export interface OwnerPlan {
  /** What stands in the tar for an owner. */
  inTar(id: number): number;
  /** What the image's table has at first → what it is to have. */
  table: ReadonlyMap<number, number>;
}

interface Owner {
  uid: number;
  gid: number;
}

/** Stand-ins are taken from here downwards: no system gives such numbers out. 2^32 - 1 means "none". */
const FIRST_STAND_IN = 2 ** 32 - 2;

/**
 * @param used All owners of files but the root.
 * @param runner Who runs mksquashfs.
 * @param root Who owns the root. Where the runner's user and group are one number and the root's are not, it is 0:0.
 */
export function planOwners(used: ReadonlySet<number>, runner: Owner, root: Owner): OwnerPlan {
  const standIns = new Map<number, number>();
  let next = FIRST_STAND_IN;
  for (const id of [runner.uid, runner.gid]) {
    if (standIns.has(id)) continue;
    while (used.has(next)) next--;
    standIns.set(id, next--);
  }
  const wanted = runner.uid === runner.gid && root.uid !== root.gid ? { uid: 0, gid: 0 } : root;
  const table = new Map([...standIns].map(([id, standIn]) => [standIn, id]));
  table.set(runner.uid, wanted.uid).set(runner.gid, wanted.gid);
  return { inTar: (id) => standIns.get(id) ?? id, table };
}

/** Of the superblock: how many owners there are, and where the list of their blocks is. */
const COUNT = 26;
const TABLE = 48;
/** Bytes of a metadata block at most; the top bit of its length says that it is not compressed. */
const BLOCK = 8192;
const PLAIN = 0x8000;

/**
 * Changes the owners in a squashfs whose table is not compressed (`-noId`).
 * @throws {ImageBuildError} it is, or is not there
 */
export function changeOwners(fd: number, path: string, table: ReadonlyMap<number, number>): void {
  const superblock = read(fd, path, 0, SUPERBLOCK_SIZE);
  const bytes = superblock.readUInt16LE(COUNT) * 4;
  const pointers = read(fd, path, Number(superblock.readBigUInt64LE(TABLE)), Math.ceil(bytes / BLOCK) * 8);
  for (let index = 0; index * 8 < pointers.length; index++) {
    const at = Number(pointers.readBigUInt64LE(index * 8));
    const length = read(fd, path, at, 2).readUInt16LE(0);
    if (length !== (PLAIN | Math.min(BLOCK, bytes - index * BLOCK)))
      throw new ImageBuildError(`${path}: its table of owners is not as mksquashfs was told to write it`);
    const ids = read(fd, path, at + 2, length & ~PLAIN);
    for (let place = 0; place < ids.length; place += 4) {
      const id = ids.readUInt32LE(place);
      ids.writeUInt32LE(table.get(id) ?? id, place);
    }
    writeSync(fd, ids, 0, ids.length, at + 2);
  }
}

function read(fd: number, path: string, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  if (length === 0 || readSync(fd, bytes, 0, length, at) === length) return bytes;
  throw new ImageBuildError(`${path}: mksquashfs wrote less than it said`);
}
