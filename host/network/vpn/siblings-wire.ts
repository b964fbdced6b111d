/**
 * What siblings say to each other over a Unix stream: u32 length (big-endian, of what follows), a kind, for a frame to one
 * VM its address, and a frame or a message in JSON. Both ends are processes of one user; what one says is checked all the same.
 */
import { YavmError } from '../../lib/errors.ts';
import { canonicalIp } from '../frame/address.ts';
import { readU32 } from '../frame/layout.ts';
import { ETHERNET_HEADER, MAX_FRAME } from '../types.ts';
import { type AddressKey, ipv4Key, ipv6Key } from './address-key.ts';
import type { TableChange } from './siblings-face.ts';

/** Both must have the same. */
export const VERSION = 1;

/** `frame`: for who gets it. `to…`: for the owner to switch, who has the address in front of the frame. */
export const KIND = { message: 0, frame: 1, toAll: 2, toIpv4: 4, toIpv6: 6 } as const;
export type FrameKind = 1 | 2 | 4 | 6;

/** Length and kind. Bytes. */
export const WIRE_HEADER = 5;
const LENGTH_BYTES = 4;
const IPV6_BYTES = 16;
/** A frame for the owner to switch, with all that is in front of it. Bytes. */
export const MAX_WIRE_FRAME = WIRE_HEADER + IPV6_BYTES + MAX_FRAME;
/** Bytes of a message in JSON: all addresses of all siblings fit. */
const MAX_MESSAGE = 256 * 1024;
/** Of one VM in one network. */
export const MAX_ADDRESSES = 64;
/** Siblings of an owner. */
export const MAX_SIBLINGS = 64;
/** Nodes in one message of a change; a larger change goes in several. */
const MAX_NODES = 1024;
/** Characters of a node's id or address in a change, which nobody has looked at yet; upstream's have 42 at most. */
const MAX_TEXT = 128;

export type Message =
  /** The first word of a sibling. */
  | { type: 'hello'; version: number; addresses: readonly string[] }
  /** The owner's answer, again at each change: addresses of all VMs here, and those that this sibling may use. */
  | { type: 'state'; here: readonly string[]; granted: readonly string[] }
  /** The owner's answer to who cannot take part; the connection ends. */
  | { type: 'refused'; reason: string }
  | { type: 'change'; change: TableChange };

export interface WireReader {
  /** A frame is a view: valid until the callback returns. `to` is null for `frame` and `toAll`. */
  onFrame(kind: FrameKind, to: AddressKey | null, bytes: Uint8Array, offset: number, length: number): void;
  onMessage(message: Message): void;
}

// ---------------------------------------------------------------- messages

/** A message as it travels. @throws {YavmError} YAVM_E_NET_SIBLINGS: too long */
export function encodeMessage(message: Message): Buffer {
  const text = Buffer.from(JSON.stringify(message));
  if (text.length > MAX_MESSAGE) throw wireError(`a message of ${text.length} bytes is too long`);
  const bytes = Buffer.allocUnsafe(WIRE_HEADER + text.length);
  bytes.writeUInt32BE(1 + text.length);
  bytes[LENGTH_BYTES] = KIND.message;
  text.copy(bytes, WIRE_HEADER);
  return bytes;
}

/** The messages that carry a change. Like who applies it, they stop at the first pair that cannot be one. */
export function messagesOfChange(change: TableChange): Message[] {
  return piecesOfChange(change).map((piece) => ({ type: 'change', change: piece }));
}

function piecesOfChange(change: TableChange): TableChange[] {
  if (change.kind === 'remove') {
    return inPieces(change.nodeIds.filter(isShort)).map((nodeIds) => ({ kind: 'remove', nodeIds }));
  }
  const pairs = Object.entries(change.nodes);
  const end = pairs.findIndex((pair) => !pair.every(isShort));
  return inPieces(end < 0 ? pairs : pairs.slice(0, end)).map((some) => ({
    kind: change.kind,
    nodes: Object.fromEntries(some),
  }));
}

function isShort(text: string): boolean {
  return text.length <= MAX_TEXT;
}

function inPieces<T>(all: readonly T[]): T[][] {
  const pieces: T[][] = [];
  for (let at = 0; at < all.length; at += MAX_NODES) pieces.push(all.slice(at, at + MAX_NODES));
  return pieces;
}

/** @throws {YavmError} YAVM_E_NET_SIBLINGS, YAVM_E_NET_ADDRESS */
function decodeMessage(bytes: Uint8Array): Message {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw wireError('a message is no JSON', cause);
  }
  const fields = recordOf(value, 'a message');
  switch (fields.type) {
    case 'hello': {
      const { version } = fields;
      if (typeof version !== 'number') throw wireError('a hello has no version');
      return { type: 'hello', version, addresses: addressesOf(fields.addresses, MAX_ADDRESSES) };
    }
    case 'state': {
      const here = addressesOf(fields.here, (MAX_SIBLINGS + 1) * MAX_ADDRESSES);
      return { type: 'state', here, granted: addressesOf(fields.granted, MAX_ADDRESSES) };
    }
    case 'refused':
      return { type: 'refused', reason: textOf(fields.reason, 'a reason', 1000) };
    case 'change':
      return { type: 'change', change: changeOf(fields.change) };
    default:
      throw wireError('a message of no known type');
  }
}

