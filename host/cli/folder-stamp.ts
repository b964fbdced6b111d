/** Whether a folder is still what it was: a digest over what lstat says of everything in it, without reading a file. */
import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';

/** Names in a folder at most; what has more is not kept track of. */
const MAX_NAMES = 4_000_000;
/** Directories after which others get their turn. */
const TURN = 16;

/**
 * Times of change are part of it: what was written to, renamed or given away is told, also when its size and its time
 * of modification were put back.
 * @throws what the system says about a folder that cannot be read; the signal's reason
 */
export async function folderStamp(folder: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  // Bytes: a name need not be UTF-8.
  const pending: Buffer[] = [Buffer.from(folder)];
  hash.update(line(pending[0] as Buffer, lstatSync(folder, { bigint: true })));
  let names = 0;
  for (let count = 1, path = pending.pop(); path; path = pending.pop(), count++) {
    const children = readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare);
    names += children.length;
    if (names > MAX_NAMES) throw new RangeError(`${folder}: more than ${MAX_NAMES} files`);
    for (const name of children) {
      const child = Buffer.concat([path, Buffer.from('/'), name]);
      const at = lstatSync(child, { bigint: true });
      hash.update(line(child, at));
      if (at.isDirectory()) pending.push(child);
    }
    if (count % TURN !== 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
  }
  return hash.digest('hex');
}

function line(path: Buffer, at: BigIntStats): Buffer {
  const facts = [at.mode, at.uid, at.gid, at.size, at.mtimeNs, at.ctimeNs, at.dev, at.ino, at.nlink, at.rdev];
  return Buffer.concat([path, Buffer.from(`\0${facts.join(' ')}\n`)]);
}
