/**
 * What programs link with, from the driver layer into the task's root. One folder is bound there, and what programs look
 * for by a fixed path is linked to it: an image's own copy, of another version, must not be found first.
 */
import { MS_BIND } from '../boot/mount-flags.ts';
import { mountOn } from '../boot/mounts.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { makeDirectories } from '../lib/beneath.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import { replaceTextFile } from '../lib/replace-file.ts';
import { type GpuContext, namesIn } from './context.ts';
import type { Layer } from './layer.ts';
import { findInRoot, runInRoot } from './tool.ts';

/** Where the layer's `usr` is in the task's root. */
export const PLACE = 'opt/ya-vm/driver';
/** Of libraries, in the layer's `usr`. */
export const LIBRARY_FOLDER = 'lib/x86_64-linux-gnu';

/** Folders whose entries programs look for by path: in the layer's `usr`, and in the root. */
const LINKED: readonly [from: string, to: string][] = [
  ['bin', 'usr/bin'],
  ['share/OpenCL/vendors', 'etc/OpenCL/vendors'],
  ['share/vulkan/icd.d', 'usr/share/vulkan/icd.d'],
  ['share/vulkan/implicit_layer.d', 'usr/share/vulkan/implicit_layer.d'],
  ['share/glvnd/egl_vendor.d', 'usr/share/glvnd/egl_vendor.d'],
  ['share/egl/egl_external_platform.d', 'usr/share/egl/egl_external_platform.d'],
];

/** Read before all others: distributions include the folder's files sorted by name. */
const CONFIGURATION = '00-ya-vm-driver.conf';
const LDCONFIG = ['sbin/ldconfig', 'usr/sbin/ldconfig', 'usr/bin/ldconfig'];
/** Milliseconds: 0.2 s for an image with a desktop's libraries, and 20 times that under emulation. */
const LDCONFIG_DEADLINE = 60_000;
/** Folders that a linker without a cache looks into: Debian's, Fedora's, Alpine's. */
const PLAIN_FOLDERS = ['usr/lib/x86_64-linux-gnu', 'usr/lib64', 'usr/lib'];

/** @throws {GuestError} mount-failed, gpu-failed */
export async function giveLibraries(context: GpuContext, layer: Layer): Promise<void> {
  const { native, rootFd, warn } = context;
  const user = `${layer.path}/usr`;
  if (namesIn(native, user).length === 0) return;
  mountOn(native, rootFd, PLACE, (target) => native.mount(user, target, null, MS_BIND, null));
  try {
    for (const [from, to] of LINKED) linkAll(context, `${user}/${from}`, `/${PLACE}/${from}`, to);
    const folder = makeDirectories(native, rootFd, 'etc/ld.so.conf.d', 0o755);
    try {
      replaceTextFile(native, folder, CONFIGURATION, `/${PLACE}/${LIBRARY_FOLDER}\n`);
    } finally {
      native.close(folder);
    }
  } catch (error) {
    throw fromNative('gpu-failed', "cannot put the driver layer's files into the task's root", error);
  }
  const ldconfig = findInRoot(context, LDCONFIG);
  if (ldconfig !== null) {
    // By name too: an image's /etc/ld.so.conf may not include the folder. Links are the layer's own business (-X).
    const said = await runInRoot(context, [ldconfig, '-X', `/${PLACE}/${LIBRARY_FOLDER}`], LDCONFIG_DEADLINE);
    if (said === null) return;
    warn(`the image's /${ldconfig} ${said}: the driver's libraries are linked instead`);
  }
  linkPlainly(context, user);
}

/** Links every library where the image's linker looks without a cache. */
function linkPlainly(context: GpuContext, user: string): void {
  const to = findInRoot(context, PLAIN_FOLDERS) ?? (PLAIN_FOLDERS.at(-1) as string);
  try {
    linkAll(context, `${user}/${LIBRARY_FOLDER}`, `/${PLACE}/${LIBRARY_FOLDER}`, to);
  } catch (error) {
    throw fromNative('gpu-failed', `cannot link the driver's libraries into /${to}`, error);
  }
}

/** Links each entry of `source` (in the layer) in the root's folder `to`, in place of what has its name. */
function linkAll({ native, rootFd }: GpuContext, source: string, target: string, to: string): void {
  const names = namesIn(native, source);
  if (names.length === 0) return;
  const made = makeDirectories(native, rootFd, to, 0o755);
  native.close(made);
  const folder = native.openBeneath(rootFd, to, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  try {
    for (const name of names) {
      try {
        native.unlinkAt(folder, name, false);
      } catch (error) {
        if (hasErrno(error, 'EISDIR')) continue;
        if (!hasErrno(error, 'ENOENT')) throw error;
      }
      native.symlinkAt(`${target}/${name}`, folder, name);
    }
  } finally {
    native.close(folder);
  }
}
