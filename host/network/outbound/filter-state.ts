/** What both directions of the filter share: who is who, what is under way, and what was counted. */
import { parseIp } from '../frame/address.ts';
import type { OutboundSetup } from '../types.ts';
import { Answers, type Emit } from './answers.ts';
import { DnsGuard } from './dns-guard.ts';
import { DROP, Drops } from './drops.ts';
import { exchangeIdle, type Flow, FlowTable, SIDE, tcpEnding, tcpIdle } from './flows.ts';
import { HalfClosedFlows } from './half-closed.ts';
import { Neighbours } from './neighbours.ts';
import { PatientFlows } from './patience.ts';
import type { Policy } from './policy.ts';
import type { Refusals } from './refusals.ts';

/** Connections, and exchanges of datagrams, at a time. */
const MAX_CONNECTIONS = 8192;
const MAX_EXCHANGES = 4096;
/** An open connection may be given up for a new one when nothing has passed for so long. Milliseconds. */
const EVICT_AFTER = 60_000;

export interface FilterParts {
  policy: Policy;
  refusals: Refusals;
  /** A frame of the filter's own; to be copied at once. */
  emit: Emit;
}

export type FilterSetup = Pick<OutboundSetup, 'policy' | 'dns' | 'ipv6' | 'published' | 'mendsOldPasst'>;

export class FilterState {
  readonly policy: Policy;
  readonly refusals: Refusals;
  readonly drops = new Drops();
  readonly neighbours: Neighbours;
  readonly answers: Answers;
  readonly guard: DnsGuard;
  readonly tcp: FlowTable;
  /** UDP, and echoes. */
  readonly exchanges: FlowTable;
  /** Null: the way out does it right. */
  readonly halfClosed: HalfClosedFlows | null;
  readonly patient: PatientFlows | null;
  readonly ipv6: boolean;
  /** Guest ports that others may connect to: `tcp 80`. */
  readonly published: ReadonlySet<string>;
  /** The resolver, by the guest's address that asks it. */
  readonly dns: readonly (Uint8Array | null)[];
  /** Whether there is a way out now. */
  wayOut = true;
  /** Of the frame that is looked at. Milliseconds of a clock that only goes forward. */
  now = 0;

  constructor(setup: FilterSetup, { policy, refusals, emit }: FilterParts) {
    this.policy = policy;
    this.refusals = refusals;
    this.ipv6 = setup.ipv6;
    this.neighbours = new Neighbours(setup.dns);
    this.answers = new Answers(this.neighbours, emit);
    this.halfClosed = setup.mendsOldPasst ? new HalfClosedFlows(this.answers) : null;
    this.patient = setup.mendsOldPasst ? new PatientFlows(this.answers) : null;
    this.guard = new DnsGuard(!setup.policy.unrestricted, policy.resolved);
    const ipv6 = setup.dns.ipv6 === null ? null : parseIp(setup.dns.ipv6);
    this.dns = [parseIp(setup.dns.ipv4), ipv6, ipv6];
    this.published = new Set(setup.published.map(({ protocol, guestPort }) => `${protocol} ${guestPort}`));
    this.tcp = new FlowTable({
      most: MAX_CONNECTIONS,
      idleOf: tcpIdle,
      ending: tcpEnding,
      evictAfter: EVICT_AFTER,
      onForget: (flow) => this.#forgotten(flow),
    });
    this.exchanges = new FlowTable({ most: MAX_EXCHANGES, idleOf: exchangeIdle, evictAfter: 0 });
  }

  /** Counts a frame that goes nowhere. @param reason A value of {@link DROP}. @returns false: it does not pass */
  drop(reason: number): false {
    this.drops.add(reason);
    return false;
  }

  /** ARP and neighbour discovery: let through, if there is somebody to ask. */
  discovery(sound: boolean, reason: number): boolean {
    if (!sound) return this.drop(reason);
    return this.wayOut || this.drop(DROP['no-way-out']);
  }

  /** Who still believes in the connection learns that it is over. */
  #forgotten(flow: Flow): void {
    if (flow.reset || flow.ended === SIDE.both) return;
    this.answers.endForGuest(flow);
    this.answers.endForUpstream(flow);
  }
}
