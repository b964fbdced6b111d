/** Volumes: what is mounted into the task's root, at configure and later by request. One function a kind. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { checkAbsolutePath, makeDirectories, pathParts } from '../lib/beneath.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import type { MountSpec } from '../protocol/messages.ts';
import { type Disks, findDisks } from './disks.ts';
import { MODULE_SETS } from './module-sets.ts';
import { MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY } from './mount-flags.ts';
import { mountOn } from './mounts.ts';
import { type BootContext, copyAttributes, ext4Options, makePlace, mountAs, type TaskRoot } from './root.ts';

/** Type of a disk volume unless the request says otherwise: what the host makes. */
const DEFAULT_TYPE = 'ext4';
/** Any user may write, as in Docker's `--tmpfs`: images often run as a user of their own. */
const RAM_MODE = 0o1777;
/**
 * `msize`: the largest message that 9p over virtio carries, 125 pages. `cache=mmap`: nothing is cached, because the
 * host writes to the folder too, except what shared mappings need (SQLite and others use them).
 */
const OPTIONS_9P = 'trans=virtio,version=9p2000.L,msize=512000,cache=mmap';

type Kind = MountSpec['kind'];
type SpecOf<K extends Kind> = Extract<MountSpec, { kind: K }>;

interface Scene {
  context: BootContext;
  root: TaskRoot;
  disks: Disks;
}

const MOUNTERS: { [K in Kind]: (scene: Scene, spec: SpecOf<K>) => void } = {
  disk: mountDisk,
  ram: ({ context, root }, { path, size, mode = RAM_MODE, noExec, noSuid }) => {
    const flags = MS_NODEV | (noExec ? MS_NOEXEC : 0) | (noSuid ? MS_NOSUID : 0);
    const data = `size=${Math.floor(size)},mode=${mode.toString(8)}`;
    mountOn(context.native, root.fd, path, (target) =>
      context.native.mount('ram', target, 'tmpfs', flags, data),
    );
  },
  directory: makeVolumeDirectory,
  virtiofs: ({ context, root }, { tag, path, readOnly }) => {
    context.modules.loadFor('virtiofs');
    mountOn(context.native, root.fd, path, (target) =>
      context.native.mount(tag, target, 'virtiofs', flagsOf(readOnly), null),
    );
  },
  '9p': ({ context, root }, { tag, path, readOnly }) => {
    context.modules.loadFor('9p');
    mountOn(context.native, root.fd, path, (target) =>
      context.native.mount(tag, target, '9p', flagsOf(readOnly), OPTIONS_9P),
    );
  },
};

/**
 * Mounts volumes beneath the task's root, parents before what lies in them. Missing directories are made.
 * @throws {GuestError} bad-request, disk-missing, module-failed, mount-failed; volumes mounted before it stay
 */
export async function mountVolumes(context: BootContext, root: TaskRoot, specs: MountSpec[]): Promise<void> {
  const serials = specs.flatMap((spec) => (spec.kind === 'disk' ? [spec.serial] : []));
  if (serials.length > 0) context.modules.loadFor('disks');
  const disks = serials.length > 0 ? await findDisks(context.native, serials) : new Map<string, string>();
  mountVolumesWith(context, root, specs, disks);
}

/** {@link mountVolumes} with disks that have been found. */
export function mountVolumesWith(
  context: BootContext,
  root: TaskRoot,
  specs: MountSpec[],
  disks: Disks,
): void {
  for (const spec of parentsFirst(specs)) {
    checkAbsolutePath(spec.path);
    if (depth(spec.path) === 0) {
      throw new GuestError(
        'bad-request',
        "a volume cannot take the place of '/'; that is the upper layer's",
        {
          path: spec.path,
        },
      );
    }
    // The table's key decides the spec's type; TypeScript cannot follow that through a union.
    const mount = MOUNTERS[spec.kind] as (scene: Scene, spec: MountSpec) => void;
    mount({ context, root, disks }, spec);
  }
}

/** A stable order by depth, so that `/a/b` is not hidden by `/a`. */
export function parentsFirst(specs: MountSpec[]): MountSpec[] {
  return [...specs].sort((a, b) => depth(a.path) - depth(b.path));
}

/** Number of directories from the root, `..` taken back. */
function depth(path: string): number {
  return pathParts(path).reduce((levels, part) => (part === '..' ? Math.max(0, levels - 1) : levels + 1), 0);
}

/**
 * Mounted in the initramfs and bound into the root: whatever the task does to the mount that it sees, ours is there
 * at the end, to be made read-only and taken off in order.
 */
function mountDisk({ context, root, disks }: Scene, spec: SpecOf<'disk'>): void {
  const { native } = context;
  const type = spec.type ?? DEFAULT_TYPE;
  loadFileSystem(context, type);
  makePlace(native, root.places.volumes);
  const place = `${root.places.volumes}/${root.writable.length}`;
  makePlace(native, place);
  const options = spec.options ?? (type === 'ext4' ? ext4Options(spec.errors) : null);
  mountAs(`disk '${spec.serial}' as ${type}`, () =>
    native.mount(disks.get(spec.serial) as string, place, type, flagsOf(spec.readOnly), options),
  );
  root.writable.push(place);
  const fresh = !spec.readOnly && type === 'ext4' && emptyFresh(native, place);
  mountOn(native, root.fd, spec.path, (target) => {
    // As a volume of Docker's: whoever owned the image's directory can write to what now lies over it.
    if (fresh) copyAttributes(native, target, place);
    native.mount(place, target, null, MS_BIND, null);
  });
}

/**
 * Takes mke2fs's `lost+found` from a disk, for which programs that want an empty directory would stop (initdb); e2fsck
 * makes another if it needs one. @returns whether it was there: nobody has used the disk before
 */
function emptyFresh(native: Native, place: string): boolean {
  try {
    native.rmdir(`${place}/lost+found`);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTEMPTY')) return false;
    throw fromNative('mount-failed', `cannot use the disk at '${place}'`, error);
  }
}

/**
 * A plain directory of the root. The root's upper layer is on the instance's own disk already, so this has the same
 * life and the same quota as a directory beside it would, without a mount, and with the image's files at that path
 * in it, for which Docker makes a copy.
 */
function makeVolumeDirectory({ context, root }: Scene, { path, mode }: SpecOf<'directory'>): void {
  const { native } = context;
  try {
    native.close(makeDirectories(native, root.fd, path, 0o755));
    if (mode !== undefined) setMode(native, root.fd, path, mode);
  } catch (error) {
    throw fromNative('mount-failed', `cannot make the directory '${path}'`, error);
  }
}

function setMode(native: Native, rootFd: number, path: string, mode: number): void {
  const fd = native.openBeneath(rootFd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  try {
    native.chmodFd(fd, mode);
  } finally {
    native.close(fd);
  }
}

/** A type with a set of its own must load; any other may be built in under another name: then mount(2) decides. */
function loadFileSystem({ modules }: BootContext, type: string): void {
  if (type === 'ext4') modules.loadFor('ext4');
  else if (MODULE_SETS.layers.required.includes(type)) modules.load(type);
  else modules.loadOptional(type);
}

function flagsOf(readOnly: boolean | undefined): number {
  return readOnly ? MS_NODEV | MS_RDONLY : MS_NODEV;
}
