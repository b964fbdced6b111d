/** A directory tree as a list of lines: names, kinds, modes, owners, times, targets and content. */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface ListOptions {
  /** Leave out modification times of directories (or of all). */
  times?: 'all' | 'not-directories' | 'none';
}

/** One line a name, sorted; names of one file are told by the first of them. */
export function listTree(root: string, { times = 'all' }: ListOptions = {}): string[] {
  const lines: string[] = [];
  const first = new Map<string, string>();
  const visit = (name: string): void => {
    const path = join(root, name);
    const stat = lstatSync(path, { bigint: true });
    const kind = Number(stat.mode) & 0o170000;
    const parts = [name, (Number(stat.mode) & 0o7777).toString(8), `${stat.uid}:${stat.gid}`];
    const timed = times === 'all' || (times === 'not-directories' && kind !== 0o040000);
    if (timed) parts.push(`@${stat.mtimeNs / 1_000_000_000n}`);
    parts.push(
      { 32768: 'file', 16384: 'dir', 40960: 'link', 8192: 'chr', 24576: 'blk', 4096: 'fifo' }[kind] ??
        'other',
    );
    if (kind === 0o120000) parts.push(readlinkSync(path));
    if (kind === 0o020000 || kind === 0o060000) parts.push(String(stat.rdev));
    if (kind === 0o100000)
      parts.push(createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16));
    if (kind !== 0o040000 && stat.nlink > 1n) {
      const key = `${stat.dev}/${stat.ino}`;
      if (first.has(key)) parts.push(`= ${first.get(key)}`);
      else first.set(key, name);
    }
    lines.push(parts.join(' '));
    if (kind === 0o040000) for (const child of readdirSync(path).sort()) visit(`${name}/${child}`);
  };
  for (const name of readdirSync(root).sort()) visit(name);
  return lines;
}
