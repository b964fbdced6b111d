/** Cards whose driver is the kernel's own (DRM): AMD, Intel, and QEMU's virtio-gpu and bochs. */
import type { Native } from '../../native/face.ts';
import { fromNative } from '../errors.ts';
import { readTextFile } from '../lib/read-file.ts';
import { parseGroup } from '../process/users.ts';
import { AMD, type Card, virtioFolders } from './cards.ts';
import { type GpuContext, MAX_TEXT, namesIn } from './context.ts';
import { setNode } from './make-nodes.ts';

interface Driver {
  vendor: number;
  /** Any device of the vendor's, when absent. */
  device?: number;
  module: string;
}

/** Which module drives which card. */
const DRIVERS: readonly Driver[] = [
  { vendor: 0x1af4, device: 0x1050, module: 'virtio_gpu' },
  { vendor: 0x1234, device: 0x1111, module: 'bochs' },
  { vendor: 0x8086, module: 'i915' },
  { vendor: AMD, module: 'amdgpu' },
];

/** Who may open what: `/dev/dri/card0` draws and sets modes, `renderD128` only computes, and AMD's `/dev/kfd` with it. */
const KINDS = [
  { pattern: /^card\d{1,3}$/, group: 'video' },
  { pattern: /^renderD\d{1,3}$/, group: 'render' },
  { pattern: /^kfd$/, group: 'render' },
];

/** Module for a card; null: none that is known. */
export function drmModule({ vendor, device }: Card): string | null {
  const driver = DRIVERS.find((row) => row.vendor === vendor && (row.device ?? device) === device);
  return driver ? driver.module : null;
}

/** Of a virtio device sysfs has them one folder further down. */
export function drmNodes(native: Native, card: Card): string[] {
  return [card.folder, ...virtioFolders(native, card)]
    .flatMap((folder) => namesIn(native, `${folder}/drm`))
    .filter((name) => KINDS.some(({ pattern }) => pattern.test(name)))
    .map((name) => `dri/${name}`);
}

/**
 * Gives the nodes to those who may use them in the task. The group is the image's `video` or `render`, where it has members;
 * otherwise nobody could be meant, and anyone in the VM may: all of it is one task's. @throws {GuestError} gpu-failed
 */
export function openToTask({ native, rootFd, places }: GpuContext, nodes: string[]): void {
  const groups = parseGroup(readTextFile(native, rootFd, 'etc/group', MAX_TEXT) ?? '');
  for (const path of nodes) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const kind = KINDS.find(({ pattern }) => pattern.test(name));
    const group = groups.find((entry) => entry.name === kind?.group);
    const mode = group && group.members.length > 0 ? 0o660 : 0o666;
    try {
      setNode(native, places.dev, path, { mode, uid: 0, gid: group?.gid ?? 0 });
    } catch (error) {
      throw fromNative('gpu-failed', `cannot give /dev/${path} to the task`, error);
    }
  }
}
