/**
 * How far mksquashfs is with a folder: what it has read, of what there is to read. Its own progress bar is drawn at its
 * end when it does not write to a terminal.
 */
import { type Dirent, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nextTurn } from './section.ts';

/** Milliseconds between two looks. */
const TICK = 250;
/** Directories after which others get their turn. */
const TURN = 16;

/** Reports until it is told to stop; nothing before the folder's size is known, which takes a moment. */
export function watchFolder(
  folder: string,
  pid: number,
  report: (done: number, total: number) => void,
): { stop(): void } {
  const abort = new AbortController();
  let total: number | null = null;
  sizeOf(folder, abort.signal).then(
    (size) => {
      total = size;
    },
    // Then there is no progress to be seen; what is wrong with the folder mksquashfs says.
    () => {},
  );
  const timer = setInterval(() => {
    const done = bytesRead(pid);
    if (total !== null && done !== null) report(Math.min(done, total), total);
  }, TICK);
  return {
    stop() {
      clearInterval(timer);
      abort.abort();
      if (total !== null) report(total, total);
    },
  };
}

/** Bytes of all regular files, those with several names as often. */
async function sizeOf(folder: string, signal: AbortSignal): Promise<number> {
  let sum = 0;
  // Bytes: a name need not be UTF-8.
  const pending: Buffer[] = [Buffer.from(folder)];
  for (let count = 1, path = pending.pop(); path; path = pending.pop(), count++) {
    for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' }) as Dirent<Buffer>[]) {
      const child = Buffer.concat([path, Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) pending.push(child);
      else if (entry.isFile()) sum += lstatSync(child).size;
    }
    if (count % TURN !== 0) continue;
    await nextTurn();
    signal.throwIfAborted();
  }
  return sum;
}

/** What a process has read in all, by the kernel's count; null when it has ended. */
function bytesRead(pid: number): number | null {
  try {
    return Number(/^rchar: (\d+)$/m.exec(readFileSync(join('/proc', String(pid), 'io'), 'latin1'))?.[1] ?? 0);
  } catch {
    return null;
  }
}
