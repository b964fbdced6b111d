/** A streaming call's answers until they are asked for. The socket is read whatever the reader does, so the queue has a bound. */
import { type Deferred, deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import type { Caller } from './outgoing.ts';
import type { CallReply } from './packet.ts';

/** Bytes of answers that wait for their reader; one more ends the stream. */
const MAX_WAITING = 64 * 1024 * 1024;
/** What keeping an answer costs beside its bytes. */
const REPLY_COST = 256;
/** Answers that were taken and not yet dropped. */
const KEPT_TAKEN = 8;

export class ReplyQueue implements Caller {
  #replies: CallReply[] = [];
  /** Of those, how many were taken: thousands may wait, and moving them all for each would take long. */
  #taken = 0;
  #cost = 0;
  #error: unknown;
  #failed = false;
  #arrived: Deferred<void> | undefined;

  reply(reply: CallReply): void {
    if (this.#failed) return;
    this.#cost += costOf(reply);
    if (this.#cost > MAX_WAITING) {
      const text = `${MAX_WAITING} bytes of a stream's items wait for their reader`;
      this.fail(new YavmError('YAVM_E_GSB_OVERFLOW', text));
    } else {
      this.#replies.push(reply);
      this.#wake();
    }
  }

  /** Ends the stream, once what has arrived was read. */
  fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#error = error;
    this.#wake();
  }

  async next(): Promise<CallReply> {
    while (this.#taken === this.#replies.length) {
      if (this.#failed) throw this.#error;
      this.#arrived ??= deferred();
      await this.#arrived.promise;
    }
    const reply = this.#replies[this.#taken++] as CallReply;
    if (this.#taken > KEPT_TAKEN && 2 * this.#taken > this.#replies.length) {
      this.#replies = this.#replies.slice(this.#taken);
      this.#taken = 0;
    }
    this.#cost -= costOf(reply);
    return reply;
  }

  #wake(): void {
    this.#arrived?.resolve();
    this.#arrived = undefined;
  }
}

function costOf(reply: CallReply): number {
  return reply.data.length + REPLY_COST;
}
