/** manifest.json: what a build put together, so that a bug report, a template or a mirror can name it exactly. No times in it: the same inputs make the same bytes. */
import { createHash } from 'node:crypto';
import type { Entry } from './cpio.ts';
import { ArchiveError } from './errors.ts';
import type { SquashfsCompression } from './kconfig.ts';
import type { Stage } from './modules/table.ts';

/** Raised when a field changes its meaning or goes away. */
export const MANIFEST_FORMAT = 1;

export interface FileDigest {
  /** Bytes. */
  size: number;
  sha256: string;
}

export interface ManifestModule extends FileDigest {
  name: string;
  /** In the kernel package's modules folder. */
  path: string;
  stage: Stage;
  reason: string;
  /** The module that brought it along; null: asked for by itself. Absent in manifests before 0.2. */
  via?: string | null;
  dependencies: string[];
}

export interface ManifestEntry {
  path: string;
  type: Entry['type'];
  /** Permission bits, octal (`0755`); absent for links. */
  mode?: string;
  size?: number;
  sha256?: string;
  target?: string;
  /** `major:minor`. */
  device?: string;
}

export interface Manifest {
  format: typeof MANIFEST_FORMAT;
  /** Version of ya-vm whose builder made it, and of the agent inside (null: a foreign /init). */
  builder: string;
  agent: string | null;
  kernel: {
    release: string;
    /** First line of the kernel's banner: builder and date. */
    version: string;
    /** Debian package; null for plain files. */
    package: { name: string; version: string; sha256: string } | null;
    /** How the kernel was packed (`lz4`), null when it was a vmlinux. */
    compression: string | null;
    /** Physical address of the PVH entry, hexadecimal. */
    pvhEntry: string;
    /** Compressions of squashfs images that it mounts; null when its configuration is not known. */
    squashfs: SquashfsCompression[] | null;
  };
  vmlinux: FileDigest;
  /** `unpacked` is the cpio's size. */
  initramfs: FileDigest & { unpacked: number };
  /** Bytes; `base` is the same initramfs packed without its modules, `modules` is the sum of the .ko files. */
  sizes: { init: number; base: number; modules: number };
  /** In load order. */
  modules: ManifestModule[];
  /** The preset that it was made from; null: what the agent needs. Absent in manifests before 0.2. */
  preset?: string | null;
  /** Asked for and built into the kernel. */
  builtin: string[];
  /** Optional, and not in this kernel. */
  absent: string[];
  files: ManifestEntry[];
}

export function digest(bytes: Uint8Array): FileDigest {
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** One entry as the manifest and `inspect` list it. */
export function describeEntry(entry: Entry): ManifestEntry {
  const { type, path } = entry;
  switch (entry.type) {
    case 'symlink':
      return { path, type, target: entry.target };
    case 'file':
      return { path, type, mode: octal(entry.mode), ...digest(entry.data) };
    case 'directory':
      return { path, type, mode: octal(entry.mode) };
    default:
      return { path, type, mode: octal(entry.mode), device: `${entry.major}:${entry.minor}` };
  }
}

/** Checks what readers rely on: format, release, sums and compressions. @throws {ArchiveError} not JSON, or of another format. */
export function parseManifest(text: string): Manifest {
  let value: Partial<Manifest> | null;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ArchiveError('the manifest is not JSON', { cause });
  }
  if (value?.format !== MANIFEST_FORMAT)
    throw new ArchiveError(`the manifest has format ${value?.format}, not ${MANIFEST_FORMAT}`, {
      hint: 'Build it again with this version of ya-vm.',
    });
  const { kernel, vmlinux, initramfs } = value;
  const squashfs: unknown = kernel?.squashfs;
  const known =
    squashfs === null || (Array.isArray(squashfs) && squashfs.every((each) => typeof each === 'string'));
  if (typeof kernel?.release !== 'string' || !known || !isDigest(vmlinux) || !isDigest(initramfs))
    throw new ArchiveError('the manifest does not describe a kernel and an initramfs');
  return value as Manifest;
}

function isDigest(value: FileDigest | undefined): boolean {
  return typeof value?.size === 'number' && typeof value.sha256 === 'string';
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
