/**
 * A VM's writable disk, of its root or of a volume: a sparse ext4 file, made on the host without root. One that is thrown
 * away with its VM has no name at all, so nothing can be left behind; it lies on disk and not in the run folder, which is
 * memory (tmpfs).
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { withDeadline } from '../lib/deadline.ts';
import { type ErrorCode, hasErrno, toError, YavmError } from '../lib/errors.ts';
import { findProgram } from '../lib/programs.ts';
import { TextTail } from '../lib/text-tail.ts';
import {
  BLOCK,
  diskFileSize,
  INODE_RATIO,
  INODE_SIZE,
  JOURNAL_MIB,
  MAX_DISK,
  MIN_DISK,
} from './disk-size.ts';

/** An open disk. Owns the descriptor. */
export interface OpenDisk {
  fd: number;
  /** Whether it is kept after the VM. */
  kept: boolean;
}

export interface DiskRequest {
  /** Bytes for who uses it. */
  usable: number;
  /** Path where it is kept; a disk that is there already is used as it is. Without it the disk has no name. */
  keep?: string;
  /** Bytes of the host's disk to take at once. */
  preallocate?: number;
  /** Of a disk without a name; default {@link diskFolder}. */
  folder?: string;
}

/** For who has a disk that does not fit. */
export const ROOM_HINT =
  "Free space where the VM's disks lie: in YAVM_DISK_DIR (default /var/tmp), on a provider in the activity's folder.";

const KIB = 1024;

/**
 * All features, so that disks do not depend on the machine's mke2fs.conf: Debian 13's adds orphan_file, which takes room
 * of its own, and which older kernels do not know.
 */
const FEATURES = [
  ...['extent', 'huge_file', 'flex_bg', 'metadata_csum', '64bit', 'dir_nlink', 'extra_isize'],
  ...['sparse_super', 'large_file', 'filetype', 'resize_inode', 'dir_index', 'ext_attr'],
];

/**
 * mke2fs's arguments for `file`. No reserve for root (-m 0); nothing is written that a sparse file has as zeros already. A
 * disk that is kept has a journal of 16 MiB. One that goes with its VM has none: nobody mounts it after a crash, so there is
 * nothing to replay, and neither mounting nor writing pays for it.
 */
export function mke2fsArguments(file: string, kept: boolean): string[] {
  const features = ['none', ...(kept ? ['has_journal'] : []), ...FEATURES];
  const journal = kept ? ['-J', `size=${JOURNAL_MIB}`] : [];
  const lazy = ['lazy_itable_init=1', ...(kept ? ['lazy_journal_init=1'] : [])];
  return [
    ...['-q', '-F', '-t', 'ext4', '-O', features.join(','), '-b', String(BLOCK), '-m', '0'],
    ...['-i', String(INODE_RATIO), '-I', String(INODE_SIZE), ...journal],
    ...['-E', [...lazy, 'nodiscard', 'root_owner=0:0'].join(','), file],
  ];
}

/** Makes a disk. @throws {YavmError} YAVM_E_ROOT_DISK, YAVM_E_DISK_FULL, YAVM_E_MKE2FS_MISSING, YAVM_E_MKE2FS */
export async function makeDisk(request: DiskRequest, signal?: AbortSignal): Promise<OpenDisk> {
  const { made, ...disk } = startDisk(request, signal);
  try {
    await made;
    return disk;
  } catch (error) {
    closeSync(disk.fd);
    throw error;
  }
}

/** A disk that has its size, and perhaps no file system yet. */
export interface StartedDisk extends OpenDisk {
  /** Resolves when it is there; rejects as {@link makeDisk}. What was to be kept has no name any more then. */
  made: Promise<void>;
}

/**
 * Begins to make a disk. QEMU may have it meanwhile, as long as its guest does not look at it.
 * @throws {YavmError} YAVM_E_ROOT_DISK
 */
export function startDisk(request: DiskRequest, signal?: AbortSignal): StartedDisk {
  const { usable, keep, preallocate = 0, folder = diskFolder() } = request;
  if (!(usable >= MIN_DISK && usable <= MAX_DISK)) {
    throw new YavmError('YAVM_E_ROOT_DISK', `a disk of ${usable} bytes: outside ${MIN_DISK}…${MAX_DISK}`);
  }
  const { fd, size } = keep === undefined ? openAnonymous(folder) : openKept(keep);
  const name = keep ?? "the VM's disk";
  const remove = () => {
    if (size === 0 && keep !== undefined) unlinkSync(keep);
  };
  try {
    const kept = keep !== undefined;
    if (size > 0) {
      checkFormat(fd, name);
      return { fd, kept, made: Promise.resolve() };
    }
    const disk = { fd, name, kept, size: diskFileSize(usable, kept), preallocate };
    setSize(disk);
    const made = format(disk, signal).catch((error) => {
      remove();
      throw error;
    });
    // Whoever waits for it hears of it; it may be that nobody comes to that.
    made.catch(() => {});
    return { fd, kept, made };
  } catch (error) {
    closeSync(fd);
    remove();
    throw error;
  }
}

