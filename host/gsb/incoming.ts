/** Calls that peers make: finds the handler, runs it, sends its answers, and refuses what is too much (exe-unit.md 1.6, 2.5). */
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { encodeBody, inflateBody } from './body.ts';
import { errorEnvelope, failureText } from './envelope.ts';
import { decodeFlex } from './flexbuffers/decode.ts';
import { FrameIntake } from './frame-intake.ts';
import { closedError, type Link } from './link.ts';
import type { CallReply, CallRequest } from './packet.ts';
import {
  AnswerError,
  type Binding,
  type CallInfo,
  type Flex,
  type FrameHandler,
  type RawHandler,
  RpcError,
  type StreamHandler,
  type UnaryHandler,
} from './types.ts';

/** Calls that are answered at a time, and bytes of their inflated bodies (one call alone may have more). */
export const MAX_CALLS = 256;
export const MAX_BODIES = 32 * 1024 * 1024;

const NO_BYTES = new Uint8Array(0);

/** A call that has not had its last answer. */
interface OpenCall {
  request: CallRequest;
  link: Link;
  info: CallInfo;
  abort: AbortController;
  /** Bytes of its body: as sent, then inflated. */
  size: number;
}

/** Our names on the bus. */
export interface Bindings {
  /** Another number when a name came or went. */
  readonly version: number;
  /** The binding with this very address. */
  find(address: string): Binding | undefined;
}

export class IncomingCalls {
  readonly #bindings: Bindings;
  readonly #logger: Logger;
  readonly #open = new Set<OpenCall>();
  readonly #frames: FrameIntake;
  #bodies = 0;
  #ending = false;

