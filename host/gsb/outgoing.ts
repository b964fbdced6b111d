/** Calls that we make: each has an id of its own, waits for its answers, and ends at its deadline (exe-unit.md 1.6). */
import { randomBytes } from 'node:crypto';
import { YavmError } from '../lib/errors.ts';
import type { CallReply } from './packet.ts';

/** Who waits for the answers to one call. */
export interface Caller {
  reply(reply: CallReply): void;
  /** The connection that carried the call is gone, or the call was never sent. */
  fail(error: YavmError): void;
}

/** Calls under way at a time; one that is never answered leaves at its deadline. */
const MAX_CALLS = 4096;

export class OutgoingCalls {
  /** Ids must be unique among all programs on the bus. */
  readonly #prefix = randomBytes(12).toString('hex');
  #count = 0;
  readonly #callers = new Map<string, Caller>();
  /** Calls that wait for a connection: how to send them. */
  readonly #waiting = new Map<string, () => void>();

  nextId(): string {
    return `${this.#prefix}${(this.#count++).toString(16)}`;
  }

  /** Adds a call, which the owner sends or leaves to wait. @throws {YavmError} YAVM_E_GSB_BUSY when there are too many */
  add(id: string, caller: Caller): void {
    if (this.#callers.size >= MAX_CALLS) {
      throw new YavmError('YAVM_E_GSB_BUSY', `${MAX_CALLS} calls wait for their answers`);
    }
    this.#callers.set(id, caller);
  }

  /** Keeps a call until there is a connection. */
  wait(id: string, send: () => void): void {
    this.#waiting.set(id, send);
  }

  /** Sends those that waited, in their order. */
  sendWaiting(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const send of waiting) send();
  }

  /** The call is over, or nobody waits for it any more. */
  remove(id: string): void {
    this.#callers.delete(id);
    this.#waiting.delete(id);
  }

  /** Answers to calls that are over come late, or are nobody's: they are ignored. */
  receive(reply: CallReply): void {
    this.#callers.get(reply.requestId)?.reply(reply);
  }

  /** Fails the calls that were sent; with `all`, those that wait, too. */
  fail(error: YavmError, all: boolean): void {
    for (const [id, caller] of [...this.#callers]) {
      if (!all && this.#waiting.has(id)) continue;
      this.remove(id);
      caller.fail(error);
    }
  }
}
