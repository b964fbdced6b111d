/** `ya-vm net ping`: echo requests over a VM's network, shown as ping(8) does. */
import { isIP } from 'node:net';
import { sleep } from '../lib/deadline.ts';
import { isYavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import type { PingReply } from '../network/types.ts';
import { print } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted } from './interrupts.ts';
import type { Watched } from './net.ts';
import { usageError } from './options.ts';

export interface PingOptions {
  address: string;
  /** Undefined: until Ctrl-C. */
  count?: number;
  /** Milliseconds between two requests. */
  interval: number;
  /** Milliseconds for an answer. */
  wait: number;
}

/** Requests under way at most: with more than that nobody wants to know of any single one. */
const MAX_PENDING = 32;

/** @returns the exit code: 1 when nothing came back */
export async function netPing(watched: Watched, options: PingOptions): Promise<number> {
  const { context, id, signal } = watched;
  const { address } = options;
  if (isIP(address) === 0) {
    throw usageError(`'${address}' is no address`, 'Names are known in the VM only: see ya-vm net peers.');
  }
  await print(context, `PING ${address} from VM ${id}`);
  const tally = new Tally();
  const pending = new Set<Promise<void>>();
  let failure: { error: unknown } | null = null;
  const ended = new AbortController();
  try {
    const until = AbortSignal.any([signal, ended.signal]);
    for (let number = 1; number <= (options.count ?? Number.POSITIVE_INFINITY); number++) {
      if (number > 1) await sleep(options.interval, until);
      while (pending.size >= MAX_PENDING) await unless(Promise.race(pending), until);
      tally.sent++;
      const one = ask(watched, options, number, tally)
        .catch((error) => {
          failure ??= { error };
          ended.abort();
        })
        .finally(() => pending.delete(one));
      pending.add(one);
    }
    await unless(Promise.all(pending), until);
  } catch (error) {
    if (!(error instanceof Interrupted || ended.signal.aborted)) throw error;
  }
  await print(context, ...summary(address, tally));
  const { error } = failure ?? ({} as { error?: unknown });
  if (error !== undefined) throw error;
  return tally.received > 0 ? EXIT.ok : EXIT.noAnswer;
}

/** @throws {YavmError} what makes more requests useless: the VM has ended */
async function ask(
  { context, control, signal }: Watched,
  { address, wait }: PingOptions,
  number: number,
  tally: Tally,
): Promise<void> {
  let reply: PingReply;
  try {
    reply = await control.ping(address, wait);
  } catch (error) {
    if (!isYavmError(error, 'YAVM_E_NET_PING')) throw error;
    if (!signal.aborted) await print(context, `no reply: icmp_seq=${number} ${printable(error.message)}`);
    return;
  }
  // What comes while the summary is written is no part of it.
  if (signal.aborted) return;
  tally.add(reply.milliseconds);
  await print(context, `reply from ${address}: icmp_seq=${number} time=${figure(reply.milliseconds)} ms`);
}

async function unless(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const abort = new AbortController();
  // Never resolves before the signal: it is there to reject.
  const interrupted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { signal: abort.signal });
  });
  try {
    await Promise.race([work, interrupted]);
  } finally {
    abort.abort();
  }
}

class Tally {
  sent = 0;
  received = 0;
  #least = Number.POSITIVE_INFINITY;
  #most = 0;
  #sum = 0;

  add(milliseconds: number): void {
    this.received++;
    this.#sum += milliseconds;
    this.#least = Math.min(this.#least, milliseconds);
    this.#most = Math.max(this.#most, milliseconds);
  }

  /** `min/avg/max`; undefined: nothing came back. */
  get times(): string | undefined {
    if (this.received === 0) return undefined;
    return [this.#least, this.#sum / this.received, this.#most].map(figure).join('/');
  }
}

function summary(address: string, { sent, received, times }: Tally): string[] {
  const lost = sent === 0 ? 0 : Math.round((100 * (sent - received)) / sent);
  return [
    '',
    `--- ${address} ping statistics ---`,
    `${sent} packets transmitted, ${received} received, ${lost}% packet loss`,
    ...(times === undefined ? [] : [`rtt min/avg/max = ${times} ms`]),
  ];
}

/** Three digits that count, as ping has them. */
function figure(milliseconds: number): string {
  return milliseconds.toFixed(milliseconds < 10 ? 3 : milliseconds < 100 ? 2 : 1);
}
