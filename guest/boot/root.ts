/** The task's root: layers beneath, a writable upper above, put in the place of `/`. */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { makeDirectory } from '../lib/beneath.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import type { DiskErrors, DiskRef, UpperSpec } from '../protocol/messages.ts';
import { type Disks, findDisks } from './disks.ts';
import type { ModuleLoader } from './modules.ts';
import { MS_BIND, MS_MOVE, MS_NODEV, MS_RDONLY } from './mount-flags.ts';
import { overlayOptions } from './overlay.ts';

/** What the steps of boot act through. */
export interface BootContext {
  native: Native;
  modules: ModuleLoader;
}

/** Where things lie in the initramfs. Short: each layer's path is part of the overlay's one page of options. */
export interface Places {
  layers: string;
  upper: string;
  /** Disks that volumes live on. */
  volumes: string;
  newRoot: string;
}

export const PLACES: Places = {
  layers: '/layers',
  upper: '/upper',
  volumes: '/volumes',
  newRoot: '/newroot',
};

export interface RootSpec {
  /** Topmost first. None: the upper alone. */
  layers: DiskRef[];
  upper: UpperSpec;
}

/** The root of the task, and what has to be made safe when the VM stops. */
export interface TaskRoot {
  /** Its directory. The agent reaches everything of the task through it, and never by a path of its own. */
  fd: number;
  /** Mount points of writable disks, in the initramfs, in the order of mounting. */
  writable: string[];
  places: Places;
}

/**
 * Options of every ext4 disk. `noinit_itable`: the kernel would fill inode tables with zeros in the background, and the
 * host's sparse file with them. `discard`: what the task deletes goes back to the host. `errors`: unless asked otherwise,
 * a failing disk is read-only from then on, it neither spreads damage nor takes the VM down.
 */
export function ext4Options(errors: DiskErrors = 'remount-ro'): string {
  return `noinit_itable,discard,errors=${errors}`;
}

/** Directories that programs expect, and that an image made from scratch may lack. Existing ones stay as they are. */
const ROOT_DIRECTORIES: [path: string, mode: number][] = [
  ['dev', 0o755],
  ['proc', 0o555],
  ['sys', 0o555],
  ['etc', 0o755],
  ['run', 0o755],
  ['tmp', 0o1777],
  ['var', 0o755],
  ['var/tmp', 0o1777],
];

/**
 * Mounts layers and upper and joins them. Device nodes of the image are dead (nodev), as in Docker: /dev has all.
 * @throws {GuestError} disk-missing, mount-failed, module-failed
 */
export async function buildRoot(context: BootContext, spec: RootSpec): Promise<TaskRoot> {
  const serials = spec.layers.map(({ serial }) => serial);
  if ('serial' in spec.upper) serials.push(spec.upper.serial);
  if (serials.length > 0) context.modules.loadFor('disks');
  const disks = serials.length > 0 ? await findDisks(context.native, serials) : new Map<string, string>();
  return buildRootAt(context, spec, disks, PLACES);
}

