/** Whether a new connection may be made: the rules, and the ranges that need one. */
import { formatIp, inRange } from '../frame/address.ts';
import { INET, type OutboundPolicy } from '../types.ts';
import type { OwnNetworks } from './own-networks.ts';
import { parseRange, reservedFor } from './ranges.ts';
import type { ResolvedNames } from './resolved.ts';

/** The network between guest and gateway: its resolver is let through elsewhere, and nothing else is there. */
const GATEWAYS = [`${INET.gateway}/${INET.prefix}`, `${INET.gateway6}/${INET.prefix6}`].map(parseRange);

export type Protocol = 'tcp' | 'udp' | 'icmp';

export class Policy {
  readonly #unrestricted: boolean;
  readonly #own: Pick<OwnNetworks, 'isOwn' | 'isNear'>;
  readonly #resolved: ResolvedNames;
  /** `tcp 443` by name, and by address. */
  readonly #names = new Map<string, Set<string>>();
  readonly #addresses = new Map<string, Set<string>>();

  constructor(
    policy: OutboundPolicy,
    own: Pick<OwnNetworks, 'isOwn' | 'isNear'>,
    resolved: (names: ReadonlySet<string>) => ResolvedNames,
  ) {
    this.#unrestricted = policy.unrestricted;
    this.#own = own;
    for (const { host, protocol, port } of policy.rules) {
      const [table, key] =
        'name' in host ? [this.#names, canonicalName(host.name)] : [this.#addresses, host.address];
      const ports = table.get(key) ?? new Set();
      table.set(key, ports.add(`${protocol} ${port}`));
    }
    this.#resolved = resolved(new Set(this.#names.keys()));
  }

  /** What the names of the rules have been resolved to. */
  get resolved(): ResolvedNames {
    return this.#resolved;
  }

  /**
   * Why there may be no connection to the address, or null. An echo request is allowed where anything is. `port` is none for it.
   * Address of 4 or 16 bytes.
   */
  refusal(protocol: Protocol, address: Uint8Array, port: number, now: number): string | null {
    if (GATEWAYS.some(({ network, prefix }) => inRange(address, network, prefix))) return 'gateway';
    if (this.#own.isOwn(address)) return 'provider';
    const wanted = protocol === 'icmp' ? null : `${protocol} ${port}`;
    const fits = (ports: Set<string> | undefined) =>
      ports !== undefined && (wanted === null || ports.has(wanted));
    if (fits(this.#addresses.get(formatIp(address)))) return null;
    const reserved = reservedFor(address);
    if (reserved !== null) return reserved;
    if (this.#own.isNear(address)) return 'provider-network';
    if (this.#unrestricted) return null;
    const listed = this.#resolved.namesAt(address, now).some((name) => fits(this.#names.get(name)));
    return listed ? null : 'not-listed';
  }
}

/** In lower case, without the last dot: as names of DNS answers are written (frame/dns.ts). */
function canonicalName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}
