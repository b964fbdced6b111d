/**
 * An activity's way to the internet: the guest's cable and the upstream's, with the filter between them. Frames that pass go on
 * as they lie in the buffer that they were read into, many in one write. Nobody is sent more than they take: who sends is
 * not read any more, and so waits.
 */
import type { Logger } from '../../lib/logger.ts';
import type { FrameBatch, FrameLink, FrameTap } from '../nic/frame-link.ts';
import { FRAME_LENGTH, StreamLink } from '../nic/stream-link.ts';
import type { NicCounters, OutboundSetup, PingReply } from '../types.ts';
import type { RelayParts } from '../vpn/relay-face.ts';
import { DROP } from './drops.ts';
import { Filter } from './filter.ts';
import type { OpenOutboundFilter, OutboundFilter } from './filter-face.ts';
import { OwnNetworks } from './own-networks.ts';
import { Pings } from './pings.ts';
import { Policy } from './policy.ts';
import { Refusals } from './refusals.ts';
import { ResolvedNames } from './resolved.ts';

/** A stream's link: frames go out as they came in, see StreamLink. */
export type FramedLink = FrameLink & Pick<StreamLink, 'sendFramed'>;

/** What the filter does to its surroundings, for tests. */
export interface FilterEffects {
  openLink(fd: number): FramedLink;
  own: Pick<OwnNetworks, 'isOwn' | 'isNear'>;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
}

export const openOutboundFilter: OpenOutboundFilter = (setup, parts) => {
  const now = () => performance.now();
  return openOutboundFilterWith(setup, parts, {
    openLink: (fd) => new StreamLink(parts.native, fd),
    own: new OwnNetworks(now),
    now,
  });
};

/** {@link openOutboundFilter} with the effects passed in. */
export function openOutboundFilterWith(
  setup: OutboundSetup,
  parts: Pick<RelayParts, 'logger' | 'counters'>,
  effects: FilterEffects,
): OutboundFilter {
  return new FilterLink(setup, parts, effects);
}

/** Milliseconds. */
const TICK = 250;

/** The run of frames that pass, in the batch that is looked at. */
interface Run {
  /** Of the first frame's length; −1: none. */
  start: number;
  end: number;
  frames: number;
}

class FilterLink implements OutboundFilter {
  readonly #logger: Logger;
  readonly #effects: FilterEffects;
  readonly #counters: Float64Array;
  readonly #nic: FramedLink;
  readonly #policy: Policy;
  readonly #refusals: Refusals;
  readonly #filter: Filter;
  readonly #pings: Pings;
  readonly #run: Run = { start: -1, end: 0, frames: 0 };
  #upstream: FramedLink | null = null;
  #ticks: NodeJS.Timeout | null = null;
  #tap: FrameTap | null = null;

