/** Requests in flight: numbered, each with a deadline, each answered once. */

import { checkCbor, MAX_VALUES } from '../../guest/protocol/cbor.ts';
import { at, type Check } from '../../guest/protocol/check.ts';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import { FrameType, MAX_CONTROL_PAYLOAD } from '../../guest/protocol/frames.ts';
import type { Operation, Reply, ReplyOf, RequestBody, RequestOf } from '../../guest/protocol/messages.ts';
import { replies } from '../../guest/protocol/validate.ts';
import { deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import type { FramePort } from './frame-port.ts';
import { GuestRequestError } from './guest-errors.ts';

/** Requests that wait for an answer at a time. The guest takes 256. */
const MAX_IN_FLIGHT = 200;
/** Requests given up whose late answers are still recognised. */
const MAX_GIVEN_UP = 1000;

export interface RequestOptions {
  /** Milliseconds to wait for the answer; for requests that move bytes, since the guest last did its part. */
  deadline?: number;
  signal?: AbortSignal;
  /** Asked at the deadline: true when the guest is not the one that is waited for, so the wait goes on. */
  excused?: () => boolean;
  /** Called when the guest did what was asked after the wait had been given up. */
  onLate?: () => void;
}

/** Default deadline, milliseconds: far above what a request takes, even in an emulated and busy guest. */
export const REQUEST_DEADLINE = 30_000;

interface Pending {
  op: Operation;
  settle(outcome: { ok: unknown } | { error: Error }): void;
  restart(): void;
}

export class Requests {
  readonly #port: FramePort;
  readonly #pending = new Map<number, Pending>();
  readonly #givenUp = new Map<number, (() => void) | undefined>();
  #last = 0;
  #closed: Error | null = null;

  constructor(port: FramePort) {
    this.#port = port;
  }

  /** The id that the next request gets: a run's id names its process. */
  get nextId(): number {
    return this.#last + 1;
  }

  /**
   * Sends a request and waits for its answer.
   * @throws {GuestRequestError} the guest's refusal; {YavmError} YAVM_E_GUEST_TIMEOUT, YAVM_E_GUEST_BUSY,
   * YAVM_E_REQUEST_TOO_LONG; the signal's reason; the VM's error.
   */
  async send<Op extends Operation>(body: RequestOf<Op>, options: RequestOptions = {}): Promise<ReplyOf[Op]> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw this.#closed;
    const op = body.op as Op;
    if (this.#pending.size >= MAX_IN_FLIGHT) {
      throw new YavmError(
        'YAVM_E_GUEST_BUSY',
        `'${op}': ${MAX_IN_FLIGHT} requests already wait for the guest`,
      );
    }
    const id = this.nextId;
    const payload = encodeMessage({ ...(body as RequestBody), id });
    checkSize(op, payload);
    this.#last = id;
    const answer = this.#wait(id, op, options);
    this.#port.send(FrameType.message, 0, payload);
    return replies[op](await answer);
  }

  /** Settles the request that `reply` is for. @throws {Error} when there was none: the guest makes answers up. */
  answer(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    if (!pending) {
      if (!this.#givenUp.has(reply.id)) {
        throw new Error(`an answer to request ${reply.id}, which does not wait for one`);
      }
      const onLate = this.#givenUp.get(reply.id);
      this.#givenUp.delete(reply.id);
      if ('ok' in reply) onLate?.();
      return;
    }
    if ('error' in reply) {
      pending.settle({ error: new GuestRequestError(pending.op, reply.error) });
      return;
    }
    // Checked here, not only where it is awaited: a malformed answer is the guest's fault, and ends it.
    at(`ok of '${pending.op}'`, replies[pending.op] as Check<unknown>, reply.ok);
    pending.settle({ ok: reply.ok });
  }

  /** The guest has moved: deadlines of requests that move bytes start anew. */
  progress(id: number): void {
    this.#pending.get(id)?.restart();
  }

  /** Fails everything that waits, and everything that comes. */
  close(error: Error): void {
    this.#closed ??= error;
    for (const pending of [...this.#pending.values()]) pending.settle({ error });
  }

  #wait(id: number, op: Operation, options: RequestOptions): Promise<unknown> {
    const deadline = options.deadline ?? REQUEST_DEADLINE;
    const { promise, resolve, reject } = deferred<unknown>();
    let timer: NodeJS.Timeout | undefined;
    const settle: Pending['settle'] = (outcome) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.ok);
    };
    const giveUp = (error: Error) => {
      const [oldest] = this.#givenUp.keys();
      if (oldest !== undefined && this.#givenUp.size >= MAX_GIVEN_UP) this.#givenUp.delete(oldest);
      this.#givenUp.set(id, options.onLate);
      settle({ error });
    };
    const onAbort = () => giveUp(options.signal?.reason);
    const expire = () => {
      if (options.excused?.()) restart();
      else giveUp(timeoutError(op, deadline));
    };
    const restart = () => {
      clearTimeout(timer);
      timer = setTimeout(expire, deadline);
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    restart();
    this.#pending.set(id, { op, settle, restart });
    return promise;
  }
}

/** What the guest would not read: it could not even answer. @throws {YavmError} YAVM_E_REQUEST_TOO_LONG */
function checkSize(op: Operation, payload: Uint8Array): void {
  const hint = 'Shorten the arguments and the environment, or put them in a file.';
  if (payload.length > MAX_CONTROL_PAYLOAD) {
    const message = `'${op}' takes ${payload.length} bytes, ${MAX_CONTROL_PAYLOAD} at most`;
    throw new YavmError('YAVM_E_REQUEST_TOO_LONG', message, { hint });
  }
  // A value has at least one byte.
  if (payload.length <= MAX_VALUES) return;
  try {
    checkCbor(payload);
  } catch (cause) {
    throw new YavmError('YAVM_E_REQUEST_TOO_LONG', `'${op}' is too long`, { cause, hint });
  }
}

function timeoutError(op: Operation, milliseconds: number): YavmError {
  return new YavmError(
    'YAVM_E_GUEST_TIMEOUT',
    `the guest has not answered '${op}' within ${milliseconds / 1000} s`,
    {
      hint: 'It is overloaded or stuck. Its console may tell: ya-vm console',
    },
  );
}