function changeOf(value: unknown): TableChange {
  const { kind, nodes, nodeIds } = recordOf(value, 'a change');
  if (kind === 'remove') {
    return {
      kind,
      nodeIds: listOf(nodeIds, 'node ids', MAX_NODES).map((id) => textOf(id, 'a node id', MAX_TEXT)),
    };
  }
  if (kind !== 'add' && kind !== 'learn') throw wireError('a change of no known kind');
  const pairs: [string, string][] = [];
  for (const pair of listOf(Object.entries(recordOf(nodes, 'nodes')), 'nodes', MAX_NODES)) {
    const [address, id] = pair as [string, unknown];
    pairs.push([textOf(address, 'an address', MAX_TEXT), textOf(id, 'a node id', MAX_TEXT)]);
  }
  return { kind, nodes: Object.fromEntries(pairs) };
}

function addressesOf(value: unknown, most: number): string[] {
  return listOf(value, 'addresses', most).map((address) => canonicalIp(textOf(address, 'an address', 64)));
}

function recordOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wireError(`${what} is no object`);
  return value as Record<string, unknown>;
}

function listOf(value: unknown, what: string, most: number): unknown[] {
  if (!Array.isArray(value)) throw wireError(`${what} are no list`);
  if (value.length > most) throw wireError(`${value.length} ${what} are too many, ${most} are accepted`);
  return value;
}

function textOf(value: unknown, what: string, most: number): string {
  if (typeof value !== 'string' || value.length > most) throw wireError(`${what} is no text, or too long`);
  return value;
}

export function wireError(text: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_NET_SIBLINGS', `another VM of this host does not keep to the rules: ${text}`, {
    cause,
  });
}

// ---------------------------------------------------------------- the stream

/** Cuts a stream into frames and messages. Holds one incomplete one at most, and no more than has arrived of it. */
export class WireDecoder {
  readonly #reader: WireReader;
  #held: Buffer = Buffer.allocUnsafe(0);
  #count = 0;

  constructor(reader: WireReader) {
    this.#reader = reader;
  }

  /** Takes the first `end` bytes. @throws {YavmError} YAVM_E_NET_SIBLINGS, YAVM_E_NET_ADDRESS; nothing can follow then */
  push(bytes: Uint8Array, end: number): void {
    let at = 0;
    while (this.#count > 0) {
      const missing = this.#missing();
      const taken = Math.min(missing, end - at);
      if (taken === 0 && missing > 0) return;
      this.#hold(bytes, at, taken);
      at += taken;
      if (taken < missing || this.#missing() > 0) continue;
      const whole = this.#count;
      this.#count = 0;
      this.#take(this.#held, 0, whole);
    }
    while (end - at >= WIRE_HEADER) {
      const whole = wholeLength(bytes, at);
      if (end - at < whole) break;
      this.#take(bytes, at, whole);
      at += whole;
    }
    if (at < end) this.#hold(bytes, at, end - at);
  }

  /** How much of what is held still has to come: of its header first, which says how much that is. */
  #missing(): number {
    return (this.#count < WIRE_HEADER ? WIRE_HEADER : wholeLength(this.#held, 0)) - this.#count;
  }

  #hold(bytes: Uint8Array, at: number, count: number): void {
    const size = this.#count + count;
    if (size > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(size, 2 * this.#held.length));
      grown.set(this.#held.subarray(0, this.#count));
      this.#held = grown;
    }
    this.#held.set(bytes.subarray(at, at + count), this.#count);
    this.#count = size;
  }

  #take(bytes: Uint8Array, start: number, whole: number): void {
    const kind = bytes[start + LENGTH_BYTES] as FrameKind | 0;
    let at = start + WIRE_HEADER;
    const end = start + whole;
    if (kind === KIND.message) {
      this.#reader.onMessage(decodeMessage(bytes.subarray(at, end)));
      return;
    }
    let to: AddressKey | null = null;
    if (kind === KIND.toIpv4) {
      to = ipv4Key(bytes, at);
      at += 4;
    } else if (kind === KIND.toIpv6) {
      to = ipv6Key(bytes, at);
      at += IPV6_BYTES;
    }
    this.#reader.onFrame(kind, to, bytes, at, end - at);
  }
}

/** Bytes of what begins at `at`, its header included. @throws {YavmError} YAVM_E_NET_SIBLINGS */
function wholeLength(bytes: Uint8Array, at: number): number {
  const length = readU32(bytes, at) - 1;
  const kind = bytes[at + LENGTH_BYTES] as number;
  const address = addressBytes(kind);
  const [least, most] =
    kind === KIND.message ? [0, MAX_MESSAGE] : [address + ETHERNET_HEADER, address + MAX_FRAME];
  if (length < least || length > most) throw wireError(`${length} bytes are announced for kind ${kind}`);
  return WIRE_HEADER + length;
}

function addressBytes(kind: number): number {
  if (kind === KIND.toIpv4) return 4;
  if (kind === KIND.toIpv6) return IPV6_BYTES;
  if (kind === KIND.message || kind === KIND.frame || kind === KIND.toAll) return 0;
  throw wireError(`there is no kind ${kind}`);
}
