/** Devices that appear later: the kernel's own announcements (uevents), in place of a udev. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { READABLE } from '../lib/constants.ts';

/** Announcements taken in one turn of the event loop: root in the task can make the kernel repeat them. */
const EVENTS_A_TURN = 32;

/** The MODALIAS of a device that was added, from `add@PATH` and `KEY=value` with NULs between; null for all else. */
export function addedAlias(event: string): string | null {
  if (!event.startsWith('add@')) return null;
  const at = event.indexOf('\0MODALIAS=');
  if (at < 0) return null;
  const start = at + 10;
  const end = event.indexOf('\0', start);
  return event.slice(start, end < 0 ? undefined : end);
}

export interface UeventListener {
  /** The MODALIASes of devices that were added, at least one. */
  onAdded(aliases: string[]): void;
  /** The kernel had more to say than its buffer holds: some were lost. */
  onLost(): void;
  /** Nothing more is heard. */
  onFailure(error: unknown): void;
}

/** Starts listening; it goes on for the VM's life. @throws NativeError where the kernel has no netlink */
export function followUevents(native: Native, listener: UeventListener): void {
  const fd = native.ueventOpen();
  native.watch(fd, READABLE, () => {
    const aliases: string[] = [];
    let lost = false;
    for (let i = 0; i < EVENTS_A_TURN; i++) {
      try {
        const event = native.ueventRead(fd);
        if (event === null) break;
        const alias = addedAlias(event);
        if (alias !== null) aliases.push(alias);
      } catch (error) {
        if (hasErrno(error, 'ENOBUFS')) {
          lost = true;
          continue;
        }
        native.unwatch(fd);
        native.close(fd);
        listener.onFailure(error);
        break;
      }
    }
    if (aliases.length > 0) listener.onAdded(aliases);
    if (lost) listener.onLost();
  });
}
