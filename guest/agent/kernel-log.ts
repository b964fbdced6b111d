/** Follows /dev/kmsg: kernel warnings go to the log port, the out-of-memory killer's acts to the host as events. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY, READABLE } from '../lib/constants.ts';

/** Longest record of /dev/kmsg (CONSOLE_EXT_LOG_MAX); a smaller buffer makes read(2) fail with EINVAL. */
const RECORD_SIZE = 8192;
/** Records taken in one turn of the event loop, and forwarded in one second: a task may write to /dev/kmsg. */
const RECORDS_A_TURN = 16;
const RECORDS_A_SECOND = 50;
/** Syslog level "warning"; lower numbers are worse. */
const WARNING = 4;
const SEEK_END = 2;

export interface KernelRecord {
  level: number;
  text: string;
}

/** `prefix,seq,time,flags;text` and continuation lines → level and first line. Null when malformed. */
export function parseRecord(record: string): KernelRecord | null {
  const separator = record.indexOf(';');
  const prefix = Number.parseInt(record, 10);
  if (separator < 0 || Number.isNaN(prefix)) return null;
  const end = record.indexOf('\n', separator);
  return { level: prefix & 7, text: record.slice(separator + 1, end < 0 ? undefined : end) };
}

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

/** One record; records that were overwritten before we read them (EPIPE) are skipped. */
function readRecord(native: Native, fd: number, buffer: Uint8Array): number {
  try {
    return native.read(fd, buffer);
  } catch (error) {
    if (hasErrno(error, 'EPIPE')) return readRecord(native, fd, buffer);
    throw error;
  }
}
