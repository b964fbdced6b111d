/** Follows /dev/kmsg: kernel warnings go to the log port, the out-of-memory killer's acts to the host as events. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY, READABLE } from '../lib/constants.ts';
import { type KernelRecord, parseRecord, RECORD_SIZE, readRecord } from '../lib/kernel-record.ts';

/** Records taken in one turn of the event loop, and forwarded in one second: a task may write to /dev/kmsg. */
const RECORDS_A_TURN = 16;
const RECORDS_A_SECOND = 50;
/** Syslog level "warning"; lower numbers are worse. */
const WARNING = 4;
const SEEK_END = 2;

export { parseRecord };

/** The cgroup named by an `oom-kill:…` record (mm/oom_kill.c, dump_oom_summary), else null. */
export function outOfMemoryCgroup(text: string): string | null {
  if (!text.startsWith('oom-kill:')) return null;
  const match = /,task_memcg=([^,]*)/.exec(text);
  return match ? (match[1] as string) : null;
}

/** Starts following. Records from before the call are not reported. */
export function followKernelLog(
  native: Native,
  onWarning: (record: KernelRecord) => void,
  onOutOfMemory: (cgroup: string) => void,
): void {
  const fd = native.open('/dev/kmsg', O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
  native.seek(fd, 0, SEEK_END);
  const buffer = new Uint8Array(RECORD_SIZE);
  const decoder = new TextDecoder();
  let second = 0;
  let forwarded = 0;
  native.watch(fd, READABLE, () => {
    for (let i = 0; i < RECORDS_A_TURN; i++) {
      const count = readRecord(native, fd, buffer);
      if (count <= 0) return;
      const record = parseRecord(decoder.decode(buffer.subarray(0, count)));
      if (!record) continue;
      const cgroup = outOfMemoryCgroup(record.text);
      if (cgroup !== null) onOutOfMemory(cgroup);
      if (record.level > WARNING) continue;
      const now = Math.floor(native.monotonic() / 1000);
      if (now !== second) forwarded = 0;
      second = now;
      if (forwarded++ < RECORDS_A_SECOND) onWarning(record);
    }
  });
}
