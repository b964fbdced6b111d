/**
 * Connections whose guest has no more to say and still listens, where the way out is a passt of before 2024. What that
 * does, as measured with Debian 12's (2023-03):
 *
 * - after the guest's end it takes no acknowledgement for what it is: it moves its numbers on, but keeps the bytes. When it
 *   looks at its socket next, it sends all bytes since then again, under the new numbers, as if they were new;
 * - when the server has ended its side too, and everything is acknowledged, it forgets the connection without a word: the guest
 *   waits for ever.
 *
 * So the guest's acknowledgements are kept from it. When the guest has all that has come, and it is quiet, one is let through,
 * as a question: silence means that the server has ended; bytes mean that it has not, and then an acknowledgement far ahead gets
 * passt to begin again from a number that nothing else can have. What comes from there on is put back to where it belongs.
 *
 * The same jump keeps it from giving up a server that has not said anything yet, see patience.ts: here it takes it at its word.
 */
import { IP_PROTOCOL, readU32, TCP, TCP_FLAG, writeU16, writeU32 } from '../frame/layout.ts';
import { writeTransportChecksum } from '../frame/write-ip.ts';
import type { Answers } from './answers.ts';
import { type Flow, SIDE } from './flows.ts';
import type { Packet } from './packet.ts';

/** Bytes that the guest may get after its end: passt sends no more than one window then. */
const WINDOW = 1 << 20;
/** How far ahead the numbers begin again: more than a window, less than passt takes for the past (2^24). */
const JUMP = 1 << 22;
/** The same as long as nothing has come, after so many milliseconds; passt has to look at the first ones before there are eight. */
const SILENT_JUMP = 1 << 21;
const SILENT = 5000;
/** Milliseconds of quiet before the first question, and at most before one. */
const FIRST_QUIET = 300;
const MOST_QUIET = 5000;
/** Milliseconds in which passt answers: it is a process of this host, with nothing else to do. */
const ANSWER = 1500;
/** Times that the guest is told of the end. */
const TELLINGS = 20;
/** Connections of this kind at a time. */
const MOST = 1024;

