/** Makes device nodes in the agent's /dev, which the task sees as its own (boot/mounts.ts). */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY, S_IFCHR } from '../lib/constants.ts';
import type { DeviceNode } from './nvidia-nodes.ts';

/** A node that is there keeps its numbers, and gets owner and mode. @throws {GuestError} gpu-failed */
export function makeNodes(native: Native, dev: string, nodes: DeviceNode[]): void {
  for (const node of nodes) {
    try {
      makeNode(native, dev, node);
    } catch (error) {
      throw fromNative('gpu-failed', `cannot make the device node /dev/${node.path}`, error);
    }
  }
}

function makeNode(native: Native, dev: string, { path, major, minor, mode, uid, gid }: DeviceNode): void {
  const slash = path.lastIndexOf('/');
  if (slash > 0) unlessThere(() => native.mkdir(`${dev}/${path.slice(0, slash)}`, 0o755));
  unlessThere(() => native.mknod(`${dev}/${path}`, S_IFCHR | mode, major, minor));
  setNode(native, dev, path, { mode, uid, gid });
}

/** Owner and mode of a node, whatever the umask; the node is not opened: a driver may start its card then. @throws NativeError */
export function setNode(
  native: Native,
  dev: string,
  path: string,
  { mode, uid, gid }: { mode: number; uid: number; gid: number },
): void {
  const fd = native.open(dev, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  try {
    native.chownAt(fd, path, uid, gid);
    native.chmodAt(fd, path, mode);
  } finally {
    native.close(fd);
  }
}

function unlessThere(make: () => void): void {
  try {
    make();
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
  }
}