  constructor(bindings: Bindings, logger: Logger) {
    this.#bindings = bindings;
    this.#logger = logger;
    this.#frames = new FrameIntake({
      get version() {
        return bindings.version;
      },
      frames: (address) => {
        const binding = this.#lookUp(address);
        return binding !== undefined && 'frames' in binding ? binding.frames : null;
      },
    });
  }

  /** Takes a call for a name that takes frames, not decoded; false: it is something else. See {@link FrameIntake.take}. */
  takeFrame(bytes: Uint8Array, start: number, end: number, answer: (requestId: string) => void): boolean {
    return !this.#ending && this.#frames.take(bytes, start, end, answer);
  }

  /** All that one read of the socket brought is here. */
  flushFrames(): void {
    this.#frames.flush();
  }

  receive(link: Link, request: CallRequest): void {
    const call = openCall(link, request);
    const binding = this.#lookUp(request.address);
    if (this.#ending) refuse(call, 500, unavailable(request.address));
    else if (binding === undefined) refuse(call, 400, 'endpoint address not found');
    else if ('raw' in binding) this.#answerRaw(call, binding.raw);
    else if ('frames' in binding) this.#takeFrame(call, binding.frames);
    else if (this.#isTooMuch(call)) refuse(call, 500, failureText(busyError()));
    else this.#answer(call, binding);
  }

  /** The connection is gone: handlers learn that nobody waits for them. */
  lost(): void {
    for (const call of [...this.#open]) {
      this.#forget(call);
      call.abort.abort(closedError());
    }
  }

  /** Answers each open call, and each that still comes, as one whose service is gone. */
  end(): void {
    this.#ending = true;
    for (const call of [...this.#open]) {
      reply(call, { code: 500, data: Buffer.from(unavailable(call.request.address)) });
      this.#forget(call);
      call.abort.abort(closedError());
    }
  }

  /** The longest binding that the address begins with, in whole parts. */
  #lookUp(address: string): Binding | undefined {
    for (let end = address.length; end > 0; end = address.lastIndexOf('/', end - 1)) {
      const binding = this.#bindings.find(address.slice(0, end));
      if (binding !== undefined) return binding;
    }
    return undefined;
  }

  #isTooMuch({ size }: OpenCall): boolean {
    if (this.#open.size >= MAX_CALLS) return true;
    return this.#open.size > 0 && this.#bodies + size > MAX_BODIES;
  }

  #read(call: OpenCall): Flex {
    const plain = inflateBody(call.request.data);
    this.#bodies += plain.length - call.size;
    call.size = plain.length;
    if (this.#open.size > 1 && this.#bodies > MAX_BODIES) throw busyError();
    return decodeFlex(plain);
  }

  #answer(call: OpenCall, binding: { unary: UnaryHandler } | { stream: StreamHandler }): void {
    this.#open.add(call);
    this.#bodies += call.size;
    const work = 'unary' in binding ? this.#unary(call, binding.unary) : this.#stream(call, binding.stream);
    const failed = (error: unknown) => {
      if (this.#open.has(call)) this.#fail(call, error);
    };
    work.catch(failed).finally(() => this.#forget(call));
  }

  /** Frames come by the thousand and are dealt with at once: they are not counted. */
  #answerRaw(call: OpenCall, handle: RawHandler): void {
    try {
      // A copy: the handler may use its memory again.
      reply(call, { data: Buffer.from(handle(call.request.data, call.info) ?? NO_BYTES) });
    } catch (error) {
      this.#fail(call, error);
    }
  }

  #takeFrame(call: OpenCall, handler: FrameHandler): void {
    const { data, caller, address } = call.request;
    this.#frames.hand(handler, data, 0, data.length, caller, address);
    reply(call, {});
  }

  async #unary(call: OpenCall, handler: UnaryHandler): Promise<void> {
    const data = encodeBody(await this.#result(call, handler));
    // An answer that waits for the socket is not also copied into its queue.
    await call.link.room();
    if (this.#open.has(call)) reply(call, { data });
  }

  async #result(call: OpenCall, handler: UnaryHandler): Promise<Flex> {
    try {
      return { Ok: await handler(this.#read(call), call.info) };
    } catch (error) {
      if (error instanceof RpcError) return errorEnvelope(error);
      if (error instanceof AnswerError) return { Err: error.error };
      throw error;
    }
  }

  async #stream(call: OpenCall, handler: StreamHandler): Promise<void> {
    const items = handler(this.#read(call), call.info)[Symbol.asyncIterator]();
    try {
      while (this.#open.has(call)) {
        // A handler that ignores the signal does not keep the call.
        const item = await unlessAborted(items.next(), call.info.signal);
        if (item === undefined || !this.#open.has(call)) break;
        if (item.done === true) {
          reply(call, {});
          return;
        }
        reply(call, { replyType: 'partial', data: encodeBody({ Ok: item.value }) });
        await call.link.room();
      }
    } finally {
      // Not awaited: a generator returns only when what it waits for has come.
      items.return?.().catch(() => {});
    }
  }

  #fail(call: OpenCall, error: unknown): void {
    if (!(error instanceof RpcError) && !(error instanceof YavmError)) {
      this.#logger.error({ address: call.request.address, err: error }, 'a handler of the bus failed');
    }
    reply(call, { code: 500, data: Buffer.from(failureText(error)) });
  }

  #forget(call: OpenCall): void {
    if (this.#open.delete(call)) this.#bodies -= call.size;
  }
}

/**
 * What `work` brings, or undefined when the signal fires first. Not a race of promises: one that lasts as long as the
 * call would keep each item that won against it.
 */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = () => resolve(undefined);
    const settled = () => signal.removeEventListener('abort', onAbort);
    signal.addEventListener('abort', onAbort, { once: true });
    work.finally(settled).then(resolve, reject);
  });
}

function openCall(link: Link, request: CallRequest): OpenCall {
  const abort = new AbortController();
  const { caller, address, noReply } = request;
  return {
    request,
    link,
    abort,
    size: request.data.length,
    info: { caller, address, noReply, signal: abort.signal, room: () => link.room() },
  };
}

function refuse(call: OpenCall, code: 400 | 500, text: string): void {
  reply(call, { code, data: Buffer.from(text) });
}

function reply({ link, request }: OpenCall, fields: Partial<CallReply>): void {
  if (request.noReply) return;
  const { requestId } = request;
  link.send({ kind: 'callReply', requestId, code: 0, replyType: 'full', data: NO_BYTES, ...fields });
}

function busyError(): YavmError {
  return new YavmError('YAVM_E_GSB_BUSY', 'too many calls at a time');
}

function unavailable(address: string): string {
  return `Called service \`${address}\` is unavailable`;
}
