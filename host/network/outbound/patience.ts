/**
 * Connections on which the other side has said nothing yet, or whose guest takes nothing, where the way out is a passt of before
 * 2024. Debian 12's (2023-03) waits for an acknowledgement of the guest's, repeats every two seconds what it has to say, and
 * after seven times resets the connection. It waits so rightly when there are bytes to acknowledge, and without any reason in two cases:
 *
 * - from the beginning until the guest has acknowledged a first byte of the server (its first segment does not count, as passt has
 *   counted that before). A server that says nothing for 24 seconds is gone: a long upload over HTTP, an answer that takes long;
 * - while the guest's window is closed, and bytes wait for it: 16 seconds.
 *
 * There is no segment that ends the waiting, but one that puts it off by two seconds: an acknowledgement of nothing new, twice, while
 * the guest's window is closed. So that is what passt gets from here once a second. For a quarter of it the guest's window is
 * closed, as far as passt is told, and the guest's own segments say nothing of it; then it is told the truth, and at once if
 * bytes come. The waiting ends for certain when the guest acknowledges bytes that passt sent well after that.
 */
import { readU16, TCP, TCP_FLAG, writeU16 } from '../frame/layout.ts';
import type { Answers } from './answers.ts';
import type { Flow } from './flows.ts';
import type { Packet } from './packet.ts';

/** Milliseconds until passt is asked to wait: of a server that is silent, of a guest that takes nothing. */
const SILENT = 4000;
const CLOSED = 1000;
/** Milliseconds from one time to the next; passt counts after 2000. */
const PERIOD = 1000;
/** Milliseconds in which passt has surely read what was sent. */
const READ = 500;

/** All of them; no more than there are connections. */
export class PatientFlows {
  readonly #answers: Answers;
  readonly #flows = new Set<Patience>();

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** The other side has just agreed to the connection, or asked for it: `first` is the number of its first byte. */
  begin(flow: Flow, first: number, now: number): void {
    this.#add(flow, first, now + SILENT);
  }

  /** A segment of the guest on a connection that is not waited for: whether it will have to be. */
  look(packet: Packet, flow: Flow, now: number): void {
    const { bytes, transport, flags } = packet;
    if ((flags & (TCP_FLAG.ack | TCP_FLAG.syn | TCP_FLAG.rst | TCP_FLAG.fin)) !== TCP_FLAG.ack) return;
    if (readU16(bytes, transport + TCP.window) !== 0) return;
    this.#add(flow, flow.guestAcknowledged ?? 0, now + CLOSED).fromGuest(packet);
  }

  /** To be called a few times a second as long as there are any. */
  tick(now: number): void {
    for (const patience of this.#flows) patience.tick(now);
  }

  #add(flow: Flow, doubt: number, at: number): Patience {
    flow.patience?.end();
    flow.patience = new Patience(flow, this.#answers, this.#flows, doubt, at);
    this.#flows.add(flow.patience);
    return flow.patience;
  }
}

export class Patience {
  readonly #flow: Flow;
  readonly #answers: Answers;
  /** All of them. */
  readonly #all: Set<Patience>;
  /** passt may still wait though the guest has acknowledged all up to here. Signed, as differences of such numbers are. */
  #doubt: number;
  /** When passt is asked next. */
  #at: number;
  /** When passt was last told the truth about the window; null: it is to believe that it is closed. */
  #told: number | null = Number.NEGATIVE_INFINITY;
  /** The guest has confirmed the connection, and its window, as on the wire. */
  #confirmed = false;
  #window = 0;

  constructor(flow: Flow, answers: Answers, all: Set<Patience>, doubt: number, at: number) {
    this.#flow = flow;
    this.#answers = answers;
    this.#all = all;
    this.#doubt = doubt | 0;
    this.#at = at;
  }

  /** Nothing is left to do. */
  end(): void {
    this.#all.delete(this);
    if (this.#flow.patience === this) this.#flow.patience = null;
  }

  /** Whether a segment of the guest goes out; its numbers are the flow's already. */
  fromGuest(packet: Packet): boolean {
    const { bytes, transport, flags, data } = packet;
    if ((flags & TCP_FLAG.ack) === 0) return true;
    const window = readU16(bytes, transport + TCP.window);
    this.#confirmed = true;
    // That of a first segment is not scaled (RFC 7323 2.2).
    this.#window = flags & TCP_FLAG.syn ? Math.max(1, window >> this.#flow.guestScale) : window;
    if ((flags & (TCP_FLAG.fin | TCP_FLAG.rst)) !== 0) this.end();
    if ((flags & (TCP_FLAG.syn | TCP_FLAG.fin | TCP_FLAG.rst)) !== 0) return true;
    if (this.#told === null) {
      if (data === 0) return false;
      dropAcknowledgement(packet);
      return true;
    }
    const acknowledged = this.#flow.guestAcknowledged ?? this.#doubt;
    if (window !== 0 && ((acknowledged - this.#doubt) | 0) > 0) this.end();
    return true;
  }

  /** Bytes, or the end, of the other side: the flow's numbers have them. */
  fromUpstream(now: number): void {
    if (this.#told === null) this.#tell(now);
    // When they are acknowledged, it counts from the beginning.
    this.#at = Math.max(this.#at, now + SILENT);
    // passt may have sent them before it read what it was told, and then have gone back without a reason.
    if (now - (this.#told ?? now) < READ) this.#doubt = this.#flow.remoteNext;
  }

  tick(now: number): void {
    const flow = this.#flow;
    if (flow.reset || flow.list === null) {
      this.end();
      return;
    }
    if (this.#told === null) {
      this.#tell(now);
      return;
    }
    // What the guest has not acknowledged passt waits for with reason.
    if (!this.#confirmed || now < this.#at || flow.guestAcknowledged !== flow.remoteNext) return;
    this.#at = now + PERIOD;
    this.#told = null;
    this.#doubt = flow.remoteNext;
    // The first one closes the window, the second one asks: both may be read at once, or not.
    this.#acknowledge(0);
    this.#acknowledge(0);
  }

  #tell(now: number): void {
    this.#told = now;
    this.#acknowledge(this.#window);
  }

  #acknowledge(window: number): void {
    const flow = this.#flow;
    this.#answers.acknowledgeForUpstream(flow, flow.guestNext, flow.guestAcknowledged ?? 0, window);
  }
}

/** The segment is data only: passt reads neither its acknowledgement nor its window. */
function dropAcknowledgement({ bytes, transport }: Packet): void {
  const at = transport + TCP.flags;
  bytes[at] = (bytes[at] as number) & ~TCP_FLAG.ack;
  // RFC 1624: the sum is without that word's bit, its complement has it more.
  const sum = readU16(bytes, transport + TCP.checksum) + TCP_FLAG.ack;
  writeU16(bytes, transport + TCP.checksum, (sum & 0xffff) + (sum >>> 16));
}
