/**
 * The bus's frames: u32 big-endian length, then a protobuf message `Packet` with one of fifteen members. Facts: the
 * spec's exe-unit.md, 1.2 and 1.3. Of protobufjs only the reader and the writer are used: its descriptors cost 12 ms
 * more at start, and what they decode would have to be validated once more.
 */
import { Reader, Writer } from 'protobufjs/minimal.js';
import { toError, YavmError } from '../lib/errors.ts';
import { LENGTH_BYTES, MAX_PACKET, PacketCutter } from './packet-cutter.ts';

export { MAX_PACKET };

export type CallReplyCode = 0 | 400 | 500;

/** What travels on the bus. Bytes are views of what was received, not copies. */
export type Packet =
  | { kind: 'hello'; name: string; version: string; instanceId: Uint8Array }
  | { kind: 'registerRequest'; serviceId: string }
  | { kind: 'registerReply'; code: 0 | 400 | 409; message: string }
  | { kind: 'unregisterRequest'; serviceId: string }
  | { kind: 'unregisterReply'; code: 0 | 404 }
  | CallRequest
  | CallReply
  | { kind: 'subscribeRequest'; topic: string }
  | { kind: 'subscribeReply'; code: 0 | 400; message: string }
  | { kind: 'unsubscribeRequest'; topic: string }
  | { kind: 'unsubscribeReply'; code: 0 | 404 }
  | { kind: 'broadcastRequest'; caller: string; data: Uint8Array; topic: string }
  | { kind: 'broadcastReply'; code: 0 | 400; message: string }
  | { kind: 'ping' }
  | { kind: 'pong' };

export interface CallRequest {
  kind: 'callRequest';
  caller: string;
  address: string;
  requestId: string;
  data: Uint8Array;
  noReply: boolean;
}

export interface CallReply {
  kind: 'callReply';
  requestId: string;
  code: CallReplyCode;
  replyType: 'full' | 'partial';
  data: Uint8Array;
}

export type PacketKind = Packet['kind'];

type Wire = 'string' | 'bytes' | 'bool';
/** An enum's values by their numbers on the wire. */
type Enum = { readonly [number: number]: number | string };
type Field = readonly [name: string, tag: number, wire: Wire | Enum];

const FULL_OR_PARTIAL: Enum = { 0: 'full', 1: 'partial' };
const DONE_OR_BAD: Enum = { 0: 0, 400: 400 };
const DONE_OR_UNKNOWN: Enum = { 0: 0, 404: 404 };

/** Exe-unit.md 1.3: a member's tag in Packet, and its fields in the order of their tags. */
const MEMBERS: { readonly [K in PacketKind]: { tag: number; fields: readonly Field[] } } = {
  hello: {
    tag: 1,
    fields: [
      ['name', 1, 'string'],
      ['version', 2, 'string'],
      ['instanceId', 3, 'bytes'],
    ],
  },
  registerRequest: { tag: 2, fields: [['serviceId', 1, 'string']] },
  registerReply: {
    tag: 3,
    fields: [
      ['code', 1, { 0: 0, 400: 400, 409: 409 }],
      ['message', 2, 'string'],
    ],
  },
  unregisterRequest: { tag: 4, fields: [['serviceId', 1, 'string']] },
  unregisterReply: { tag: 5, fields: [['code', 1, DONE_OR_UNKNOWN]] },
  callRequest: {
    tag: 6,
    fields: [
      ['caller', 1, 'string'],
      ['address', 2, 'string'],
      ['requestId', 3, 'string'],
      ['data', 4, 'bytes'],
      ['noReply', 5, 'bool'],
    ],
  },
  callReply: {
    tag: 7,
    fields: [
      ['requestId', 1, 'string'],
      ['code', 2, { 0: 0, 400: 400, 500: 500 }],
      ['replyType', 3, FULL_OR_PARTIAL],
      ['data', 4, 'bytes'],
    ],
  },
  subscribeRequest: { tag: 8, fields: [['topic', 1, 'string']] },
  subscribeReply: {
    tag: 9,
    fields: [
      ['code', 1, DONE_OR_BAD],
      ['message', 2, 'string'],
    ],
  },
  unsubscribeRequest: { tag: 10, fields: [['topic', 1, 'string']] },
  unsubscribeReply: { tag: 11, fields: [['code', 1, DONE_OR_UNKNOWN]] },
  broadcastRequest: {
    tag: 12,
    fields: [
      ['caller', 1, 'string'],
      ['data', 2, 'bytes'],
      ['topic', 3, 'string'],
    ],
  },
  broadcastReply: {
    tag: 13,
    fields: [
      ['code', 1, DONE_OR_BAD],
      ['message', 2, 'string'],
    ],
  },
  ping: { tag: 14, fields: [] },
  pong: { tag: 15, fields: [] },
};

