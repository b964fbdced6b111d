/**
 * Whether a kernel set is what its build wrote, before it boots. Every byte is compared when it is made. From then on
 * `checked.json` beside its files tells which files those were; only when one of them is another (size, inode, times), all are hashed again.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

interface SetFiles {
  kernel: string;
  initramfs: string;
  manifest: string;
}

interface Stamp {
  /** SHA-256 of manifest.json when the set was made: what says how all others must be. */
  manifest: string;
  /** What stat(2) says of kernel, initramfs and manifest. */
  files: string[];
}

const NAME = 'checked.json';
const CHUNK = 1024 * 1024;
/** Bytes. */
const MAX_STAMP = 4096;
const MAX_MANIFEST = 16 * 1024 * 1024;

/**
 * False: a file is missing, or not the one that was built.
 * @param folder Where it is kept that they were compared; null: nowhere, so that all are read. Whoever may write there can
 * deceive this: against that there are signatures.
 */
export function isSetWhole(folder: string | null, files: SetFiles): boolean {
  try {
    if (folder === null) return matchesManifest(files);
    const stamp = readStamp(folder);
    const now = identities(files);
    if (stamp && sameFiles(stamp.files, now)) return true;
    const manifest = hashOf(files.manifest);
    if (stamp && stamp.manifest !== manifest) return false;
    if (!matchesManifest(files)) return false;
    // Written while it was read: the next look decides.
    if (sameFiles(now, identities(files))) writeStamp(folder, { manifest, files: now });
    return true;
  } catch {
    // Why does not matter: it is built anew.
    return false;
  }
}

function matchesManifest(files: SetFiles): boolean {
  if (statSync(files.manifest).size > MAX_MANIFEST) return false;
  const { vmlinux, initramfs } = JSON.parse(readFileSync(files.manifest, 'utf8')) as Record<
    string,
    { size?: unknown; sha256?: unknown } | undefined
  >;
  return [
    { path: files.kernel, expected: vmlinux },
    { path: files.initramfs, expected: initramfs },
  ].every(({ path, expected }) => statSync(path).size === expected?.size && hashOf(path) === expected.sha256);
}

/** A change of the content, or another file of that name, changes one of these; only root can turn back ctime. */
function identities({ kernel, initramfs, manifest }: SetFiles): string[] {
  return [kernel, initramfs, manifest].map((path) => {
    const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(' ');
  });
}

function sameFiles(before: readonly string[], now: readonly string[]): boolean {
  return before.length === now.length && now.every((each, at) => each === before[at]);
}

function readStamp(folder: string): Stamp | null {
  const path = join(folder, NAME);
  try {
    if (statSync(path).size > MAX_STAMP) return null;
    const value = JSON.parse(readFileSync(path, 'utf8')) as Partial<Stamp> | null;
    return typeof value?.manifest === 'string' && Array.isArray(value.files) ? (value as Stamp) : null;
  } catch {
    return null;
  }
}

/** What cannot be kept is found out again. */
function writeStamp(folder: string, stamp: Stamp): void {
  const temporary = join(folder, `.${NAME}.${process.pid}`);
  try {
    writeFileSync(temporary, JSON.stringify(stamp));
    renameSync(temporary, join(folder, NAME));
  } catch {
    rmSync(temporary, { force: true });
  }
}

function hashOf(path: string): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  try {
    const chunk = Buffer.allocUnsafe(CHUNK);
    for (let count = readSync(fd, chunk); count > 0; count = readSync(fd, chunk))
      hash.update(chunk.subarray(0, count));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}
