/** The files behind a VM's disks, opened: the root disk first, then the layers, then the volumes. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { YavmError } from '../lib/errors.ts';
import { checkLayerSignature, trustedKey } from '../lib/signature.ts';
import type { DiskArguments } from './qemu-arguments.ts';
import { type DiskRequest, startDisk } from './root-disk.ts';
import type { VmSpec } from './types.ts';
import { DRIVER_SERIAL, diskSerial, layerSerial, ROOT_SERIAL } from './vm-plan.ts';

/** Disks that are open, and as large as they are to be. */
export interface StartedDisks {
  disks: DiskArguments[];
  /** Resolves when each holds its file system; rejects as makeDisk, when nothing works at them any more. */
  made: Promise<void>;
}

/** {@link startDisks}, and waits until they are made. */
export async function openDisks(
  spec: DisksSpec,
  signal?: AbortSignal,
  key?: string,
): Promise<DiskArguments[]> {
  const { disks, made } = await startDisks(spec, signal, key);
  try {
    await made;
    return disks;
  } catch (error) {
    for (const { fd } of disks) closeSync(fd);
    throw error;
  }
}

/**
 * Disks are made side by side, and beside the start of QEMU: mke2fs mostly waits.
 * @param kernelKey $YA_VM_KERNEL_KEY: the driver layer brings kernel code, and is to be signed by it.
 * @throws {YavmError} YAVM_E_IMAGE for a layer that cannot be read; YAVM_E_KERNEL_SIGNATURE; see makeDisk. Nothing stays open then.
 */
export async function startDisks(
  { layers, root, rootDisk, disks = [], diskFolder: folder, driverLayer }: DisksSpec,
  signal?: AbortSignal,
  kernelKey?: string,
): Promise<StartedDisks> {
  const opening: Promise<DiskArguments>[] = [];
  const making: Promise<void>[] = [];
  if ('disk' in root) {
    const request = { usable: root.disk, keep: rootDisk, preallocate: root.preallocate, folder };
    opening.push(writableDisk(ROOT_SERIAL, request, making, signal));
  }
  for (const [index, path] of layers.entries()) opening.push(layerDisk(layerSerial(index), path));
  for (const [index, { size, preallocate }] of disks.entries()) {
    const request = { usable: size, preallocate, folder };
    opening.push(writableDisk(diskSerial(index), request, making, signal));
  }
  if (driverLayer !== undefined) opening.push(driverDisk(driverLayer, kernelKey));
  const opened = await Promise.allSettled(opening);
  const failed = opened.find((result) => result.status === 'rejected');
  const made = allMade(making);
  if (!failed) return { disks: await Promise.all(opening), made };
  await made.catch(() => {});
  for (const result of opened) if (result.status === 'fulfilled') closeSync(result.value.fd);
  throw failed.reason;
}

type DisksSpec = Pick<VmSpec, 'layers' | 'root' | 'rootDisk' | 'disks' | 'diskFolder' | 'driverLayer'>;

async function writableDisk(
  serial: string,
  request: DiskRequest,
  making: Promise<void>[],
  signal?: AbortSignal,
): Promise<DiskArguments> {
  const { fd, kept, made } = startDisk(request, signal);
  making.push(made);
  return { serial, fd, readOnly: false, durable: kept, reserved: (request.preallocate ?? 0) > 0 };
}

/** Not before the last has ended. */
function allMade(making: readonly Promise<void>[]): Promise<void> {
  const made = Promise.allSettled(making).then((results) => {
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  });
  made.catch(() => {});
  return made;
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
