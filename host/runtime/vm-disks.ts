/** The files behind a VM's disks, opened: the root disk first, then the layers. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { YavmError } from '../lib/errors.ts';
import type { DiskArguments } from './qemu-arguments.ts';
import { diskFolder, makeRootDisk } from './root-disk.ts';
import type { VmSpec } from './types.ts';
import { layerSerial, ROOT_SERIAL } from './vm-plan.ts';

/** @throws {YavmError} YAVM_E_IMAGE for a layer that cannot be read; see makeRootDisk. Nothing stays open then. */
export async function openDisks(
  { layers, root, rootDisk, ...spec }: Pick<VmSpec, 'layers' | 'root' | 'rootDisk' | 'diskFolder'>,
  signal?: AbortSignal,
): Promise<DiskArguments[]> {
  const disks: DiskArguments[] = [];
  try {
    if ('disk' in root) {
      const { fd, kept } = await makeRootDisk(root.disk, rootDisk, signal, spec.diskFolder ?? diskFolder());
      disks.push({ serial: ROOT_SERIAL, fd, readOnly: false, durable: kept });
    }
    for (const [index, path] of layers.entries()) {
      disks.push({ serial: layerSerial(index), fd: openLayer(path), readOnly: true, durable: false });
    }
    return disks;
  } catch (error) {
    for (const { fd } of disks) closeSync(fd);
    throw error;
  }
}

function openLayer(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new YavmError('YAVM_E_IMAGE', `${path}: the image cannot be read`, { cause });
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new YavmError('YAVM_E_IMAGE', `${path}: not a regular file`);
}