/** {@link buildRoot} with disks that have been found, in places of one's own. */
export function buildRootAt(context: BootContext, spec: RootSpec, disks: Disks, places: Places): TaskRoot {
  const { native } = context;
  const root: TaskRoot = { fd: -1, writable: [], places };
  makePlace(native, places.newRoot);
  const layers = mountLayers(context, spec.layers, disks, places);
  mountUpper(context, spec.upper, disks, root);
  const upper = `${places.upper}/upper`;
  const work = `${places.upper}/work`;
  const fresh = makePlace(native, upper);
  if (layers.length > 0) {
    // The overlay's root shows the upper directory's own mode and owner: they have to be the image's.
    if (fresh) copyAttributes(native, layers[0] as string, upper);
    makePlace(native, work);
    mountAs('the overlay of the layers', () =>
      native.mount('overlay', places.newRoot, 'overlay', MS_NODEV, overlayOptions(layers, upper, work)),
    );
  } else {
    mountAs('the upper layer', () => native.mount(upper, places.newRoot, null, MS_BIND, null));
  }
  root.fd = native.open(places.newRoot, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  makeRootDirectories(native, root.fd);
  return root;
}

/**
 * Puts the root in the place of `/`, with everything mounted in it.
 *
 * The agent itself stays in the initramfs beneath. Commands are started with `root.fd` as their root, which is then
 * the root of the mount namespace too: for them this is no chroot (the kernel lets them make user namespaces, and
 * `pivot_root` works). The agent keeps its own /proc, /sys, /dev, /lib/modules and /init, out of the task's reach.
 * @throws {GuestError} mount-failed
 */
export function enterRoot(native: Native, root: TaskRoot): void {
  enterRootAt(native, root, '/');
}

/** {@link enterRoot} over another directory. */
export function enterRootAt(native: Native, root: TaskRoot, target: string): void {
  mountAs('the root in its place', () => native.mount(root.places.newRoot, target, null, MS_MOVE, null));
}

function mountLayers(context: BootContext, layers: DiskRef[], disks: Disks, places: Places): string[] {
  if (layers.length === 0) return [];
  const { native, modules } = context;
  modules.loadFor('layers');
  makePlace(native, places.layers);
  return layers.map(({ serial }, index) => {
    const target = `${places.layers}/${index}`;
    makePlace(native, target);
    mountAs(`layer ${index} (disk '${serial}') as squashfs`, () =>
      native.mount(disks.get(serial) as string, target, 'squashfs', MS_RDONLY | MS_NODEV, null),
    );
    return target;
  });
}

/** The file system that takes what the task writes. */
function mountUpper(context: BootContext, upper: UpperSpec, disks: Disks, root: TaskRoot): void {
  const { native, modules } = context;
  const target = root.places.upper;
  makePlace(native, target);
  if ('serial' in upper) {
    modules.loadFor('ext4');
    mountAs(`the upper disk '${upper.serial}' as ext4`, () =>
      native.mount(disks.get(upper.serial) as string, target, 'ext4', MS_NODEV, ext4Options(upper.errors)),
    );
    root.writable.push(target);
  } else {
    mountAs(`an upper layer of ${upper.ram} bytes of memory`, () =>
      native.mount('upper', target, 'tmpfs', MS_NODEV, `size=${Math.floor(upper.ram)},mode=0755`),
    );
  }
}

/** Gives `to` the permissions and owner of `from`. */
export function copyAttributes(native: Native, from: string, to: string): void {
  const { mode, uid, gid } = native.stat(from);
  const fd = native.open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  try {
    native.chownFd(fd, uid, gid);
    native.chmodFd(fd, mode & 0o7777);
  } finally {
    native.close(fd);
  }
}

function makeRootDirectories(native: Native, rootFd: number): void {
  for (const [path, mode] of ROOT_DIRECTORIES) {
    const slash = path.lastIndexOf('/');
    try {
      if (slash < 0) makeWithMode(native, rootFd, path, mode);
      else makeInside(native, rootFd, path.slice(0, slash), path.slice(slash + 1), mode);
    } catch (error) {
      throw fromNative('mount-failed', `cannot make /${path} in the root`, error);
    }
  }
}

/** The parent may be a link of the image: it is opened beneath the root. A dangling one is the image's own affair. */
function makeInside(native: Native, rootFd: number, parent: string, name: string, mode: number): void {
  let fd: number;
  try {
    fd = native.openBeneath(rootFd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return;
    throw error;
  }
  try {
    makeWithMode(native, fd, name, mode);
  } finally {
    native.close(fd);
  }
}

/** mkdirat(2) and, where the umask or the call itself drops bits, chmod. What exists keeps its mode. */
function makeWithMode(native: Native, parentFd: number, name: string, mode: number): void {
  if (!makeDirectory(native, parentFd, name, mode) || (mode & 0o1022) === 0) return;
  const fd = native.openBeneath(parentFd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  try {
    native.chmodFd(fd, mode);
  } finally {
    native.close(fd);
  }
}

/** A directory of the initramfs (or of a fresh file system); false when it was there. */
export function makePlace(native: Native, path: string): boolean {
  try {
    native.mkdir(path, 0o755);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw fromNative('mount-failed', `cannot make '${path}'`, error);
  }
}

/** Runs a mount; a failure says what could not be mounted. */
export function mountAs(what: string, mount: () => void): void {
  try {
    mount();
  } catch (error) {
    throw fromNative('mount-failed', `cannot mount ${what}`, error);
  }
}