/** All of them. */
export class HalfClosedFlows {
  readonly #answers: Answers;
  readonly #flows = new Set<HalfClosed>();

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** The guest's end is in the packet; it goes out with what this changes in it. Null: there are too many. */
  begin(packet: Packet, flow: Flow, now: number): HalfClosed | null {
    if (this.#flows.size >= MOST) return null;
    const half = new HalfClosed(packet, flow, this.#answers, now);
    this.#flows.add(half);
    return half;
  }

  /** To be called a few times a second as long as there are any. */
  tick(now: number): void {
    for (const half of this.#flows) if (half.tick(now)) this.#flows.delete(half);
  }
}

type Stage = 'open' | 'asked' | 'again' | 'ended';

export class HalfClosed {
  readonly #flow: Flow;
  readonly #answers: Answers;
  /** passt waits for an acknowledgement, with reason or without one, and not for ever. */
  readonly #impatient: boolean;
  /** What the guest had got when it ended: passt's bytes begin here. Numbers are signed, as their differences are. */
  readonly #base: number;
  /** Behind the guest's end. */
  readonly #end: number;
  /** What passt's numbers are ahead of the guest's. */
  #shift = 0;
  /** Behind the last byte that came. */
  #next: number;
  #stage: Stage = 'open';
  /** The first of the newest numbers; what was sent with older ones comes again. */
  #mark = 0;
  #ended = false;
  #seen: number;
  #quiet = FIRST_QUIET;
  #tellings = 0;

  constructor(packet: Packet, flow: Flow, answers: Answers, now: number) {
    this.#flow = flow;
    this.#answers = answers;
    this.#impatient = flow.patience !== null;
    this.#base = readU32(packet.bytes, packet.transport + TCP.acknowledgement) | 0;
    this.#end = flow.guestNext;
    this.#next = flow.remoteNext;
    this.#seen = now;
    this.#rewrite(packet, this.#base);
  }

  /** Whether a segment of the guest goes out. */
  fromGuest(packet: Packet): boolean {
    const { flags, data, bytes, transport } = packet;
    if (flags & TCP_FLAG.rst) return true;
    if (this.#stage === 'ended') return false;
    if (this.#ended) {
      const acknowledged = readU32(bytes, transport + TCP.acknowledgement);
      this.#rewrite(packet, acknowledged + this.#shift);
      return true;
    }
    // The end, or something before it, once more.
    if (data === 0 && (flags & TCP_FLAG.fin) === 0) return false;
    this.#rewrite(packet, this.#base);
    return true;
  }

  /** Whether the guest gets a segment from passt. */
  fromUpstream(packet: Packet, now: number): boolean {
    const { flags, data, bytes, transport } = packet;
    if (flags & TCP_FLAG.rst) {
      this.#answers.endForGuest(this.#flow);
      return false;
    }
    const sequence = readU32(bytes, transport + TCP.sequence) | 0;
    const old = this.#shift !== 0 && ((sequence - this.#mark) | 0) < 0;
    if (data > 0 && this.#stage === 'open' && old) return false;
    if (data > 0 && this.#stage !== 'open') {
      this.#seen = now;
      if (this.#stage === 'asked') {
        this.#stage = 'again';
        this.#mark = (this.#next + this.#shift + JUMP) | 0;
        this.#acknowledge(this.#mark);
        return false;
      }
      if (this.#stage === 'ended' || ((sequence - this.#mark) | 0) < 0) return false;
      this.#shift = (this.#mark - this.#base) | 0;
      this.#stage = 'open';
    }
    if (flags & TCP_FLAG.fin) this.#ended = true;
    // Without data, the number says where passt was when it had not looked at the newest ones.
    const shift = old && data === 0 ? (sequence - this.#next) | 0 : this.#shift;
    const next = (sequence - shift + data) | 0;
    if (data > 0) this.#seen = now;
    if (data > 0 && ((next - this.#next) | 0) > 0) {
      this.#next = next;
      this.#quiet = FIRST_QUIET;
    }
    if (shift !== 0) {
      writeU32(bytes, transport + TCP.sequence, (sequence - shift) >>> 0);
      checksum(packet);
    }
    return true;
  }

  /** Asks, or concludes. @returns whether nothing is left to do */
  tick(now: number): boolean {
    const flow = this.#flow;
    if (flow.reset || this.#ended || flow.list === null) return true;
    const waited = now - this.#seen;
    switch (this.#stage) {
      case 'open':
        // Until a byte comes after the guest's end, passt does all of it right, but for its patience.
        if (this.#next === this.#base && this.#impatient && waited >= SILENT) this.#putOff(now);
        if (this.#next === this.#base || flow.guestAcknowledged !== this.#next || waited < this.#quiet)
          return false;
        if (((this.#next - this.#base) | 0) >= WINDOW) return this.#giveUp();
        this.#stage = 'asked';
        this.#seen = now;
        this.#quiet = Math.min(2 * this.#quiet, MOST_QUIET);
        this.#acknowledge((this.#next + this.#shift) | 0);
        return false;
      case 'asked':
        if (waited >= ANSWER) this.#stage = 'ended';
        return false;
      case 'again':
        return waited >= 2 * ANSWER && this.#giveUp();
      case 'ended':
        if (flow.guestAcknowledged === ((this.#next + 1) | 0) || this.#tellings++ >= TELLINGS) {
          flow.ended |= SIDE.both;
          return true;
        }
        this.#answers.finishForGuest(flow, this.#next, this.#end);
        return false;
    }
  }

  /** passt counts anew what it waits for. */
  #putOff(now: number): void {
    this.#seen = now;
    this.#mark = (this.#next + this.#shift + SILENT_JUMP) | 0;
    this.#shift = (this.#mark - this.#base) | 0;
    this.#acknowledge(this.#mark);
  }

  /** Better none of it than a part that looks like all. */
  #giveUp(): true {
    this.#answers.endForGuest(this.#flow);
    this.#answers.endForUpstream(this.#flow);
    this.#flow.reset = true;
    return true;
  }

  #acknowledge(number: number): void {
    this.#answers.acknowledgeForUpstream(this.#flow, this.#end, number);
  }

  /** passt gets another acknowledgement, and all of the window that it is to have. */
  #rewrite(packet: Packet, acknowledgement: number): void {
    const { bytes, transport } = packet;
    writeU32(bytes, transport + TCP.acknowledgement, acknowledgement >>> 0);
    writeU16(bytes, transport + TCP.window, Math.min(0xffff, WINDOW >> this.#flow.guestScale));
    checksum(packet);
  }
}

function checksum({ bytes, ip, transport, size }: Packet): void {
  writeTransportChecksum(bytes, ip, transport, size, IP_PROTOCOL.tcp, TCP.checksum);
}

/** By how many bits the guest's windows are shifted, from its first segment (RFC 7323); 0 where it does not say. */
export function windowScale({ bytes, transport, size, data }: Packet): number {
  const end = transport + size - data;
  for (let at = transport + TCP.header; at < end; ) {
    const kind = bytes[at] as number;
    if (kind === 0) return 0;
    if (kind === 3 && at + 2 < end) return Math.min(14, bytes[at + 2] as number);
    at += kind === 1 ? 1 : Math.max(2, bytes[at + 1] as number);
  }
  return 0;
}
