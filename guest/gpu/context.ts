/** What setting up graphics cards acts through: the kernel's folders are named here, so that tests have trees of their own. */
import type { DirectoryEntry, Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';

/** Folders of the agent's own, in the initramfs. */
export interface GpuPlaces {
  sysfs: string;
  proc: string;
  dev: string;
  /** Where the driver layer is mounted. */
  layer: string;
}

export const GPU_PLACES: GpuPlaces = { sysfs: '/sys', proc: '/proc', dev: '/dev', layer: '/driver' };

/** The part of the module loader that is needed here. */
export interface GpuModules {
  /** @throws {GuestError} module-failed */
  load(name: string): void;
  /** Parameters of modules that are not loaded yet; of two with one name the last holds. */
  configure(spec: { options: Record<string, string> }): void;
  /** Loads what says that it drives a device; each that does not load is reported. */
  loadAlias(alias: string, onFailure: (error: unknown) => void): string[];
  /** Modules also come from `lib/modules/<release>` beneath this directory, which stays open. */
  addSource(rootFd: number): void;
}

export interface GpuContext {
  native: Native;
  modules: GpuModules;
  /** The task's root. */
  rootFd: number;
  places: GpuPlaces;
  /** Says what is not as it should be, and no reason to stop. */
  warn(text: string): void;
}

/** Bound on a text of the kernel or of the layer, bytes: /proc/devices has 1 KB, the layer's manifest 100 KB. */
export const MAX_TEXT = 1024 * 1024;

/** A small text; null when it is not there. @throws NativeError */
export function readIfThere(native: Native, path: string): string | null {
  try {
    return native.readText(-1, path, MAX_TEXT);
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return null;
    throw error;
  }
}

/** Names in a folder, sorted as text; none when it is not there. @throws NativeError */
export function namesIn(native: Native, path: string): string[] {
  return entriesIn(native, path).map(({ name }) => name);
}

/** {@link namesIn} with types. */
export function entriesIn(native: Native, path: string): DirectoryEntry[] {
  let fd: number;
  try {
    fd = native.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return [];
    throw error;
  }
  try {
    return native
      .readDirectory(fd)
      .filter(({ name }) => name !== '.' && name !== '..')
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    native.close(fd);
  }
}
