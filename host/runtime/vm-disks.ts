/** The files behind a VM's disks, opened: the root disk first, then the layers, then the volumes. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { YavmError } from '../lib/errors.ts';
import { checkLayerSignature, trustedKey } from '../lib/signature.ts';
import type { DiskArguments } from './qemu-arguments.ts';
import { type DiskRequest, makeDisk } from './root-disk.ts';
import type { VmSpec } from './types.ts';
import { DRIVER_SERIAL, diskSerial, layerSerial, ROOT_SERIAL } from './vm-plan.ts';

/**
 * Disks are made side by side: mke2fs mostly waits.
 * @param kernelKey $YA_VM_KERNEL_KEY: the driver layer brings kernel code, and is to be signed by it.
 * @throws {YavmError} YAVM_E_IMAGE for a layer that cannot be read; YAVM_E_KERNEL_SIGNATURE; see makeDisk. Nothing stays open then.
 */
export async function openDisks(
  { layers, root, rootDisk, disks = [], diskFolder: folder, driverLayer }: DisksSpec,
  signal?: AbortSignal,
  kernelKey?: string,
): Promise<DiskArguments[]> {
  const opening: Promise<DiskArguments>[] = [];
  if ('disk' in root) {
    const request = { usable: root.disk, keep: rootDisk, preallocate: root.preallocate, folder };
    opening.push(writableDisk(ROOT_SERIAL, request, signal));
  }
  for (const [index, path] of layers.entries()) opening.push(layerDisk(layerSerial(index), path));
  for (const [index, { size, preallocate }] of disks.entries()) {
    opening.push(writableDisk(diskSerial(index), { usable: size, preallocate, folder }, signal));
  }
  if (driverLayer !== undefined) opening.push(driverDisk(driverLayer, kernelKey));
  const opened = await Promise.allSettled(opening);
  const failed = opened.find((result) => result.status === 'rejected');
  if (!failed) return await Promise.all(opening);
  for (const result of opened) if (result.status === 'fulfilled') closeSync(result.value.fd);
  throw failed.reason;
}

type DisksSpec = Pick<VmSpec, 'layers' | 'root' | 'rootDisk' | 'disks' | 'diskFolder' | 'driverLayer'>;

async function writableDisk(
  serial: string,
  request: DiskRequest,
  signal?: AbortSignal,
): Promise<DiskArguments> {
  const { fd, kept } = await makeDisk(request, signal);
  return { serial, fd, readOnly: false, durable: kept, reserved: (request.preallocate ?? 0) > 0 };
}

async function layerDisk(serial: string, path: string): Promise<DiskArguments> {
  return { serial, fd: openLayer(path), readOnly: true, durable: false, reserved: false };
}

/** The file that was opened is the one that is compared. */
async function driverDisk(path: string, kernelKey?: string): Promise<DiskArguments> {
  const disk = await layerDisk(DRIVER_SERIAL, path);
  if (!kernelKey) return disk;
  try {
    await checkLayerSignature(path, trustedKey(kernelKey), disk.fd);
    return disk;
  } catch (error) {
    closeSync(disk.fd);
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
