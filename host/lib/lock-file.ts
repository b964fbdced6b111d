/**
 * A lock between processes that have nothing but files: the addon, which knows flock, may be what is being unpacked. It
 * keeps others from doing the same work, no more: a holder that died is passed over, and so is one that takes too long.
 */
import * as fs from 'node:fs';
import { hasErrno } from './errors.ts';

/** Milliseconds between looks, and in all. */
const PAUSE = 20;
const WAIT = 60_000;
/** Milliseconds for a holder to write who it is. */
const NAMELESS = 5000;

/** Runs `act` once the lock at `path` is held, or was waited for long enough. @throws what `act` throws, and ENOSPC, EROFS, … */
export function withLockFile<T>(path: string, act: () => T): T {
  const held = take(path);
  try {
    return act();
  } finally {
    if (held) fs.rmSync(path, { force: true });
  }
}

function take(path: string): boolean {
  const last = performance.now() + WAIT;
  while (performance.now() < last) {
    if (create(path)) return true;
    // Two that see the same dead holder may both go on: see above.
    if (isLeftBehind(path)) fs.rmSync(path, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
  }
  return false;
}

function create(path: string): boolean {
  try {
    fs.writeFileSync(path, holder(process.pid) ?? '', { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    // Made, but no room for a line.
    if (!hasErrno(error, 'EROFS') && !hasErrno(error, 'EACCES')) fs.rmSync(path, { force: true });
    throw error;
  }
}

function isLeftBehind(path: string): boolean {
  try {
    const text = fs.readFileSync(path, 'utf8');
    const pid = /^\d+(?= )/.exec(text)?.[0];
    if (pid !== undefined) return holder(Number(pid)) !== text;
    return Date.now() - fs.statSync(path).mtimeMs > NAMELESS;
  } catch (error) {
    return !hasErrno(error, 'ENOENT');
  }
}

/** A process by its number and start, as nobody else ever has both; null when there is none. */
function holder(pid: number): string | null {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    // Field 22; the name, field 2, may hold anything.
    return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return null;
  }
}
