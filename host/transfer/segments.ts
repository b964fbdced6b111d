/**
 * Which bytes of a file are there, are being fetched, and by whom. Handed out from the front, so that what is there is
 * nearly all in one piece: that piece can be hashed while the rest is fetched, and is what a killed download leaves.
 */
import { type Deferred, deferred } from '../lib/deferred.ts';

/** Bytes that one connection fetches. */
export interface Segment {
  /** The first that is missing. */
  at: number;
  /** Behind `at`: what arrived and is being written. */
  claimed: number;
  /** The first that is somebody else's; moves when others help, or when the connection goes on. */
  end: number;
  /** Only asked for: whoever can go on with these bytes may take them over. */
  tentative: boolean;
}

/** Bytes; fewer are not worth a request of their own. */
const MIN_SPLIT = 4 * 1024 * 1024;

export class Segments {
  /** Bytes of the whole file; infinite when not known. */
  readonly total: number;
  readonly #size: number;
  /** Nobody has been given what comes from here on. */
  #next: number;
  readonly #active = new Set<Segment>();
  /** Given back before they were fetched. */
  #left: Segment[] = [];
  #change: Deferred<void> = deferred();

  /**
   * @param from Bytes from the beginning that are there.
   * @param size Bytes of a segment.
   */
  constructor(from: number, total: number, size: number) {
    this.#next = from;
    this.total = total;
    this.#size = size;
  }

  /** Bytes from the beginning without a gap. */
  get settled(): number {
    return this.#missing().reduce(
      (least, { at, end }) => (at < end ? Math.min(least, at) : least),
      this.#next,
    );
  }

  /** Bytes that are there, wherever. */
  get present(): number {
    return this.#missing().reduce((sum, { at, end }) => sum - (end - at), this.#next);
  }

  get complete(): boolean {
    return this.settled >= this.total;
  }

  /** The first bytes that nobody fetches, else half of what somebody has before them; null: there is nothing to help with. */
  take(): Segment | null {
    const segment = this.#first() ?? this.#half();
    if (segment) this.#active.add(segment);
    return segment;
  }

  /** Up to where a request for `segment` may ask: bytes that are nobody's follow it. */
  reach(segment: Segment): number {
    return segment.end === this.#next ? this.total : segment.end;
  }

  /** Lets a segment that is fetched go on with the bytes behind it; false when they are coming otherwise, or are there. */
  extend(segment: Segment): boolean {
    const behind = this.#missing().find(({ at, end }) => at === segment.end && at < end);
    if (behind) {
      if (this.#active.has(behind) && !behind.tentative) return false;
      segment.end = behind.end;
      behind.end = behind.at;
      return true;
    }
    if (segment.end !== this.#next || this.#next >= this.total) return false;
    this.#next = Math.min(this.#next + this.#size, this.total);
    segment.end = this.#next;
    return true;
  }

  /** Nobody fetches it any more; what is missing of it is for others. Segments of another plan are ignored. */
  release(segment: Segment): void {
    if (!this.#active.delete(segment)) return;
    segment.claimed = segment.at;
    if (segment.at < segment.end) this.#left.push(segment);
    this.#change.resolve();
    this.#change = deferred();
  }

  /** Resolves when a segment is released. */
  changed(): Promise<void> {
    return this.#change.promise;
  }

  #missing(): Segment[] {
    return [...this.#active, ...this.#left];
  }

  #first(): Segment | null {
    this.#left = this.#left.filter(({ at, end }) => at < end).sort((one, other) => one.at - other.at);
    const left = this.#left.shift();
    if (left) {
      // One request for what lies together: the first of a new attempt asks for all that is missing.
      let { end } = left;
      while (this.#left[0]?.at === end) end = this.#left.shift()?.end ?? end;
      return segmentOf(left.at, end);
    }
    if (this.#next >= this.total) return null;
    const at = this.#next;
    this.#next = Math.min(at + this.#size, this.total);
    return segmentOf(at, this.#next);
  }

  #half(): Segment | null {
    const open = ({ claimed, end }: Segment) => end - claimed;
    const [most] = [...this.#active].sort((one, other) => open(other) - open(one));
    if (!most || open(most) < 2 * MIN_SPLIT) return null;
    const middle = most.end - Math.floor(open(most) / 2);
    const segment = segmentOf(middle, most.end);
    most.end = middle;
    return segment;
  }
}

function segmentOf(at: number, end: number): Segment {
  return { at, claimed: at, end, tentative: true };
}