const KIND_OF_TAG = new Map(
  Object.entries(MEMBERS).map(([kind, { tag }]) => [tag, kind as PacketKind] as const),
);

/** Protobuf's wire types. */
const VARINT = 0;
const DELIMITED = 2;

/** Data from this size on goes into the frame by itself, so that it is copied once. */
const LARGE_DATA = 4096;
/** Data from this size on are not copied at all by {@link encodePieces}. Bytes. */
const HUGE_DATA = 32 * 1024;
const NO_BYTES = new Uint8Array(0);

/** A frame, its length included. Fields at their defaults are left out. @throws {YavmError} YAVM_E_GSB_FRAME beyond 4 GiB */
export function encodePacket(packet: Packet): Uint8Array {
  const [first = NO_BYTES, ...rest] = encodePieces(packet);
  return rest.length > 0 ? Buffer.concat([first, ...rest]) : first;
}

/**
 * The same as pieces that follow one another: huge data are a piece of their own, the packet's very bytes. All else is
 * copied.
 */
export function encodePieces(packet: Packet): Uint8Array[] {
  const { tag, fields } = MEMBERS[packet.kind];
  const values = packet as unknown as Record<string, unknown>;
  const parts: Uint8Array[] = [];
  let writer = Writer.create();
  for (const [name, field, wire] of fields) {
    const value = values[name];
    if (wire === 'bool') {
      if (value === true) writer.uint32((field << 3) | VARINT).bool(true);
    } else if (typeof wire === 'object') {
      const number = numberOf(wire, value);
      if (number !== 0) writer.uint32((field << 3) | VARINT).uint32(number);
    } else {
      // Node's UTF-8, not protobufjs's: that one lets half a surrogate pair through, and ends a Rust peer's connection.
      const bytes = wire === 'string' ? Buffer.from(value as string) : (value as Uint8Array);
      if (bytes.length === 0) continue;
      writer.uint32((field << 3) | DELIMITED);
      if (bytes.length < LARGE_DATA) {
        writer.bytes(bytes);
      } else {
        parts.push(writer.uint32(bytes.length).finish(), bytes);
        writer = Writer.create();
      }
    }
  }
  parts.push(writer.finish());
  return piecesOf(tag, parts);
}

function piecesOf(tag: number, parts: Uint8Array[]): Uint8Array[] {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = Writer.create()
    .uint32((tag << 3) | DELIMITED)
    .uint32(length)
    .finish();
  if (head.length + length > 0xffffffff) {
    throw new YavmError('YAVM_E_GSB_FRAME', `a packet of ${length} bytes is too long for the bus`);
  }
  const prefix = Buffer.alloc(LENGTH_BYTES);
  prefix.writeUInt32BE(head.length + length);
  const all = [prefix, head, ...parts];
  const huge = all.findIndex((part) => part.length >= HUGE_DATA);
  if (huge < 0) return [Buffer.concat(all)];
  const [before, after] = [all.slice(0, huge), all.slice(huge + 1)].map((some) => Buffer.concat(some));
  return [before, all[huge], after].filter(
    (piece) => piece !== undefined && piece.length > 0,
  ) as Uint8Array[];
}

