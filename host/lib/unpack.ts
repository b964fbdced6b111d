/**
 * The parts of the single program that must be files: kernel, initramfs, addons. They lie in a folder of the user's cache
 * that is named after their contents. Each use looks whether they are still what was put there (size, times and inode
 * of each; its contents when those differ), and puts anew what is not. Everything is synchronous: an addon is wanted in the middle of a call.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { hasErrno, isDiskFull, YavmError } from './errors.ts';
import { withLockFile } from './lock-file.ts';

export interface PackedFile {
  name: string;
  /** Bytes, unpacked. */
  size: number;
  /** Of the unpacked bytes, hex. */
  sha256: string;
  /** Packed with zstd; else as it is. */
  zstd: boolean;
  /** A program; nothing else may be run. */
  executable?: true;
}

/** What is in the program; made by build/dist. */
export interface PackedIndex {
  /** ya-vm's own. */
  version: string;
  /** Of all files' names and contents: the folder's name. 32 hex digits. */
  id: string;
  files: PackedFile[];
}

export interface Packed {
  index: PackedIndex;
  /** The packed bytes of a file. */
  read(name: string): Uint8Array;
}

/** In the folder: the files' marks when they were last known to be right. Its time says when the folder was last used. */
const RECORD = 'verified.json';
/** Milliseconds after which the record's time is brought up to date, and those after which nobody uses a folder. */
const DAY = 24 * 3600 * 1000;
const UNUSED = 30 * DAY;
const ID = /^[0-9a-f]{32}$/;
/** Bytes hashed at a time. */
const PIECE = 1024 * 1024;

/**
 * The folder below `base` with all files of `packed`, each with the contents that the index states.
 * @throws {YavmError} YAVM_E_DIST_FULL, YAVM_E_DIST_FOLDER, YAVM_E_DIST_DAMAGED
 */
export function unpackedFolder(base: string, packed: Packed): string {
  const folder = join(base, packed.index.id);
  if (isCurrent(folder, packed.index)) return folder;
  onDisk(folder, () => {
    for (const each of [base, folder]) ownFolder(each);
  });
  // The lock only saves work: every file is put in its place whole.
  onDisk(folder, () => {
    if (isComplete(folder, packed.index)) return;
    withLockFile(join(base, `${packed.index.id}.lock`), () => bringUpToDate(base, folder, packed));
  });
  return folder;
}

function bringUpToDate(base: string, folder: string, packed: Packed): void {
  if (isCurrent(folder, packed.index)) return;
  const wrong = packed.index.files.filter((file) => !isIntact(join(folder, file.name), file));
  for (const file of wrong) unpackFile(folder, file, packed.read(file.name));
  writeRecord(folder, packed.index);
  if (wrong.length > 0) removeUnused(base, packed.index.id);
}

/** True when nothing must be written: the contents are right, though the record is not. A read-only folder may stay so. */
function isComplete(folder: string, index: PackedIndex): boolean {
  if (!index.files.every((file) => isIntact(join(folder, file.name), file))) return false;
  try {
    writeRecord(folder, index);
  } catch {
    // The next use reads all of it again; nothing else is lost.
  }
  return true;
}

// ---------------------------------------------------------------- looking

/** Whether everything is as the record says; a few calls of lstat. */
function isCurrent(folder: string, index: PackedIndex): boolean {
  try {
    if (!isOwn(fs.lstatSync(folder))) return false;
    const record = join(folder, RECORD);
    if (fs.readFileSync(record, 'utf8') !== recordOf(folder, index)) return false;
    touch(record);
    return true;
  } catch {
    return false;
  }
}

/** The record's text for the files as they are. The change time cannot be set by a program. */
function recordOf(folder: string, index: PackedIndex): string {
  const marks = index.files.map(({ name }) => {
    const { dev, ino, size, mtimeNs, ctimeNs } = fs.lstatSync(join(folder, name), { bigint: true });
    return [name, [dev, ino, size, mtimeNs, ctimeNs].join(' ')];
  });
  return `${JSON.stringify({ id: index.id, marks: Object.fromEntries(marks) })}\n`;
}

function isIntact(path: string, { size, sha256, executable }: PackedFile): boolean {
  let fd: number;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    const stat = fs.fstatSync(fd);
    if (executable && !(stat.mode & fs.constants.S_IXUSR)) return false;
    return stat.isFile() && stat.size === size && hashOf(fd) === sha256;
  } catch {
    return false;
  } finally {
    fs.closeSync(fd);
  }
}

function hashOf(fd: number): string {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(PIECE);
  for (let got = fs.readSync(fd, piece); got > 0; got = fs.readSync(fd, piece)) {
    hash.update(piece.subarray(0, got));
  }
  return hash.digest('hex');
}

