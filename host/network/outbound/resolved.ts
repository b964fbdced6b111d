/**
 * Names of the rules as DNS has answered them: which addresses a name has now, and for how long. Who learns here has checked
 * that the answer is one to a question of the guest, from the resolver that it may ask.
 */
import { formatIp } from '../frame/address.ts';
import type { DnsAnswer } from '../frame/dns.ts';
import { reservedFor } from './ranges.ts';

/**
 * An address serves this much longer than its TTL: a program connects after it has the answer. Connections that exist outlive
 * it in any case. Milliseconds.
 */
const GRACE = 10_000;
/** A TTL beyond this counts as this. Seconds. */
const MAX_TTL = 24 * 3600;
/** Steps from a name to its address. */
const MAX_CHAIN = 16;
/** Entries of each table; the one that was told longest ago goes first. */
const MAX_ADDRESSES = 4096;
const MAX_ALIASES = 1024;
const MAX_SEEN = 1024;

/** Names of rules, and until when (milliseconds of the clock). */
type Roots = Map<string, number>;

export class ResolvedNames {
  readonly #names: ReadonlySet<string>;
  readonly #aliases = new Map<string, Roots>();
  readonly #addresses = new Map<string, Roots>();
  /** Address → the name that was asked for last, for reports. */
  readonly #seen = new Map<string, string>();

  /** `names`: those of the rules, in lower case, without the last dot. */
  constructor(names: ReadonlySet<string>) {
    this.#names = names;
  }

  /** Whether the guest may ask for the name: a rule has it, or such a name led to it. */
  permits(name: string, now: number): boolean {
    return this.#names.has(name) || valid(this.#aliases.get(name), now).length > 0;
  }

  /** Names of rules that have this address now. */
  namesAt(address: Uint8Array, now: number): string[] {
    return valid(this.#addresses.get(formatIp(address)), now);
  }

  /** A name that the guest had resolved to the address, whatever became of it. */
  nameFor(address: Uint8Array): string | undefined {
    return this.#seen.get(formatIp(address));
  }

  /** Addresses that a name of a rule has now. */
  count(now: number): number {
    let count = 0;
    for (const roots of this.#addresses.values()) if (valid(roots, now).length > 0) count++;
    return count;
  }

  learn(answer: DnsAnswer, now: number): void {
    const roots = valid(this.#aliases.get(answer.name), now);
    if (this.#names.has(answer.name)) roots.push(answer.name);
    let name = answer.name;
    let ttl = MAX_TTL;
    for (let step = 0; step < MAX_CHAIN; step++) {
      let next: { name: string; ttl: number } | null = null;
      for (const { owner, ttl: own, data } of answer.records) {
        if (owner !== name) continue;
        if ('cname' in data) next ??= { name: data.cname, ttl: Math.min(ttl, own) };
        else this.#address(data.address, answer.name, roots, until(now, Math.min(ttl, own)));
      }
      if (next === null) return;
      ({ name, ttl } = next);
      if (roots.length > 0 && !this.#names.has(name)) {
        add(this.#aliases, name, roots, until(now, ttl), MAX_ALIASES);
      }
    }
  }

  #address(address: Uint8Array, asked: string, roots: readonly string[], end: number): void {
    const text = formatIp(address);
    this.#seen.delete(text);
    this.#seen.set(text, asked);
    trim(this.#seen, MAX_SEEN);
    // A name that leads into the provider's network opens nothing there.
    if (roots.length > 0 && reservedFor(address) === null) {
      add(this.#addresses, text, roots, end, MAX_ADDRESSES);
    }
  }
}

function until(now: number, ttl: number): number {
  return now + ttl * 1000 + GRACE;
}

function valid(roots: Roots | undefined, now: number): string[] {
  const names: string[] = [];
  if (roots) for (const [name, end] of roots) if (end > now) names.push(name);
  return names;
}

/** An answer never shortens what an earlier one gave: that one's TTL still runs. */
function add(
  table: Map<string, Roots>,
  key: string,
  roots: readonly string[],
  end: number,
  most: number,
): void {
  const known: Roots = table.get(key) ?? new Map();
  for (const root of roots) known.set(root, Math.max(end, known.get(root) ?? 0));
  table.delete(key);
  table.set(key, known);
  trim(table, most);
}

function trim(table: Map<string, unknown>, most: number): void {
  for (const key of table.keys()) {
    if (table.size <= most) return;
    table.delete(key);
  }
}