function numberOf(names: Enum, value: unknown): number {
  if (typeof value === 'number') return value;
  return Number(Object.keys(names).find((number) => names[Number(number)] === value));
}

/** Cuts a byte stream into packets; memory as {@link PacketCutter}. */
export class PacketDecoder {
  readonly #cutter: PacketCutter;

  /** @param most Bytes of a frame that is accepted, without its length. */
  constructor(most?: number) {
    this.#cutter = new PacketCutter({ most });
  }

  /**
   * Takes bytes and yields the packets that they complete. Must be read to its end before the next call.
   * @throws {YavmError} YAVM_E_GSB_FRAME when they are no packet; nothing can follow then.
   */
  *push(bytes: Uint8Array): Generator<Packet, void> {
    this.#cutter.feed(bytes);
    while (this.#cutter.next()) yield decodePacket(this.#cutter.keep());
  }

  /** Bytes of an incomplete frame that have arrived. */
  get held(): number {
    return this.#cutter.held;
  }
}

/** One frame without its length. @throws {YavmError} YAVM_E_GSB_FRAME */
export function decodePacket(frame: Uint8Array): Packet {
  try {
    return readPacket(frame);
  } catch (error) {
    if (error instanceof YavmError) throw error;
    throw frameError(toError(error).message, error);
  }
}

function readPacket(frame: Uint8Array): Packet {
  const reader = Reader.create(frame);
  let packet: Packet | undefined;
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    const kind = KIND_OF_TAG.get(tag >>> 3);
    // Of several members of a oneof the last one counts; fields that are not known are skipped.
    if (kind === undefined) reader.skipType(tag & 7, 0, tag >>> 3);
    else packet = readMember(kind, readBytes(reader, tag & 7, kind));
  }
  if (packet === undefined) throw frameError('the packet is empty or of an unknown kind');
  return packet;
}

function readMember(kind: PacketKind, bytes: Uint8Array): Packet {
  const { fields } = MEMBERS[kind];
  const packet: Record<string, unknown> = { kind };
  for (const [name, , wire] of fields) packet[name] = defaultOf(wire);
  const reader = Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    const field = fields.find(([, number]) => number === tag >>> 3);
    if (field === undefined) {
      reader.skipType(tag & 7, 0, tag >>> 3);
      continue;
    }
    const [name, , wire] = field;
    const what = `${kind}.${name}`;
    if (wire === 'bytes') packet[name] = readBytes(reader, tag & 7, what);
    else if (wire === 'string') packet[name] = textOf(readBytes(reader, tag & 7, what), what);
    else packet[name] = readNumber(reader, tag & 7, wire, what);
  }
  // Its fields are those of the table, which says the same as the type.
  return packet as unknown as Packet;
}

function defaultOf(wire: Wire | Enum): unknown {
  if (wire === 'string') return '';
  if (wire === 'bytes') return NO_BYTES;
  return wire === 'bool' ? false : wire[0];
}

function readBytes(reader: Reader, wireType: number, what: string): Uint8Array {
  if (wireType !== DELIMITED) throw frameError(`${what} has the wire type ${wireType}`);
  return reader.bytes();
}

function readNumber(reader: Reader, wireType: number, wire: 'bool' | Enum, what: string): unknown {
  if (wireType !== VARINT) throw frameError(`${what} has the wire type ${wireType}`);
  if (wire === 'bool') return reader.bool();
  const number = reader.uint32();
  const value = wire[number];
  if (value === undefined) throw frameError(`${what} is ${number}`);
  return value;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Uint8Array, what: string): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw frameError(`${what} is not UTF-8`, error);
  }
}

function frameError(why: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_GSB_FRAME', `not a packet of the bus: ${why}`, { cause });
}
