/**
 * What the guest may ask its resolver, and what the answers tell. With a list of what is allowed, only names of its rules may be
 * asked for, and names that those lead to: any other name would carry out what the guest puts into it. Refused names do
 * not exist, as far as the guest can tell: of the answers that refuse, it is the one that no resolver library tries again.
 */
import { type DnsAnswer, type DnsQuery, readAnswer, readQuery } from '../frame/dns.ts';
import type { ResolvedNames } from './resolved.ts';
import { TokenBucket } from './token-bucket.ts';

/** Longest query: a name, and what EDNS adds to it. Bytes. */
export const MAX_QUERY = 512;
/** Queries a second, where names are limited. */
const RATE = 200;
/** How long a question waits for its answer. Milliseconds. */
const PATIENCE = 30_000;
/** Questions under way; the oldest is given up first. */
const MAX_QUESTIONS = 1024;

export type QueryVerdict = 'pass' | 'no-such-name' | 'dns-malformed' | 'dns-rate';

export class DnsGuard {
  readonly #restricted: boolean;
  readonly #resolved: ResolvedNames;
  readonly #rate = new TokenBucket(RATE, 2 * RATE);
  readonly #questions = new Questions();
  /** The query that the last call of `judge` read. */
  last: DnsQuery | null = null;

  /** `restricted`: only names of rules. */
  constructor(restricted: boolean, resolved: ResolvedNames) {
    this.#restricted = restricted;
    this.#resolved = resolved;
  }

  get restricted(): boolean {
    return this.#restricted;
  }

  /** A message over UDP from a port of the guest to the resolver. */
  datagram(bytes: Uint8Array, at: number, length: number, port: number, now: number): QueryVerdict {
    return this.judge(bytes, at, length, this.#questions, port, now);
  }

  /** A message from the resolver to that port. */
  answered(bytes: Uint8Array, at: number, length: number, port: number, now: number): void {
    this.learn(bytes, at, length, this.#questions, port, now);
  }

  /** A query that is let through is remembered among `questions`, under `port`. */
  judge(
    bytes: Uint8Array,
    at: number,
    length: number,
    questions: Questions,
    port: number,
    now: number,
  ): QueryVerdict {
    const query = length > MAX_QUERY ? null : readQuery(bytes, at, length);
    this.last = query;
    if (this.#restricted) {
      if (query === null) return 'dns-malformed';
      if (!this.#rate.take(now)) return 'dns-rate';
      if (!this.#resolved.permits(query.name, now)) return 'no-such-name';
    }
    if (query !== null) questions.add(port, query, now);
    return 'pass';
  }

  /** An answer counts once, and only if it is one to a question. */
  learn(
    bytes: Uint8Array,
    at: number,
    length: number,
    questions: Questions,
    port: number,
    now: number,
  ): void {
    const answer = readAnswer(bytes, at, length);
    if (answer !== null && questions.take(port, answer, now)) this.#resolved.learn(answer, now);
  }
}

/** Questions that wait for an answer. */
export class Questions {
  readonly #waiting = new Map<number, { name: string; type: number; end: number }>();

  add(port: number, { id, name, type }: DnsQuery, now: number): void {
    const key = port * 0x10000 + id;
    this.#waiting.delete(key);
    this.#waiting.set(key, { name, type, end: now + PATIENCE });
    for (const oldest of this.#waiting.keys()) {
      if (this.#waiting.size <= MAX_QUESTIONS) break;
      this.#waiting.delete(oldest);
    }
  }

  /** Whether this was asked, from this port; from then on it is not any more. */
  take(port: number, { id, name, type }: DnsAnswer, now: number): boolean {
    const key = port * 0x10000 + id;
    const question = this.#waiting.get(key);
    if (question?.name !== name || question.type !== type || question.end < now) return false;
    this.#waiting.delete(key);
    return true;
  }
}
