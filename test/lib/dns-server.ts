/** A resolver for tests: answers are scripted and can be changed, by UDP and TCP. It knows A, AAAA and CNAME. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { formatIp, parseIp } from '../../host/network/frame/address.ts';

export interface DnsRecord {
  type: 'A' | 'AAAA' | 'CNAME';
  /** An address, or a name. */
  data: string;
  /** Seconds. */
  ttl: number;
}

/** By name, in lower case and without a dot at the end. */
export type Zone = Record<string, DnsRecord[]>;

export interface DnsQuestion {
  name: string;
  /** `A`, or the number of what this server does not know. */
  type: string;
  over: 'udp' | 'tcp';
}

const TYPES: Readonly<Record<string, number>> = { A: 1, CNAME: 5, AAAA: 28 };
const CLASS_IN = 1;
/** Response, recursion desired and available. */
const FLAGS = 0x8180;
const TRUNCATED = 0x0200;
const NO_SUCH_NAME = 3;
const HEADER = 12;
/** Bytes of an answer by UDP; a longer one has to be asked for by TCP (RFC 1035). */
const MOST_BY_UDP = 512;
const PORT = 53;

/** Answers on all addresses of this network namespace, until `close`. `zone` is read at each question. */
export async function serveDns(
  zone: () => Zone,
  onQuestion: (question: DnsQuestion) => void,
): Promise<{ close(): void }> {
  const ends: { close(): unknown }[] = [];
  for (const type of ['udp4', 'udp6'] as const) {
    const socket = createSocket({ type, ipv6Only: type === 'udp6' });
    socket.on('message', (query, { address, port }) => {
      const whole = answerTo(query, zone(), 'udp', onQuestion);
      if (whole) socket.send(whole.length > MOST_BY_UDP ? truncated(whole) : whole, port, address);
    });
    ends.push(socket);
    socket.bind(PORT);
    await once(socket, 'listening');
  }
  const server = createServer((socket) => serveTcp(socket, zone, onQuestion));
  ends.push(server);
  server.listen(PORT);
  await once(server, 'listening');
  return {
    close() {
      for (const end of ends) end.close();
    },
  };
}

/** Each message is behind its length (u16). */
function serveTcp(socket: Socket, zone: () => Zone, onQuestion: (question: DnsQuestion) => void): void {
  let rest = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (piece) => {
    rest = Buffer.concat([rest, piece]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0);
      const answer = answerTo(rest.subarray(2, end), zone(), 'tcp', onQuestion);
      rest = rest.subarray(end);
      if (!answer) continue;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([length, answer]));
    }
  });
}

function answerTo(
  query: Buffer,
  zone: Zone,
  over: 'udp' | 'tcp',
  onQuestion: (question: DnsQuestion) => void,
): Buffer | null {
  if (query.length < HEADER + 5) return null;
  const { name, end } = readName(query);
  const number = query.readUInt16BE(end);
  const type = Object.keys(TYPES).find((known) => TYPES[known] === number) ?? `${number}`;
  onQuestion({ name, type, over });
  const records = chainOf(zone, name, type);
  const header = Buffer.from(query.subarray(0, HEADER));
  header.writeUInt16BE(FLAGS | (zone[name] ? 0 : NO_SUCH_NAME), 2);
  header.writeUInt16BE(records.length, 6);
  header.writeUInt32BE(0, 8);
  return Buffer.concat([header, query.subarray(HEADER, end + 4), ...records.map(recordBytes)]);
}

type Named = DnsRecord & { name: string };

/** CNAMEs on the way, in order, and what they end at. */
function chainOf(zone: Zone, name: string, type: string): Named[] {
  const found: Named[] = [];
  for (let at = name, hops = 0; hops < 10; hops++) {
    const records = (zone[at] ?? []).map((record) => ({ ...record, name: at }));
    const alias = type === 'CNAME' ? undefined : records.find((record) => record.type === 'CNAME');
    if (!alias) return [...found, ...records.filter((record) => record.type === type)];
    found.push(alias);
    at = alias.data;
  }
  return found;
}

function recordBytes({ name, type, data, ttl }: Named): Buffer {
  const value = type === 'CNAME' ? nameBytes(data) : Buffer.from(parseIp(data));
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(TYPES[type] as number, 0);
  fixed.writeUInt16BE(CLASS_IN, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(value.length, 8);
  return Buffer.concat([nameBytes(name), fixed, value]);
}

function nameBytes(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`));
  return Buffer.concat([...labels, Buffer.of(0)]);
}

/** A question's name; no compression is used there. `end`: behind it. */
function readName(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = HEADER;
  while (at < query.length - 4 && query[at] !== 0) {
    const length = query[at] as number;
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: Math.min(at + 1, query.length - 4) };
}

/** The header and the question of an answer that is too long, which says so. */
function truncated(answer: Buffer): Buffer {
  const { end } = readName(answer);
  const short = Buffer.from(answer.subarray(0, end + 4));
  short.writeUInt16BE(short.readUInt16BE(2) | TRUNCATED, 2);
  short.writeUInt16BE(0, 6);
  return short;
}

/** Records for addresses, of whichever family. */
export function addressRecords(addresses: readonly string[], ttl = 300): DnsRecord[] {
  return addresses.map((address) => {
    const bytes = parseIp(address);
    return { type: bytes.length === 4 ? 'A' : 'AAAA', data: formatIp(bytes), ttl };
  });
}
