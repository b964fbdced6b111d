/** Whom QEMU runs as. Never root: a guest that breaks out of QEMU must not find itself there. */
import { readFileSync, statSync } from 'node:fs';

export interface ProcessUser {
  uid: number;
  gid: number;
  groups: number[];
}

const NOBODY = 65534;
export const KVM_DEVICE = '/dev/kvm';

/**
 * The user for QEMU when we are root: nobody, with the group of /dev/kvm, and those of other `devices` that it opens, where
 * that opens them. Null when we are an ordinary user: then QEMU is as we are.
 */
export function qemuUser(
  uid: number = process.getuid?.() ?? 0,
  devices: readonly string[] = [],
): ProcessUser | null {
  if (uid !== 0) return null;
  const { uid: nobody, gid } = parseNobody(readText('/etc/passwd'));
  const groups = [KVM_DEVICE, ...devices].flatMap((path) => kvmGroups(modeOf(path)));
  return { uid: nobody, gid, groups: [...new Set(groups)] };
}

/** uid and gid of `nobody` in a passwd file; 65534 each where it has no such line. */
export function parseNobody(passwd: string): { uid: number; gid: number } {
  const [, uid = NOBODY, gid = NOBODY] = passwd.match(/^nobody:[^:]*:(\d+):(\d+):/m) ?? [];
  // A nobody with uid 0 would be root by another name.
  return { uid: Number(uid) || NOBODY, gid: Number(gid) || NOBODY };
}

export interface DeviceMode {
  mode: number;
  uid: number;
  gid: number;
}

const GROUP_RW = 0o060;
/** Bits of one class: read and write. */
const READ_WRITE = 0o6;

/** The device's group, when being in it opens the device. Root's group is not lent. */
export function kvmGroups(device: DeviceMode | null): number[] {
  const usable = device !== null && device.gid !== 0 && (device.mode & GROUP_RW) === GROUP_RW;
  return usable ? [device.gid] : [];
}

/** Whether a process of `user` may open the device (or folder), by its mode bits; `need`: those of one class. */
export function mayOpen(device: DeviceMode, user: ProcessUser, need: number = READ_WRITE): boolean {
  const inGroup = user.gid === device.gid || user.groups.includes(device.gid);
  const shift = device.uid === user.uid ? 6 : inGroup ? 3 : 0;
  return ((device.mode >> shift) & need) === need;
}

/** Mode and owner of a file; null when there is none. */
export function modeOf(path: string): DeviceMode | null {
  try {
    const { mode, uid, gid } = statSync(path);
    return { mode, uid, gid };
  } catch {
    return null;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
