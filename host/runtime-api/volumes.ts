/** What `--volume-override` asks for, with the image's own volumes, as mounts of a VM. Pure. Spec: runtime-vm.md 3.2. */
import type { MountSpec } from '../../guest/protocol/messages.ts';
import { YavmError } from '../lib/errors.ts';

/** One entry of the override. Sizes in bytes. */
export type VolumeSpec = { kind: 'host' } | { kind: 'ram'; size: number } | { kind: 'storage'; size: number };

/** A volume that the supervisor is told of: a folder beneath the work folder, and its path in the VM. */
export interface HostVolume {
  name: string;
  path: string;
}

export interface VolumePlan {
  /** Shared with the VM. */
  host: HostVolume[];
  mounts: MountSpec[];
  /** What `/` was asked to be, if it was. */
  root: Exclude<VolumeSpec, { kind: 'host' }> | null;
}

const MAX_VOLUMES = 256;
/** PATH_MAX without its NUL. */
const MAX_PATH = 4095;
/** Sizes come rounded to one decimal of a decimal unit (1 MiB as 1048.6 KB); a disk has whole pages. */
const PAGE = 4096;

/** Powers of 1000 and 1024 by the letter before `b` or `ib`. */
const UNIT_LETTERS = ['', 'k', 'm', 'g', 't', 'p'];

/** @throws {YavmError} YAVM_E_VOLUME */
export function parseOverride(text: string | undefined): Map<string, VolumeSpec> {
  const volumes = new Map<string, VolumeSpec>();
  if (text === undefined || text.trim() === '') return volumes;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw volumeError('the volumes are not JSON', cause);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw volumeError('the volumes are not a JSON object');
  }
  const entries = Object.entries(json);
  if (entries.length > MAX_VOLUMES) throw volumeError(`${entries.length} volumes, ${MAX_VOLUMES} at most`);
  for (const [path, value] of entries) {
    const plain = plainPath(path);
    const volume = parseVolume(plain, value);
    if (volume.kind === 'host' && plain === '/') throw volumeError("'/' cannot be a folder of the host");
    volumes.set(plain, volume);
  }
  return volumes;
}

function parseVolume(path: string, value: unknown): VolumeSpec {
  const kinds = typeof value === 'object' && value !== null ? Object.keys(value) : [];
  const [kind] = kinds;
  const spec = kind === undefined ? undefined : (value as Record<string, unknown>)[kind];
  if (kinds.length === 1 && typeof spec === 'object' && spec !== null) {
    if (kind === 'host') return { kind };
    if (kind === 'ram' || kind === 'storage') {
      return { kind, size: parseVolumeSize((spec as Record<string, unknown>).size) };
    }
  }
  throw volumeError(`volume '${path}': neither host, nor ram, nor storage`);
}

/**
 * A whole number of bytes, or `10.7 GB`: here k and kb count in 1000, ki and kib in 1024, as the supervisor means it.
 * Rounded up to whole pages. @throws {YavmError} YAVM_E_VOLUME
 */
export function parseVolumeSize(value: unknown): number {
  const text = typeof value === 'number' ? String(value) : value;
  const match = typeof text === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?\s*$/i.exec(text) : null;
  const [, digits, letter = '', binary] = match ?? [];
  const power = UNIT_LETTERS.indexOf(letter.toLowerCase());
  const bytes = Number(digits) * (binary ? 1024 : 1000) ** power;
  const size = Math.ceil(bytes / PAGE) * PAGE;
  if (digits === undefined || (binary && letter === '') || size < 1 || !Number.isSafeInteger(size)) {
    throw volumeError(`${JSON.stringify(value) ?? value} is no size of a volume`);
  }
  return size;
}

/** Absolute, without `.` and doubled slashes. `..` is refused: where it leads depends on links. */
function plainPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path === '' || (!path.startsWith('/') && parts.length > 0) || path.includes('\0')) {
    throw volumeError(`volume ${JSON.stringify(path.slice(0, 128))}: not an absolute path`);
  }
  if (parts.includes('..')) throw volumeError(`volume '${path}': '..' in its path`);
  if (Buffer.byteLength(path) > MAX_PATH)
    throw volumeError(`a volume's path is longer than ${MAX_PATH} bytes`);
  return `/${parts.join('/')}`;
}

/**
 * Image volumes and the override together: what the override says of a path counts. `name` makes a host volume's name.
 * A storage volume is a directory of the VM's disk: in its quota, without one of its own.
 */
export function planVolumes(
  imageVolumes: readonly string[],
  override: ReadonlyMap<string, VolumeSpec>,
  name: () => string,
): VolumePlan {
  const plan: VolumePlan = { host: [], mounts: [], root: null };
  const all = new Map<string, VolumeSpec>(imageVolumes.map((path) => [path, { kind: 'host' }]));
  for (const [path, volume] of override) all.set(path, volume);
  for (const [path, volume] of all) {
    if (volume.kind === 'host') {
      plan.host.push({ name: name(), path });
    } else if (path === '/') {
      plan.root = volume;
    } else if (volume.kind === 'ram') {
      plan.mounts.push({ kind: 'ram', path, size: volume.size });
    } else {
      plan.mounts.push({ kind: 'directory', path });
    }
  }
  return plan;
}

function volumeError(message: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_VOLUME', message, { cause });
}
