/** Records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg). */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';

/** Longest record (CONSOLE_EXT_LOG_MAX); a smaller buffer makes read(2) fail with EINVAL. */
export const RECORD_SIZE = 8192;

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

/** One record, its size in bytes; -1 when there is none now. Those that were overwritten before we read them (EPIPE) are skipped. */
export function readRecord(native: Native, fd: number, buffer: Uint8Array): number {
  try {
    return native.read(fd, buffer);
  } catch (error) {
    if (hasErrno(error, 'EPIPE')) return readRecord(native, fd, buffer);
    throw error;
  }
}
