/**
 * Where a task may not connect to unless its rules have the very address: what is the provider's own network, or nobody's.
 * As data, after the registries of special addresses (RFC 6890, IANA) and the metadata services of clouds.
 */
import { inRange, parseIp } from '../frame/address.ts';

/** A row of the table: a range, and what it is for. The first row that has an address counts. */
type Row = readonly [range: string, what: string];

const ROWS: readonly Row[] = [
  // Single addresses before the ranges that they may lie in: the reason says more.
  ['169.254.169.254/32', 'metadata'],
  ['169.254.169.253/32', 'metadata'],
  ['169.254.170.2/32', 'metadata'],
  ['100.100.100.200/32', 'metadata'],
  ['168.63.129.16/32', 'metadata'],
  ['192.0.0.192/32', 'metadata'],
  ['fd00:ec2::254/128', 'metadata'],
  ['fd20:ce::254/128', 'metadata'],

  ['0.0.0.0/8', 'unspecified'],
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'shared'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.2.0/24', 'documentation'],
  ['192.88.99.0/24', 'reserved'],
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'benchmarking'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['224.0.0.0/4', 'multicast'],
  ['255.255.255.255/32', 'broadcast'],
  ['240.0.0.0/4', 'reserved'],

  ['::/128', 'unspecified'],
  ['::1/128', 'loopback'],
  ['::/96', 'embedded'],
  ['::ffff:0:0/96', 'embedded'],
  ['::ffff:0:0:0/96', 'embedded'],
  ['64:ff9b:1::/48', 'private'],
  ['100::/63', 'reserved'],
  ['2001:db8::/32', 'documentation'],
  ['3fff::/20', 'documentation'],
  ['2001:2::/48', 'benchmarking'],
  ['5f00::/16', 'reserved'],
  ['fc00::/7', 'private'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'private'],
  ['ff00::/8', 'multicast'],
];

/** IPv6 ranges whose addresses have an IPv4 one inside: where it lies (bytes), and whether its bits are turned over. */
const EMBEDDINGS: readonly { range: string; at: number; inverted?: true }[] = [
  { range: '::/96', at: 12 },
  { range: '::ffff:0:0/96', at: 12 },
  { range: '::ffff:0:0:0/96', at: 12 },
  { range: '64:ff9b::/96', at: 12 },
  { range: '2002::/16', at: 2 },
  // Teredo: the server's, and the client's.
  { range: '2001::/32', at: 4 },
  { range: '2001::/32', at: 12, inverted: true },
];

/** IPv6 that is in use worldwide: global unicast, NAT64, and what this table has no better word for is `reserved`. */
const GLOBAL = ['2000::/3', '64:ff9b::/96'].map(parseRange);
/** IETF's own (RFC 2928), Teredo excepted. */
const PROTOCOLS = parseRange('2001::/23');
const TEREDO = parseRange('2001::/32');
/** ISATAP (RFC 5214): interface identifiers 0:5efe and 200:5efe before an IPv4 address. Bytes 8…11, whatever the second bit of 8 is. */
const ISATAP = [0x00, 0x00, 0x5e, 0xfe];

export interface Range {
  network: Uint8Array;
  prefix: number;
}

const TABLE = ROWS.map(([range, what]) => ({ ...parseRange(range), what }));
const EMBEDDED = EMBEDDINGS.map(({ range, at, inverted }) => ({ ...parseRange(range), at, inverted }));

/** `address/prefix`, checked by whoever wrote it. */
export function parseRange(text: string): Range {
  const slash = text.indexOf('/');
  return { network: parseIp(text.slice(0, slash)), prefix: Number(text.slice(slash + 1)) };
}

/** What the address, or one inside it, is reserved for; null: it is a public one. Address of 4 or 16 bytes. */
export function reservedFor(address: Uint8Array): string | null {
  const what = ownRange(address);
  if (what !== null && what !== 'embedded') return what;
  for (const inner of embeddedIn(address)) {
    const inside = ownRange(inner);
    if (inside !== null) return inside;
  }
  return what;
}

/** IPv4 addresses that an IPv6 one carries: who goes there may end up here. */
export function embeddedIn(address: Uint8Array): Uint8Array[] {
  if (address.length !== 16) return [];
  const inner = EMBEDDED.filter(({ network, prefix }) => inRange(address, network, prefix)).map(
    ({ at, inverted }) => address.slice(at, at + 4).map((byte) => (inverted ? ~byte : byte)),
  );
  // The universal bit may be set.
  const isatap = ISATAP.every(
    (byte, at) => ((address[8 + at] as number) & (at === 0 ? 0xfd : 0xff)) === byte,
  );
  return isatap ? [...inner, address.slice(12)] : inner;
}

function ownRange(address: Uint8Array): string | null {
  for (const { network, prefix, what } of TABLE) if (inRange(address, network, prefix)) return what;
  if (address.length === 4) return null;
  const within = ({ network, prefix }: Range) => inRange(address, network, prefix);
  if (within(PROTOCOLS) && !within(TEREDO)) return 'reserved';
  return GLOBAL.some(within) ? null : 'reserved';
}
