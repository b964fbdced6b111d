/**
 * The driver layer: a squashfs of the provider's with what a card needs that no image and no kernel package brings
 * (docs/driver-layer.md). Kernel modules come from it, never from a task's image.
 */
import { findDisks } from '../boot/disks.ts';
import { MS_NODEV, MS_NOSUID, MS_RDONLY } from '../boot/mount-flags.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import { type GpuContext, MAX_TEXT } from './context.ts';

/** What the guest needs to know of manifest.json. */
export interface LayerManifest {
  /** `550.163.01` */
  driverVersion: string;
  /** `uname -r` of the kernel that its modules are for. */
  kernelRelease: string;
}

export interface Layer extends LayerManifest {
  /** Mount point, in the initramfs. */
  path: string;
}

/**
 * Mounts the layer; modules and firmware come from it from now on.
 * @throws {GuestError} disk-missing; gpu-failed: no layer, or one for another kernel
 */
export async function mountLayer(context: GpuContext, serial: string): Promise<Layer> {
  const disks = await findDisks(context.native, [serial]);
  return mountLayerFrom(context, disks.get(serial) as string);
}

/** {@link mountLayer} from a device. */
export function mountLayerFrom({ native, modules, places }: GpuContext, device: string): Layer {
  const path = places.layer;
  const release = native.uname().release;
  try {
    try {
      native.mkdir(path, 0o755);
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
    native.mount(device, path, 'squashfs', MS_RDONLY | MS_NODEV | MS_NOSUID, null);
  } catch (error) {
    throw fromNative('gpu-failed', 'cannot mount the driver layer as squashfs', error);
  }
  const manifest = readManifest(() => native.readText(-1, `${path}/manifest.json`, MAX_TEXT));
  if (manifest.kernelRelease !== release) {
    throw new GuestError(
      'gpu-failed',
      `the driver layer (driver ${manifest.driverVersion}) is for kernel ${manifest.kernelRelease}, this VM runs ${release}: build it for this kernel, or choose the kernel set that it is for`,
    );
  }
  try {
    // Stays open: modules are looked up beneath it for as long as the VM lives.
    modules.addSource(native.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    // The kernel looks there first, at any time later too: cards read their firmware when they are first opened.
    native.writeText(-1, `${places.sysfs}/module/firmware_class/parameters/path`, `${path}/lib/firmware`);
  } catch (error) {
    throw fromNative('gpu-failed', 'cannot use the driver layer', error);
  }
  return { ...manifest, path };
}

function readManifest(read: () => string): LayerManifest {
  let value: unknown;
  try {
    value = JSON.parse(read());
  } catch (error) {
    throw fromNative('gpu-failed', 'the driver layer has no manifest.json that can be read', error);
  }
  const { driverVersion, kernelRelease } = (value ?? {}) as Partial<Record<string, unknown>>;
  if (isWord(driverVersion) && isWord(kernelRelease)) return { driverVersion, kernelRelease };
  throw new GuestError(
    'gpu-failed',
    "the driver layer's manifest.json lacks driverVersion or kernelRelease: build it with ya-vm driver-layer build",
  );
}

function isWord(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9._+~-]{1,64}$/.test(value);
}
