/** Textual network addresses: strict parsing, one canonical spelling. */
import { GuestError } from '../errors.ts';

export type Family = 4 | 6;

export interface Address {
  family: Family;
  /** 4 or 16. */
  bytes: number[];
}

export interface Network {
  address: Address;
  /** Bits, 0…32 or 0…128. */
  prefix: number;
}

/** Longest IPv6 text is 45 characters (with an IPv4 tail); nothing longer is looked at. */
const MAX_TEXT = 45;

/** `1.2.3.4` or `fe80::1`; no zone, no leading zeros in IPv4 (they have been read as octal). @throws {GuestError} bad-request */
export function parseAddress(text: string): Address {
  const bytes = text.length > MAX_TEXT ? null : text.includes(':') ? parseIPv6(text) : parseIPv4(text);
  if (!bytes) throw new GuestError('bad-request', `'${text.slice(0, 100)}' is no IP address`);
  return { family: bytes.length === 4 ? 4 : 6, bytes };
}

/** `address/prefix`. @throws {GuestError} bad-request */
export function parseNetwork(text: string): Network {
  const slash = text.indexOf('/');
  const digits = text.slice(slash + 1);
  const address = slash < 0 ? null : parseAddress(text.slice(0, slash));
  if (!address || !/^\d{1,3}$/.test(digits) || Number(digits) > address.bytes.length * 8) {
    throw new GuestError('bad-request', `'${text.slice(0, 100)}' is no address/prefix`);
  }
  return { address, prefix: Number(digits) };
}

/** The address with all bits after the prefix cleared: what a route's destination must be. */
export function maskedAddress({ address, prefix }: Network): Address {
  const bytes = address.bytes.map((byte, index) => {
    const bits = Math.max(0, Math.min(8, prefix - index * 8));
    return byte & (0xff00 >> bits) & 0xff;
  });
  return { family: address.family, bytes };
}

/** Dotted IPv4; IPv6 in lower case with the longest run of zeros shortened (RFC 5952). */
export function formatAddress({ family, bytes }: Address): string {
  if (family === 4) return bytes.join('.');
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number),
  );
  const run = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (run.length < 2) return hex.join(':');
  return `${hex.slice(0, run.start).join(':')}::${hex.slice(run.start + run.length).join(':')}`;
}

/** `address/prefix` in canonical spelling. */
export function formatNetwork({ address, prefix }: Network): string {
  return `${formatAddress(address)}/${prefix}`;
}

/** Six pairs of hexadecimal digits, in lower case. @throws {GuestError} bad-request */
export function parseMac(text: string): string {
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return text.toLowerCase();
  throw new GuestError('bad-request', `'${text.slice(0, 100)}' is no MAC address`);
}

function parseIPv4(text: string): number[] | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  const bytes = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return bytes.every((byte) => byte < 256) ? bytes : null;
}

function parseIPv6(text: string): number[] | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] as string, true) : [];
  if (!head || !tail) return null;
  const missing = 16 - head.length - tail.length;
  // `::` stands for at least one group; without it nothing may be missing.
  if (halves.length === 2 ? missing < 2 : missing !== 0) return null;
  return [...head, ...new Array<number>(missing).fill(0), ...tail];
}

/** Bytes of `a:b:c`; the last group may be an IPv4 address where `mayEndInIPv4`. Empty text has no groups. */
function parseGroups(text: string, mayEndInIPv4: boolean): number[] | null {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [index, group] of groups.entries()) {
    if (mayEndInIPv4 && index === groups.length - 1 && group.includes('.')) {
      const last = parseIPv4(group);
      if (!last) return null;
      bytes.push(...last);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(group)) return null;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function longestZeroRun(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  }
  return best;
}
