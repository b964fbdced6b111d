/** Reads of sysfs and its like: the root is given, a file that is not there is null, and none is read beyond a bound. */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Where the host's file systems are; tests give their own. */
export interface HostRoots {
  sys: string;
  dev: string;
  proc: string;
}

export const HOST: HostRoots = { sys: '/sys', dev: '/dev', proc: '/proc' };

const MAX_FILE = 64 * 1024;
/** Far above any machine's devices. */
const MAX_ENTRIES = 4096;

export function readText(path: string): string | null {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const bytes = Buffer.alloc(MAX_FILE);
    return bytes.toString('latin1', 0, readSync(fd, bytes, 0, MAX_FILE, 0)).trim();
  } catch {
    return null;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** `0x10de`; null when it is not there, or no number. */
export function readNumber(path: string): number | null {
  const text = readText(path);
  if (text === null || text === '') return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

/** The last part of where a link leads. */
export function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

/** Names in a folder, sorted; none when it is not there. */
export function entries(...path: [string, ...string[]]): string[] {
  try {
    return readdirSync(join(...path))
      .sort()
      .slice(0, MAX_ENTRIES);
  } catch {
    return [];
  }
}
