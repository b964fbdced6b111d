/**
 * The volumes of an image and those that a requestor asks for, as parts of a VM: one disk for the root and all that lives
 * on it, and a disk for each `storage` volume, whose size is taken off the agreement's storage first. Pure. Spec:
 * runtime-vm.md 3.2.
 */
import type { DiskErrors } from '../../guest/protocol/messages.ts';
import { YavmError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';
import { MAX_DISK, MIN_DISK } from './disk-size.ts';
import type { VmSpec, VolumeDisk } from './types.ts';

/** What a path is asked to be. Sizes in bytes. */
export type VolumeRequest =
  | { kind: 'host' }
  | { kind: 'ram'; size: number }
  | {
      kind: 'storage';
      size: number;
      /** What was meant may have been as little as this: it came as a rounded number. Default: the size. */
      least?: number;
      preallocate?: number;
      errors?: string;
    };

export interface VolumePlan {
  /** Paths of what is a directory: of the root's disk, or of the host. */
  directories: string[];
  /** Those in memory. */
  mounts: { kind: 'ram'; size: number; path: string }[];
  /** Those on disks of their own. */
  disks: VolumeDisk[];
  root: VmSpec['root'];
}

/** PATH_MAX without its NUL. */
const MAX_PATH = 4095;
/** Disks and memory come in whole pages, a disk in at least MIN_DISK. */
const PAGE = 4096;
/** The spec's: what ext4 can do with an error. */
const DISK_ERRORS: readonly DiskErrors[] = ['continue', 'remount-ro', 'panic'];

/**
 * `asked` counts where an image names the same path. At `/` it says what takes the root's changes; else that is the disk
 * with what the others leave of `storage`.
 * @throws {YavmError} YAVM_E_VOLUME, YAVM_E_STORAGE_OVERCOMMIT
 */
export function planVolumes(
  imageVolumes: readonly string[],
  asked: Iterable<readonly [path: string, VolumeRequest]>,
  storage: number,
): VolumePlan {
  const all = new Map<string, VolumeRequest>(
    imageVolumes.map((path) => [volumePath(path), { kind: 'host' }]),
  );
  for (const [path, request] of asked) all.set(volumePath(path), request);
  const plan: VolumePlan = { directories: [], mounts: [], disks: [], root: { disk: 0 } };
  const stored: StoredVolume[] = [];
  for (const [path, request] of all) {
    if (request.kind === 'storage') stored.push(storedVolume(path, request));
    else if (request.kind === 'ram') {
      const size = wholePages(path, request.size);
      if (path === '/') plan.root = { ram: size };
      else plan.mounts.push({ kind: 'ram', size, path });
    } else if (path === '/') throw volumeError("'/' cannot be a directory of the host");
    else plan.directories.push(path);
  }
  const rest = divide(stored, storage, 'disk' in plan.root && !all.has('/'));
  if ('disk' in plan.root) plan.root = { disk: rest };
  for (const { least, path, size, ...options } of stored) {
    if (path === '/') plan.root = { disk: size, ...options };
    else plan.disks.push({ path, size, ...options });
  }
  return plan;
}

/** A path in the VM: absolute, without `.` and doubled slashes. `..` is refused: where it leads depends on links. */
export function volumePath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path === '' || (!path.startsWith('/') && parts.length > 0) || path.includes('\0')) {
    throw volumeError(`volume ${JSON.stringify(path.slice(0, 128))}: not an absolute path`);
  }
  if (parts.includes('..')) throw volumeError(`volume '${path}': '..' in its path`);
  if (Buffer.byteLength(path) > MAX_PATH)
    throw volumeError(`a volume's path is longer than ${MAX_PATH} bytes`);
  return `/${parts.join('/')}`;
}

type StoredVolume = VolumeDisk & { least: number };

function storedVolume(path: string, request: Extract<VolumeRequest, { kind: 'storage' }>): StoredVolume {
  const whole = (bytes: number) => Math.max(MIN_DISK, wholePages(path, bytes));
  const { least = request.size, preallocate, errors } = request;
  const size = whole(request.size);
  const volume: StoredVolume = { path, size, least: Math.min(size, whole(least)) };
  // More than the volume has is reserved for nobody.
  if (preallocate) volume.preallocate = Math.min(preallocate, size);
  if (errors !== undefined) volume.errors = diskErrors(path, errors);
  return volume;
}

function diskErrors(path: string, word: string): DiskErrors {
  const found = DISK_ERRORS.find((each) => each === word);
  if (found !== undefined) return found;
  const words = DISK_ERRORS.join(', ');
  throw volumeError(`volume '${path}': ${JSON.stringify(word.slice(0, 40))} is none of ${words}`);
}

function wholePages(path: string, size: number): number {
  const bytes = Math.ceil(size / PAGE) * PAGE;
  if (bytes >= PAGE && bytes <= MAX_DISK) return bytes;
  throw volumeError(`volume '${path}': ${size} bytes are outside 1…${MAX_DISK}`);
}

/**
 * Gives each volume its size. Where rounding has made them too large together, they give up to what they are rounded from.
 * @returns what is left of `storage`
 */
function divide(volumes: StoredVolume[], storage: number, needsRoot: boolean): number {
  const reserve = needsRoot ? MIN_DISK : 0;
  const sum = (of: (volume: StoredVolume) => number) =>
    volumes.reduce((total, volume) => total + of(volume), 0);
  let over = sum(({ size }) => size) + reserve - storage;
  if (over > sum(({ size, least }) => size - least) && volumes.length > 0) {
    throw overcommitted(volumes, storage, needsRoot);
  }
  for (const volume of volumes) {
    if (over <= 0) break;
    const given = Math.min(volume.size - volume.least, Math.ceil(over / PAGE) * PAGE);
    volume.size -= given;
    if (volume.preallocate) volume.preallocate = Math.min(volume.preallocate, volume.size);
    over -= given;
  }
  return storage - sum(({ size }) => size);
}

/** Volumes that an error lists. */
const LISTED = 8;

function overcommitted(volumes: readonly StoredVolume[], storage: number, needsRoot: boolean): YavmError {
  const list = volumes.slice(0, LISTED).map(({ path, size }) => `${path} ${formatSize(size)}`);
  if (volumes.length > LISTED) list.push('…');
  const asked = volumes.reduce((sum, { size }) => sum + size, 0);
  const root = needsRoot ? `, and the root's disk needs ${formatSize(MIN_DISK)}` : '';
  return new YavmError(
    'YAVM_E_STORAGE_OVERCOMMIT',
    `the storage volumes ask for ${formatSize(asked)} (${list.join(', ')}) of the agreement's ${formatSize(storage)}${root}: ${asked} of ${storage} bytes`,
    { hint: 'Ask for smaller volumes, or for an agreement with more storage.' },
  );
}

function volumeError(message: string): YavmError {
  return new YavmError('YAVM_E_VOLUME', message);
}
