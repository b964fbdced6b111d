/**
 * The blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian. Each function writes one block at `at` and returns
 * where the next begins. A packet costs its copy, and a view of it.
 */

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const STATISTICS = 5;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;
/** Bytes of a frame that are kept: all of any frame there is. */
export const SNAP_LENGTH = 65_535;

/** Options; 0 ends them. */
const OPTION = { shbUserAppl: 4, ifName: 2, ifTsresol: 9, epbFlags: 2 } as const;
const STATISTICS_OPTION = { start: 2, end: 3, received: 4, dropped: 5 } as const;
/** `if_tsresol`: 10^-6 s. */
const MICROSECONDS = 6;
/** `epb_flags`, its two lowest bits. */
const DIRECTION = { in: 1, out: 2 } as const;

/** Of a packet's block, beside the frame: head, its one option and their end, the length again. Bytes. */
const PACKET_OVERHEAD = 28 + 12 + 4;
/** Largest of the other blocks. Bytes. */
export const MAX_SMALL_BLOCK = 512;
/** Characters of a name in a block. */
const MAX_NAME = 64;

const WORD = 2 ** 32;
const encoder = new TextEncoder();

/** Bytes that a frame takes in the file. */
export function packetSize(length: number): number {
  return PACKET_OVERHEAD + padded(Math.min(length, SNAP_LENGTH));
}

/** Begins a file. */
export function writeSection(into: DataView, at: number, program: string): number {
  let next = at + 8;
  into.setUint32(next, BYTE_ORDER, true);
  into.setUint16(next + 4, 1, true);
  into.setUint16(next + 6, 0, true);
  // Length of the section: not known.
  into.setBigInt64(next + 8, -1n, true);
  next = writeOption(into, next + 16, OPTION.shbUserAppl, encoder.encode(program.slice(0, MAX_NAME)));
  return finish(into, at, writeOptionsEnd(into, next), SECTION);
}

/** Announces an interface; the first has the number 0. */
export function writeInterface(into: DataView, at: number, name: string): number {
  let next = at + 8;
  into.setUint16(next, LINKTYPE_ETHERNET, true);
  into.setUint16(next + 2, 0, true);
  into.setUint32(next + 4, SNAP_LENGTH, true);
  next = writeOption(into, next + 8, OPTION.ifName, encoder.encode(name.slice(0, MAX_NAME)));
  next = writeOption(into, next, OPTION.ifTsresol, Uint8Array.of(MICROSECONDS));
  return finish(into, at, writeOptionsEnd(into, next), INTERFACE);
}

export interface PacketFacts {
  /** The interface's number. */
  nic: number;
  /** Microseconds since the epoch. */
  time: number;
  direction: 'in' | 'out';
}

/** `target` is what `into` is a view of. */
export function writePacket(
  target: Uint8Array,
  into: DataView,
  at: number,
  facts: PacketFacts,
  frame: { bytes: Uint8Array; offset: number; length: number },
): number {
  const kept = Math.min(frame.length, SNAP_LENGTH);
  into.setUint32(at + 8, facts.nic, true);
  writeTime(into, at + 12, facts.time);
  into.setUint32(at + 20, kept, true);
  into.setUint32(at + 24, frame.length, true);
  target.set(frame.bytes.subarray(frame.offset, frame.offset + kept), at + 28);
  let next = at + 28 + padded(kept);
  target.fill(0, at + 28 + kept, next);
  into.setUint16(next, OPTION.epbFlags, true);
  into.setUint16(next + 2, 4, true);
  into.setUint32(next + 4, DIRECTION[facts.direction], true);
  next = writeOptionsEnd(into, next + 8);
  return finish(into, at, next, ENHANCED_PACKET);
}

export interface CaptureStatistics {
  nic: number;
  /** Microseconds since the epoch. */
  start: number;
  end: number;
  /** All that were there, the dropped ones too. */
  received: number;
  dropped: number;
}

export function writeStatistics(into: DataView, at: number, facts: CaptureStatistics): number {
  into.setUint32(at + 8, facts.nic, true);
  writeTime(into, at + 12, facts.end);
  let next = at + 20;
  for (const [code, microseconds] of [
    [STATISTICS_OPTION.start, facts.start],
    [STATISTICS_OPTION.end, facts.end],
  ] as const) {
    writeOptionHead(into, next, code, 8);
    writeTime(into, next + 4, microseconds);
    next += 12;
  }
  for (const [code, count] of [
    [STATISTICS_OPTION.received, facts.received],
    [STATISTICS_OPTION.dropped, facts.dropped],
  ] as const) {
    writeOptionHead(into, next, code, 8);
    into.setBigUint64(next + 4, BigInt(count), true);
    next += 12;
  }
  return finish(into, at, writeOptionsEnd(into, next), STATISTICS);
}

/** The high word first, whatever the byte order. */
function writeTime(into: DataView, at: number, microseconds: number): void {
  into.setUint32(at, Math.floor(microseconds / WORD), true);
  into.setUint32(at + 4, microseconds % WORD, true);
}

function writeOption(into: DataView, at: number, code: number, value: Uint8Array): number {
  writeOptionHead(into, at, code, value.length);
  const end = at + 4 + padded(value.length);
  for (let index = at + 4; index < end; index++) into.setUint8(index, value[index - at - 4] ?? 0);
  return end;
}

function writeOptionHead(into: DataView, at: number, code: number, length: number): void {
  into.setUint16(at, code, true);
  into.setUint16(at + 2, length, true);
}

function writeOptionsEnd(into: DataView, at: number): number {
  into.setUint32(at, 0, true);
  return at + 4;
}

/** A block's type, and its length at both ends. */
function finish(into: DataView, at: number, end: number, type: number): number {
  const length = end + 4 - at;
  into.setUint32(at, type, true);
  into.setUint32(at + 4, length, true);
  into.setUint32(end, length, true);
  return end + 4;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
