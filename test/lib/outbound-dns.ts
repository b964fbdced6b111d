/** DNS messages for tests, written apart from host/network/frame/dns.ts. */
import { addressBytes, u16, u32 } from './outbound-frames.ts';

export const TYPE = { A: 1, CNAME: 5, TXT: 16, AAAA: 28, HTTPS: 65 };

export type Answer = [
  owner: string,
  ttl: number,
  data: { a: string } | { cname: string } | { raw: Uint8Array },
];

export interface MessageFields {
  id?: number;
  type?: number;
  /** Flags' word; a recursive query, or a good answer to one. */
  flags?: number;
  answers?: Answer[];
  /** Behind everything. */
  tail?: Uint8Array;
  /** Counts of the header instead of the right ones: questions, answers, authorities, additionals. */
  counts?: [number, number, number, number];
}

export function nameBytes(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.');
  return Buffer.concat([
    ...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.of(0),
  ]);
}

export function query(name: string, fields: MessageFields = {}): Buffer {
  return message(name, { flags: 0x0100, ...fields });
}

export function answer(name: string, answers: Answer[], fields: MessageFields = {}): Buffer {
  return message(name, { flags: 0x8180, ...fields, answers });
}

/** EDNS, as resolver libraries add it: `counts` has to say so. */
export const EDNS = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);

/** Over TCP each message has its length before it. */
export function framed(...messages: Uint8Array[]): Buffer {
  return Buffer.concat(messages.flatMap((message) => [u16(message.length), message]));
}

function message(name: string, fields: MessageFields): Buffer {
  const { answers = [], counts = [1, answers.length, 0, 0] } = fields;
  const head = [u16(fields.id ?? 1), u16(fields.flags ?? 0), ...counts.map(u16)];
  const question = [nameBytes(name), u16(fields.type ?? TYPE.A), u16(1)];
  return Buffer.concat([...head, ...question, ...answers.map(record), fields.tail ?? new Uint8Array()]);
}

function record([owner, ttl, data]: Answer): Buffer {
  const [type, bytes] =
    'a' in data
      ? [data.a.includes(':') ? TYPE.AAAA : TYPE.A, addressBytes(data.a)]
      : 'cname' in data
        ? [TYPE.CNAME, nameBytes(data.cname)]
        : [TYPE.TXT, data.raw];
  return Buffer.concat([nameBytes(owner), u16(type), u16(1), u32(ttl), u16(bytes.length), bytes]);
}
