/**
 * A connection to the resolver over TCP where names are limited: each query is read before its last byte goes out, and
 * answers are put together. The resolver must see the very bytes that were read here, so the guest's segments go out in order
 * only, and what is sent again must be what was sent before.
 */
import { readU16 } from '../frame/layout.ts';
import { type DnsGuard, MAX_QUERY, Questions } from './dns-guard.ts';

/** Bytes of the guest that may be without acknowledgement; more wait until it sends them again. */
const WINDOW = 8192;
/** A message's length before it (RFC 1035 4.2.2). Bytes. */
const PREFIX = 2;

export type SegmentVerdict = 'pass' | 'dns-order' | 'dns-refused';

export class DnsStream {
  readonly #guard: DnsGuard;
  readonly #questions = new Questions();
  /** The guest's bytes from `#base` (sequence number) on: not acknowledged, or of a query that is not complete. */
  readonly #sent = new Uint8Array(WINDOW);
  #base: number;
  #held = 0;
  /** Offset in `#sent` behind the last complete query. */
  #query = 0;
  #acknowledged: number;
  /** Bytes of the answer that is coming; null before the resolver's first segment. */
  #next: number | null = null;
  #answer = new Uint8Array(1024);
  #have = 0;
  /** Why the guest's query was refused: its name, where one was read. */
  refused: string | undefined;

  /** `sequence`: of the guest's first byte. */
  constructor(guard: DnsGuard, sequence: number) {
    this.#guard = guard;
    this.#base = sequence | 0;
    this.#acknowledged = sequence | 0;
  }

  /** Data of the guest. `dns-order`: not now, or never; `dns-refused`: the connection has to end. */
  segment(bytes: Uint8Array, at: number, length: number, sequence: number, now: number): SegmentVerdict {
    const offset = (sequence - this.#base) | 0;
    const known = this.#held - offset;
    if (offset < 0 || known < 0 || offset + length > WINDOW) return 'dns-order';
    const same = Math.min(known, length);
    for (let index = 0; index < same; index++) {
      if (bytes[at + index] !== this.#sent[offset + index]) return 'dns-order';
    }
    if (length <= known) return 'pass';
    this.#sent.set(bytes.subarray(at + known, at + length), this.#held);
    const held = offset + length;
    for (let query = this.#query; ; ) {
      const size = held - query < PREFIX ? null : readU16(this.#sent, query);
      if (size !== null && size > MAX_QUERY) return this.#refuse(undefined);
      if (size === null || held - query < PREFIX + size) {
        this.#query = query;
        break;
      }
      const verdict = this.#guard.judge(this.#sent, query + PREFIX, size, this.#questions, 0, now);
      // The guest sends it again, and then there may be a rate.
      if (verdict === 'dns-rate') return 'dns-order';
      if (verdict !== 'pass') return this.#refuse(this.#guard.last?.name);
      query += PREFIX + size;
    }
    this.#held = held;
    return 'pass';
  }

  /** Whether a segment that ends the guest's side may go out: only behind all that was sent. */
  mayEnd(sequence: number): boolean {
    return ((sequence - this.#base) | 0) === this.#held;
  }

  /** A segment of the resolver, with what it acknowledges. */
  received(
    bytes: Uint8Array,
    at: number,
    length: number,
    sequence: number,
    acknowledgement: number,
    now: number,
  ): void {
    this.#acknowledge(acknowledgement | 0);
    this.#next ??= sequence | 0;
    const known = (this.#next - sequence) | 0;
    // A gap is filled when the resolver sends it again; what comes before that is read then.
    if (known < 0 || known >= length) return;
    this.#append(bytes.subarray(at + known, at + length));
    this.#next = (sequence + length) | 0;
    this.#read(now);
  }

  #refuse(name: string | undefined): 'dns-refused' {
    this.refused = name;
    return 'dns-refused';
  }

  #acknowledge(number: number): void {
    const fresh = (number - this.#acknowledged) | 0;
    const all = (this.#base + this.#held) | 0;
    if (fresh <= 0 || ((all - number) | 0) < 0) return;
    this.#acknowledged = number;
    // A query that is not complete is kept: it is read as a whole.
    const gone = Math.min((number - this.#base) | 0, this.#query);
    if (gone <= 0) return;
    this.#sent.copyWithin(0, gone, this.#held);
    this.#held -= gone;
    this.#query -= gone;
    this.#base = (this.#base + gone) | 0;
  }

  #append(data: Uint8Array): void {
    if (this.#have + data.length > this.#answer.length) {
      const larger = new Uint8Array(Math.max(this.#have + data.length, 2 * this.#answer.length));
      larger.set(this.#answer.subarray(0, this.#have));
      this.#answer = larger;
    }
    this.#answer.set(data, this.#have);
    this.#have += data.length;
  }

  /** Takes complete answers out; what stays is less than one, 65,537 bytes at most. */
  #read(now: number): void {
    let at = 0;
    while (this.#have - at >= PREFIX) {
      const size = readU16(this.#answer, at);
      if (this.#have - at < PREFIX + size) break;
      this.#guard.learn(this.#answer, at + PREFIX, size, this.#questions, 0, now);
      at += PREFIX + size;
    }
    this.#answer.copyWithin(0, at, this.#have);
    this.#have -= at;
  }
}
