/** What is in a squashfs, read by unsquashfs without root and without a mount: everything but extended attributes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ItemKind, TreeItem } from './layer-tar.ts';

/** The target of a hard link is the name that unsquashfs met first. */
export type ListedItem = Omit<TreeItem, 'path' | 'xattrs'>;

const KINDS: Readonly<Record<string, ItemKind>> = {
  D: 'directory',
  R: 'file',
  S: 'symlink',
  L: 'hardlink',
  C: 'character',
  B: 'block',
  I: 'fifo',
};
const DATA = Buffer.from('#\n# START OF DATA - DO NOT MODIFY\n#\n');

/** By path, without a slash before it; the root is `''`. A name is bytes, one a character. */
export function listSquashfs(image: string): Map<string, ListedItem> {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-listing-'));
  try {
    const listing = join(folder, 'listing');
    execFileSync('unsquashfs', ['-no-progress', '-quiet', '-strict-errors', '-pf', listing, image], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return parseListing(readFileSync(listing));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function parseListing(bytes: Buffer): Map<string, ListedItem> {
  const end = bytes.indexOf(DATA);
  const text = bytes.toString('latin1', 0, end);
  const data = bytes.subarray(end + DATA.length);
  const items = new Map<string, ListedItem>();
  // A name may hold a newline; its spaces and backslashes are escaped.
  const lines = /((?:\\[\s\S]|[^ \\])+) ([A-Z]) ([^\n]*)\n/g;
  for (const [, name, type, rest] of text.matchAll(lines) as Iterable<[string, string, string, string]>) {
    const path = name.replace(/\\([\s\S])/g, '$1');
    const kind = KINDS[type];
    if (!kind) throw new Error(`unsquashfs lists '${path}' as ${type}`);
    items.set(path === '/' ? '' : path, itemOf(kind, rest, data, items));
  }
  return items;
}

function itemOf(
  kind: ItemKind,
  rest: string,
  data: Buffer,
  items: ReadonlyMap<string, ListedItem>,
): ListedItem {
  if (kind === 'hardlink') {
    const target = rest.replace(/\\([\s\S])/g, '$1');
    return { ...(items.get(target) as ListedItem), kind, target };
  }
  const fields = rest.split(' ');
  const number = (index: number) => Number(fields[index]);
  const facts = {
    kind,
    mtime: number(0),
    mode: Number.parseInt(fields[1] as string, 8),
    // unsquashfs prints owners with a sign.
    uid: number(2) >>> 0,
    gid: number(3) >>> 0,
  };
  if (kind === 'file') return { ...facts, content: data.subarray(number(5), number(5) + number(4)) };
  if (kind === 'symlink')
    return {
      ...facts,
      target: fields
        .slice(4)
        .join(' ')
        .replace(/\\([\s\S])/g, '$1'),
    };
  if (kind === 'character' || kind === 'block') return { ...facts, device: [number(4), number(5)] };
  return facts;
}
