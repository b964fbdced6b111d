/** template.json: what a template is, and by what a change of its files is seen. */
import { type BigIntStats, readFileSync } from 'node:fs';
import type { Hello } from '../../../guest/protocol/messages.ts';
import { notifications } from '../../../guest/protocol/validate.ts';

/** A file's state, as no change of it leaves it: who writes to it cannot set its ctime back. */
export interface Stamp {
  size: number;
  inode: string;
  /** Nanoseconds since the epoch. */
  modified: string;
  changed: string;
}

export interface TemplateRecord {
  /** Its folder's name too. */
  key: string;
  /** ISO 8601. */
  made: string;
  accel: 'kvm' | 'tcg';
  cpuModel: string;
  cpus: number;
  memoryMiB: number;
  /** Of the guest's kernel. */
  kernel: string;
  /** What the guest said when it was up. */
  hello: Hello;
  /** The guest's memory, with holes. Checksums are sparseChecksum's. */
  ram: { stamp: Stamp; sha256: string };
  /** The devices' state. */
  state: { stamp: Stamp; sha256: string };
}

export const RECORD = 'template.json';
export const RAM = 'ram';
export const STATE = 'state';
const MAX_RECORD = 64 * 1024;

export function stampOf({ size, ino, mtimeNs, ctimeNs }: BigIntStats): Stamp {
  return { size: Number(size), inode: String(ino), modified: String(mtimeNs), changed: String(ctimeNs) };
}

export function sameStamp(a: Stamp, b: Stamp): boolean {
  return a.size === b.size && a.inode === b.inode && a.modified === b.modified && a.changed === b.changed;
}

/** @throws {Error} what is wrong with it, or no file */
export function readRecord(path: string): TemplateRecord {
  const text = readFileSync(path, 'utf8');
  if (text.length > MAX_RECORD) throw new Error(`${RECORD} is longer than ${MAX_RECORD} characters`);
  return decodeRecord(JSON.parse(text));
}

/** @throws {Error} saying which part is not what it has to be */
export function decodeRecord(value: unknown): TemplateRecord {
  const map = asMap(value, RECORD);
  const text = (key: string, form = /^[\s\S]{1,200}$/) => {
    const found = map[key];
    if (typeof found === 'string' && form.test(found)) return found;
    throw new Error(`${key} is not what it has to be`);
  };
  const number = (key: string) => {
    const found = map[key];
    if (Number.isSafeInteger(found) && (found as number) > 0) return found as number;
    throw new Error(`${key} is no number of them`);
  };
  return {
    key: text('key', /^[0-9a-f]{32}$/),
    made: text('made'),
    accel: text('accel', /^(kvm|tcg)$/) as 'kvm' | 'tcg',
    cpuModel: text('cpuModel'),
    cpus: number('cpus'),
    memoryMiB: number('memoryMiB'),
    kernel: text('kernel'),
    hello: notifications.hello({ ...asMap(map.hello, 'hello'), event: 'hello' }),
    ram: decodeFile(map.ram, RAM),
    state: decodeFile(map.state, STATE),
  };
}

function decodeFile(value: unknown, name: string): TemplateRecord['ram'] {
  const { stamp, sha256 } = asMap(value, name);
  const { size, inode, modified, changed } = asMap(stamp, `${name}'s stamp`);
  const texts = [sha256, inode, modified, changed].map((each) => {
    if (typeof each === 'string' && /^[0-9a-f]{1,64}$/.test(each)) return each;
    throw new Error(`${name}'s stamp or checksum is not what it has to be`);
  });
  if (!Number.isSafeInteger(size) || (size as number) < 1) throw new Error(`${name} has no size`);
  const [sum, ino, mtime, ctime] = texts as [string, string, string, string];
  return { stamp: { size: size as number, inode: ino, modified: mtime, changed: ctime }, sha256: sum };
}

function asMap(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new Error(`${what} is no object`);
}