/** `$YAVM_DISK_DIR`, else /var/tmp: by the file system standard the place for large temporary files that is not memory. */
export function diskFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return env.YAVM_DISK_DIR || '/var/tmp';
}

/** open(2)'s O_TMPFILE of Linux on x86-64 (it includes O_DIRECTORY), which Node does not name. */
const O_TMPFILE = 0o20200000;

function openAnonymous(folder: string): { fd: number; size: number } {
  try {
    return { fd: openSync(folder, O_TMPFILE | constants.O_RDWR, 0o600), size: 0 };
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP') && !hasErrno(error, 'EISDIR')) throw diskError(folder, error);
  }
  // A file system without O_TMPFILE: a name for the moment that it takes to remove it.
  const path = join(folder, `ya-vm-${randomBytes(8).toString('hex')}.disk`);
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    unlinkSync(path);
    return { fd, size: 0 };
  } catch (error) {
    throw diskError(folder, error);
  }
}

function diskError(folder: string, cause: unknown): YavmError {
  return new YavmError('YAVM_E_ROOT_DISK', `${folder}: cannot make the VM's disk there`, {
    cause,
    hint: ROOM_HINT,
  });
}

function openKept(path: string): { fd: number; size: number } {
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const stat = fstatSync(fd);
    if (stat.isFile()) return { fd, size: stat.size };
    closeSync(fd);
  } catch (cause) {
    throw new YavmError('YAVM_E_ROOT_DISK', `${path}: cannot open or make the disk`, { cause });
  }
  throw new YavmError('YAVM_E_ROOT_DISK', `${path}: not a regular file`);
}

/** Offset and value of ext4's magic number. */
const MAGIC_OFFSET = 1024 + 56;
const MAGIC = 0xef53;

function checkFormat(fd: number, path: string): void {
  const magic = Buffer.alloc(2);
  readSync(fd, magic, 0, 2, MAGIC_OFFSET);
  if (magic.readUInt16LE() === MAGIC) return;
  throw new YavmError('YAVM_E_ROOT_DISK', `${path}: exists and holds no ext4 file system`, {
    hint: 'Give the name of a file that does not exist, or of a root disk that was kept before.',
  });
}

interface NewDisk {
  fd: number;
  /** For errors. */
  name: string;
  kept: boolean;
  /** Of the file. */
  size: number;
  preallocate: number;
}

function setSize({ fd, name, size }: NewDisk): void {
  try {
    ftruncateSync(fd, size);
  } catch (cause) {
    throw new YavmError('YAVM_E_ROOT_DISK', `${name} cannot have ${size} bytes`, { cause });
  }
}

async function format({ fd, name, kept, size, preallocate }: NewDisk, signal?: AbortSignal): Promise<void> {
  if (preallocate > 0) {
    const length = String(Math.min(preallocate, size));
    const failed = await runOn(fd, 'fallocate', ['--length', length, FILE], signal);
    if (failed) throw failure('YAVM_E_ROOT_DISK', `${length} bytes cannot be reserved for ${name}`, failed);
  }
  const failed = await runOn(fd, 'mke2fs', mke2fsArguments(FILE, kept), signal);
  if (failed) throw failure('YAVM_E_MKE2FS', `mke2fs failed on ${name}`, failed);
}

/** What the C library says for ENOSPC and EDQUOT. */
const NO_ROOM = /No space left on device|Disk quota exceeded/;

function failure(code: ErrorCode, what: string, { message, cause }: Failure): YavmError {
  if (!NO_ROOM.test(message)) return new YavmError(code, `${what}: ${message}`, { cause });
  return new YavmError('YAVM_E_DISK_FULL', `${what}: ${message}`, { cause, hint: ROOM_HINT });
}

/** The disk as descriptor 3: an anonymous one has no other name. */
const FILE = '/proc/self/fd/3';
/** mke2fs takes 5 to 40 ms, fallocate less; a minute means that the disk hangs. */
const PROGRAM_DEADLINE = 60_000;

interface Failure {
  /** What it said, else how it ended. */
  message: string;
  cause?: Error;
}

/** Runs a program on a disk, {@link FILE}. @returns null when it was done. @throws when `signal` fires, and its code when it is missing */
async function runOn(
  fd: number,
  name: 'mke2fs' | 'fallocate',
  args: string[],
  signal?: AbortSignal,
): Promise<Failure | null> {
  const program = findProgram(name);
  const said = new TextTail(4 * KIB);
  const ended = (stop: AbortSignal) =>
    new Promise<number | null>((resolve, reject) => {
      const child = spawn(program, args, {
        stdio: ['ignore', 'ignore', 'pipe', fd],
        signal: stop,
        killSignal: 'SIGKILL',
      });
      child.stderr?.on('data', (chunk) => said.push(chunk));
      child.on('error', reject);
      child.on('close', resolve);
    });
  try {
    const code = await withDeadline(ended, PROGRAM_DEADLINE, name, { signal });
    return code === 0 ? null : { message: said.lines(5).join('; ') || `exit code ${code}` };
  } catch (error) {
    if (signal?.aborted) throw error;
    const cause = toError(error);
    return { message: cause.message, cause };
  }
}
