/** Trees as tests describe them, and layers of images made of them, byte for byte by this file: nothing of ours helps. */
import { gnuLong, paxHeader, type RawHeader, tarEntry } from './raw-tar.ts';

export type ItemKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo';

/** One name of a tree. Text is bytes, one a character. */
export interface TreeItem {
  path: string;
  kind: ItemKind;
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since the epoch. */
  mtime: number;
  content?: Buffer;
  /** Of links. */
  target?: string;
  device?: [major: number, minor: number];
  xattrs?: Record<string, string>;
}

const TIME = 1_600_000_000;
const DEFAULT_MODE: Record<ItemKind, number> = {
  file: 0o644,
  directory: 0o755,
  symlink: 0o777,
  hardlink: 0o644,
  character: 0o666,
  block: 0o660,
  fifo: 0o600,
};

type Rest = Partial<Omit<TreeItem, 'path' | 'kind'>>;

function item(path: string, kind: ItemKind, rest: Rest): TreeItem {
  return { path, kind, mode: DEFAULT_MODE[kind], uid: 0, gid: 0, mtime: TIME, ...rest };
}

export const file = (path: string, content: string | Buffer = '', rest: Rest = {}): TreeItem =>
  item(path, 'file', {
    content: typeof content === 'string' ? Buffer.from(content, 'latin1') : content,
    ...rest,
  });
export const directory = (path: string, rest: Rest = {}): TreeItem => item(path, 'directory', rest);
export const symlink = (path: string, target: string, rest: Rest = {}): TreeItem =>
  item(path, 'symlink', { target, ...rest });
export const hardlink = (path: string, target: string, rest: Rest = {}): TreeItem =>
  item(path, 'hardlink', { target, ...rest });
export const character = (path: string, major: number, minor: number, rest: Rest = {}): TreeItem =>
  item(path, 'character', { device: [major, minor], ...rest });
export const block = (path: string, major: number, minor: number, rest: Rest = {}): TreeItem =>
  item(path, 'block', { device: [major, minor], ...rest });
export const fifo = (path: string, rest: Rest = {}): TreeItem => item(path, 'fifo', rest);

/** A mark that hides `path` of lower layers. */
export function whiteout(path: string): TreeItem {
  const slash = path.lastIndexOf('/') + 1;
  return file(`${path.slice(0, slash)}.wh.${path.slice(slash)}`);
}

/** A mark that hides all that lower layers have in `path`. */
export const opaque = (path: string): TreeItem => file(`${path}/.wh..wh..opq`);

/** Long names: as pax or as GNU writes them. */
export type LongNames = 'pax' | 'gnu';

/** A layer's tar. Directories end with a slash, as docker's do. */
export function layerTar(items: readonly TreeItem[], longNames: LongNames = 'pax'): Buffer {
  const parts: Buffer[] = [];
  for (const each of items) for (const header of headersOf(each, longNames)) parts.push(tarEntry(header));
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

const FLAGS: Record<ItemKind, string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

function headersOf(each: TreeItem, longNames: LongNames): RawHeader[] {
  const name = each.kind === 'directory' ? `${each.path}/` : each.path;
  const link = each.target ?? '';
  const before: RawHeader[] = [];
  const records: Record<string, string> = {};
  if (longNames === 'gnu') {
    if (name.length > 100) before.push(gnuLong(name));
    if (link.length > 100) before.push(gnuLong(link, 'K'));
  } else {
    if (name.length > 100) records.path = name;
    if (link.length > 100) records.linkpath = link;
  }
  for (const [attribute, value] of Object.entries(each.xattrs ?? {}))
    records[`SCHILY.xattr.${attribute}`] = value;
  if (each.uid > 0o7777777) records.uid = String(each.uid);
  if (each.gid > 0o7777777) records.gid = String(each.gid);
  if (Object.keys(records).length > 0) before.push(paxHeader(records));
  const [major, minor] = each.device ?? [0, 0];
  return [
    ...before,
    {
      name,
      flag: FLAGS[each.kind],
      link,
      content: each.content,
      mode: each.mode,
      over: [
        [108, `${octal(each.uid > 0o7777777 ? 0 : each.uid, 7)}\0`],
        [116, `${octal(each.gid > 0o7777777 ? 0 : each.gid, 7)}\0`],
        [136, `${octal(each.mtime, 11)}\0`],
        [329, `${octal(major, 7)}\0`],
        [337, `${octal(minor, 7)}\0`],
      ],
    },
  ];
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
