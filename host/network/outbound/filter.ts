/**
 * What may pass between a guest and its way out. Every frame is passed, or counted once: as a refused connection, with a quick
 * answer to the guest, or as dropped. Pure but for the frames that it makes itself, which it gives to `emit`.
 */
import type { Drops } from './drops.ts';
import { Egress } from './egress.ts';
import { type FilterParts, type FilterSetup, FilterState } from './filter-state.ts';
import { Ingress } from './ingress.ts';

export class Filter {
  readonly #state: FilterState;
  readonly #egress: Egress;
  readonly #ingress: Ingress;

  constructor(setup: FilterSetup, parts: FilterParts) {
    this.#state = new FilterState(setup, parts);
    this.#egress = new Egress(this.#state);
    this.#ingress = new Ingress(this.#state);
  }

  /** Whether a frame of the guest goes out. `now`: milliseconds of a clock that only goes forward. */
  egress(bytes: Uint8Array, start: number, length: number, now: number): boolean {
    this.#state.now = now;
    return this.#egress.frame(bytes, start, length);
  }

  /** Whether the guest gets a frame from outside. */
  ingress(bytes: Uint8Array, start: number, length: number, now: number): boolean {
    this.#state.now = now;
    return this.#ingress.frame(bytes, start, length);
  }

  /** Why the guest may not send an echo request to the address, or null. */
  echoObjection(address: Uint8Array, now: number): string | null {
    const { wayOut, ipv6, policy } = this.#state;
    if (!wayOut) return 'no-way-out';
    if (address.length === 16 && !ipv6) return 'no-ipv6';
    return policy.refusal('icmp', address, 0, now);
  }

  /** What has to be done after some time: where `busy`, a few times a second. */
  tick(now: number): void {
    this.#state.halfClosed?.tick(now);
    this.#state.patient?.tick(now);
  }

  get busy(): boolean {
    const { halfClosed, patient } = this.#state;
    return (halfClosed !== null && halfClosed.size > 0) || (patient !== null && patient.size > 0);
  }

  get drops(): Drops {
    return this.#state.drops;
  }

  /** Connections and exchanges under way. */
  flows(now: number): number {
    const { tcp, exchanges } = this.#state;
    tcp.expire(now);
    exchanges.expire(now);
    return tcp.size + exchanges.size;
  }

  /** The way out is gone, or another: connections end for the guest, and exchanges are forgotten. Without one, nothing begins. */
  setWayOut(there: boolean): void {
    const { tcp, exchanges, answers } = this.#state;
    for (const flow of tcp.all()) if (!flow.reset) answers.endForGuest(flow);
    tcp.clear();
    exchanges.clear();
    this.#state.wayOut = there;
  }
}