  constructor(
    setup: OutboundSetup,
    { logger, counters }: Pick<RelayParts, 'logger' | 'counters'>,
    effects: FilterEffects,
  ) {
    this.#logger = logger;
    this.#effects = effects;
    this.#counters = new Float64Array(counters);
    this.#refusals = new Refusals(logger);
    this.#policy = new Policy(setup.policy, effects.own, (names) => new ResolvedNames(names));
    this.#filter = new Filter(setup, {
      policy: this.#policy,
      refusals: this.#refusals,
      emit: (side, bytes, length) => this.#emit(side, bytes, length),
    });
    this.#pings = new Pings({
      objection: (address) => this.#filter.echoObjection(address, effects.now()),
      send: (frame) => this.#sendAsGuest(frame),
      now: () => effects.now(),
    });
    this.#nic = effects.openLink(setup.nic.fd);
    this.#nic.onBatch = (batch) => this.#fromGuest(batch);
    this.#nic.onRoom = () => this.#upstream?.resume();
    this.#nic.onEnd = (error) => this.#guestGone(error);
    this.#connect(setup.upstream.fd);
  }

  stats(): ReturnType<OutboundFilter['stats']> {
    const now = this.#effects.now();
    return {
      nic: this.#nicCounters(),
      flows: this.#filter.flows(now),
      resolved: this.#policy.resolved.count(now),
      refusals: this.#refusals.list,
      dropped: this.#filter.drops.byName,
    };
  }

  replaceUpstream(fd: number): void {
    this.#upstream?.close();
    this.#connect(fd);
    this.#filter.setWayOut(true);
    this.#count();
    this.#nic.resume();
  }

  ping(address: string, milliseconds: number): Promise<PingReply> {
    return this.#pings.ping(address, milliseconds);
  }

  tap(tap: FrameTap | null): void {
    this.#tap = tap;
  }

  async close(): Promise<void> {
    clearInterval(this.#ticks ?? undefined);
    this.#nic.close();
    this.#upstream?.close();
    this.#upstream = null;
  }

  #connect(fd: number): void {
    const upstream = this.#effects.openLink(fd);
    this.#upstream = upstream;
    upstream.onBatch = (batch) => this.#toGuest(batch, upstream);
    upstream.onRoom = () => this.#nic.resume();
    upstream.onEnd = (error) => this.#upstreamGone(error);
  }

  #fromGuest({ bytes, count, offsets, lengths }: FrameBatch): void {
    const filter = this.#filter;
    const now = this.#effects.now();
    const upstream = this.#upstream;
    for (let index = 0; index < count; index++) {
      const offset = offsets[index] as number;
      const length = lengths[index] as number;
      if (this.#tap !== null) this.#tap(bytes, offset, length, 'out');
      if (filter.egress(bytes, offset, length, now)) this.#extend(offset, length);
      else this.#sendRun(upstream, bytes);
    }
    this.#sendRun(upstream, bytes);
    if (upstream?.pressed) this.#nic.pause();
    if (filter.busy) this.#tick();
    this.#count();
  }

  /** As long as the filter has something to do later. */
  #tick(): void {
    this.#ticks ??= setInterval(() => {
      this.#filter.tick(this.#effects.now());
      if (this.#filter.busy) return;
      clearInterval(this.#ticks ?? undefined);
      this.#ticks = null;
    }, TICK).unref();
  }

  #toGuest({ bytes, count, offsets, lengths }: FrameBatch, upstream: FramedLink): void {
    const filter = this.#filter;
    const now = this.#effects.now();
    for (let index = 0; index < count; index++) {
      const offset = offsets[index] as number;
      const length = lengths[index] as number;
      const passes =
        filter.ingress(bytes, offset, length, now) &&
        !(this.#pings.waiting && this.#pings.take(bytes, offset, length));
      if (passes) {
        if (this.#tap !== null) this.#tap(bytes, offset, length, 'in');
        this.#extend(offset, length);
      } else this.#sendRun(this.#nic, bytes);
    }
    this.#sendRun(this.#nic, bytes);
    if (this.#nic.pressed) upstream.pause();
    this.#count();
  }

  #extend(offset: number, length: number): void {
    const run = this.#run;
    if (run.start < 0) run.start = offset - FRAME_LENGTH;
    run.end = offset + length;
    run.frames++;
  }

  /** Frames of one run lie one after the other: each was the batch's next. */
  #sendRun(link: FramedLink | null, bytes: Uint8Array): void {
    const run = this.#run;
    if (run.start < 0) return;
    const sent = link?.sendFramed(bytes, run.start, run.end) === true;
    if (!sent) this.#filter.drops.add(DROP.full, run.frames);
    run.start = -1;
    run.frames = 0;
  }

  /** A frame of the filter's own; if there is no room, who waits for it has to wait. */
  #emit(side: 'guest' | 'upstream', bytes: Uint8Array, length: number): void {
    if (side === 'upstream') {
      this.#upstream?.send(bytes, 0, length);
      return;
    }
    if (this.#tap !== null) this.#tap(bytes, 0, length, 'in');
    this.#nic.send(bytes, 0, length);
  }

  #sendAsGuest(frame: Uint8Array): boolean {
    if (!this.#filter.egress(frame, 0, frame.length, this.#effects.now())) return false;
    return this.#upstream?.send(frame, 0, frame.length) === true;
  }

  #upstreamGone(error: Error | null): void {
    this.#upstream?.close();
    this.#upstream = null;
    // Whoever started it says more.
    this.#logger.info({ err: error ?? undefined }, "the task's way out is gone; its connections end");
    this.#filter.setWayOut(false);
    this.#count();
    this.#nic.resume();
  }

  #guestGone(error: Error | null): void {
    if (error !== null)
      this.#logger.warn({ err: error }, "the cable to the VM's card for the internet broke");
    this.#upstream?.close();
    this.#upstream = null;
    this.#filter.setWayOut(false);
  }

  #count(): void {
    const { framesOut, bytesOut, framesIn, bytesIn } = this.#nic.counters;
    const counters = this.#counters;
    counters[0] = framesOut;
    counters[1] = bytesOut;
    counters[2] = framesIn;
    counters[3] = bytesIn;
  }

  /** As the guest sees them: what comes to us is what it sends. */
  #nicCounters(): NicCounters {
    const { framesOut, bytesOut, framesIn, bytesIn } = this.#nic.counters;
    return { framesIn: framesOut, bytesIn: bytesOut, framesOut: framesIn, bytesOut: bytesIn };
  }
}