// ---------------------------------------------------------------- writing

function unpackFile(folder: string, file: PackedFile, packed: Uint8Array): void {
  const bytes = contents(file, packed);
  const path = join(folder, file.name);
  // Who has tampered may have put a folder there.
  if (fs.lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) fs.rmSync(path, { recursive: true });
  // 0644: a QEMU that is nobody opens what it was given by /proc/self/fd. The folder lets nobody else in.
  writeWhole(path, bytes, file.executable ? 0o755 : 0o644);
}

/** @throws {YavmError} YAVM_E_DIST_DAMAGED when the program does not hold what its index says. */
function contents({ name, size, sha256, zstd }: PackedFile, packed: Uint8Array): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = zstd ? zstdDecompressSync(packed, { maxOutputLength: size }) : packed;
  } catch (cause) {
    throw damaged(name, cause);
  }
  if (createHash('sha256').update(bytes).digest('hex') !== sha256) throw damaged(name);
  return bytes;
}

function damaged(name: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_DIST_DAMAGED', `the program's ${name} is damaged`, {
    cause,
    hint: 'Install ya-vm again, and compare it with its SHA256SUMS.',
  });
}

/** Under another name first, and on the disk before it has its own: a crash leaves the old file, or the new one. */
function writeWhole(path: string, bytes: Uint8Array | string, mode: number): void {
  const temporary = `${path}.${process.pid}.new`;
  fs.rmSync(temporary, { force: true });
  try {
    fs.writeFileSync(temporary, bytes, { mode, flag: 'wx', flush: true });
    fs.chmodSync(temporary, mode);
    fs.renameSync(temporary, path);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
}

function writeRecord(folder: string, index: PackedIndex): void {
  writeWhole(join(folder, RECORD), recordOf(folder, index), 0o600);
}

function touch(record: string): void {
  const now = new Date();
  if (now.getTime() - fs.statSync(record).mtimeMs < DAY) return;
  try {
    fs.utimesSync(record, now, now);
  } catch {
    // Read-only: then nobody removes it either.
  }
}

/** What older versions left: a folder that nobody has used for 30 days. The others stay, a running activity may need them. */
function removeUnused(base: string, own: string): void {
  for (const name of fs.readdirSync(base)) {
    if (!ID.test(name) || name === own) continue;
    try {
      const used =
        fs.statSync(join(base, name, RECORD), { throwIfNoEntry: false }) ?? fs.statSync(join(base, name));
      if (Date.now() - used.mtimeMs > UNUSED) fs.rmSync(join(base, name), { recursive: true, force: true });
    } catch {
      // Another process removes it too.
    }
  }
}

// ---------------------------------------------------------------- folders

/** Makes the folder, and its parents; nobody else may enter it. @throws {YavmError} YAVM_E_DIST_FOLDER */
function ownFolder(path: string): void {
  makeFolder(path);
  const stat = fs.lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== process.getuid?.()) {
    throw new YavmError('YAVM_E_DIST_FOLDER', `${path}: not a folder of this user (uid ${stat.uid} has it)`, {
      hint: 'Remove it, or set XDG_CACHE_HOME to a folder of your own.',
    });
  }
  if (!isOwn(stat)) fs.chmodSync(path, 0o700);
}

/** Node's own `recursive` says ENOENT for a read-only disk, and never returns for a folder of /proc. */
function makeFolder(path: string): void {
  try {
    fs.mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    const parent = dirname(path);
    if (!hasErrno(error, 'ENOENT') || fs.existsSync(parent)) throw error;
    makeFolder(parent);
    makeFolder(path);
  }
}

function isOwn(stat: fs.Stats): boolean {
  return stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o077) === 0;
}

/** Gives errors of system calls their codes. */
function onDisk(folder: string, act: () => void): void {
  try {
    act();
  } catch (cause) {
    if (cause instanceof YavmError) throw cause;
    if (isDiskFull(cause)) {
      throw new YavmError('YAVM_E_DIST_FULL', `${folder}: no room to unpack ya-vm's kernel`, {
        cause,
        hint: 'It takes 60 MB; XDG_CACHE_HOME chooses another disk.',
      });
    }
    const why = hasErrno(cause, 'EROFS') ? 'the file system is read-only' : 'it cannot be written';
    throw new YavmError('YAVM_E_DIST_FOLDER', `${folder}: ya-vm's kernel cannot be unpacked: ${why}`, {
      cause,
      hint: 'Set XDG_CACHE_HOME to a folder that you may write.',
    });
  }
}
