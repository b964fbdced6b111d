/** A filter with a clock that a test turns, and what became of each frame. */

import { silentLogger } from '../../host/lib/logger.ts';
import { DROP } from '../../host/network/outbound/drops.ts';
import { Filter } from '../../host/network/outbound/filter.ts';
import { parseUrlRules } from '../../host/network/outbound/parse-urls.ts';
import { Policy } from '../../host/network/outbound/policy.ts';
import { Refusals } from '../../host/network/outbound/refusals.ts';
import { ResolvedNames } from '../../host/network/outbound/resolved.ts';
import type { PublishedPort } from '../../host/network/types.ts';
import { addressBytes, GATEWAY, type Read, read } from './outbound-frames.ts';

export interface FilterOptions {
  /** What is allowed; without it everything is that is nobody's own. */
  urls?: string[];
  /** Allowed beside everything. */
  extra?: string[];
  /** Addresses, and networks (their first bytes in hexadecimal), of the provider. */
  own?: string[];
  near?: string;
  published?: PublishedPort[];
  dns?: { ipv4: string; ipv6: string | null };
  ipv6?: boolean;
}

export type Fate = 'passed' | `refused: ${string}` | `dropped: ${string}`;

const REASONS = new Map(Object.entries(DROP).map(([name, number]) => [number as number, name]));

export class TestFilter {
  now = 1_000_000;
  readonly filter: Filter;
  readonly refusals = new Refusals(silentLogger);
  readonly policy: Policy;
  /** Frames that the filter made. */
  readonly toGuest: Read[] = [];
  readonly toUpstream: Read[] = [];
  /** The same, as bytes. */
  readonly made: Uint8Array[] = [];
  readonly #counted: Fate[] = [];

  constructor({ urls, extra = [], own = [], near, published = [], dns, ipv6 = true }: FilterOptions = {}) {
    const policy = { unrestricted: urls === undefined, rules: parseUrlRules(urls ?? extra) };
    const hex = own.map((address) => addressBytes(address).toString('hex'));
    const text = (address: Uint8Array) => Buffer.from(address).toString('hex');
    this.policy = new Policy(
      policy,
      {
        isOwn: (address) => hex.includes(text(address)),
        isNear: (address) => near !== undefined && text(address).startsWith(near),
      },
      (names) => new ResolvedNames(names),
    );
    this.filter = new Filter(
      { policy, published, ipv6, dns: dns ?? { ipv4: GATEWAY.ipv4, ipv6: GATEWAY.ipv6 } },
      {
        policy: this.policy,
        refusals: this.refusals,
        emit: (side, bytes, length) => {
          this.made.push(bytes.slice(0, length));
          (side === 'guest' ? this.toGuest : this.toUpstream).push(read(bytes.subarray(0, length)));
        },
      },
    );
    this.#listen();
  }

  /** A frame from the guest. */
  out(frame: Uint8Array): Fate {
    return this.#fate(() => this.filter.egress(frame, 0, frame.length, this.now));
  }

  /** A frame from outside. */
  in(frame: Uint8Array): Fate {
    return this.#fate(() => this.filter.ingress(frame, 0, frame.length, this.now));
  }

  pass(milliseconds: number): void {
    this.now += milliseconds;
  }

  /** Frames that the filter made for the guest since the last call. */
  answers(): Read[] {
    return this.toGuest.splice(0);
  }

  /** Each frame is passed, or counted exactly once. @throws Error when it is not */
  #fate(decide: () => boolean): Fate {
    this.#counted.length = 0;
    const passed = decide();
    const [fate, ...more] = this.#counted;
    if (passed === (fate !== undefined) || more.length > 0) {
      throw new Error(`${passed ? 'passed' : 'stopped'}, and counted: ${this.#counted.join(', ')}`);
    }
    return fate ?? 'passed';
  }

  /** Hears of each count. */
  #listen(): void {
    const { refusals } = this;
    const { drops } = this.filter;
    const refuse = refusals.add.bind(refusals);
    const drop = drops.add.bind(drops);
    refusals.add = (destination, reason, name) => {
      this.#counted.push(`refused: ${reason}`);
      refuse(destination, reason, name);
    };
    drops.add = (reason) => {
      this.#counted.push(`dropped: ${REASONS.get(reason)}`);
      drop(reason);
    };
  }
}
