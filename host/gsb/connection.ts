/**
 * A program's place on the bus: connects, says Hello, registers its names, makes and takes calls, and does all that again
 * when the bus was restarted. Facts: the spec's exe-unit.md, 1.4 to 1.10.
 */
import { randomBytes } from 'node:crypto';
import { sleep, withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { isYavmError, toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { formatGsbUrl } from './address.ts';
import { encodeBody } from './body.ts';
import { Broadcasts, type TopicHandler } from './broadcasts.ts';
import { openReply } from './envelope.ts';
import { CONGESTED } from './frame-batch.ts';
import { FrameWriter, MAX_PUSHED } from './frame-pusher.ts';
import { IncomingCalls } from './incoming.ts';
import { closedError, Link, openSocket } from './link.ts';
import { type Caller, OutgoingCalls } from './outgoing.ts';
import type { CallReply, CallRequest, Packet } from './packet.ts';
import { Registrations, takenError } from './registrations.ts';
import { ReplyQueue } from './reply-queue.ts';
import type {
  Binding,
  BindOptions,
  CallOptions,
  Flex,
  FrameBus,
  FramePusher,
  GsbAddress,
  LinkState,
} from './types.ts';

export interface GsbOptions {
  address: GsbAddress;
  logger: Logger;
  /** Milliseconds for which a lost bus is looked for, names included. Default 9000: the node gives an activity up at 10 s. */
  reconnectFor?: number;
  /** The same for the first connection; default as `reconnectFor`. */
  firstFor?: number;
  /** Sixteen bytes, the same over reconnects and no other connection's; default random ones. */
  instanceId?: Uint8Array;
  /** Bytes of a packet that is accepted; default MAX_PACKET. A longer one ends the connection. */
  maxPacket?: number;
}

type StateListener = (state: LinkState, error?: YavmError) => void;

const RECONNECT_FOR = 9000;
/** Milliseconds for one attempt to connect. */
const CONNECT_WAIT = 3000;
/** Milliseconds before attempts: the first, then doubled, at most the last. */
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 1000;
const DEFAULT_CALLER = 'local';
const EMPTY_ANSWER = { kind: 'callReply', code: 0, replyType: 'full', data: new Uint8Array(0) } as const;
const HELLO = { kind: 'hello', name: 'ya-vm', version: '0.1.0' } as const;

/** Returns at once and connects in the background; what is asked for until then goes out together with Hello. */
export function connectGsb(options: GsbOptions): GsbConnection {
  return new GsbConnection(options);
}

export class GsbConnection implements FrameBus {
  readonly #options: GsbOptions;
  readonly #instanceId: Uint8Array;
  readonly #registrations: Registrations;
  readonly #incoming: IncomingCalls;
  readonly #outgoing = new OutgoingCalls();
  readonly #broadcasts: Broadcasts;
  readonly #listeners = new Set<StateListener>();
  /** Stops the search for a connection. */
  readonly #stop = new AbortController();
  #state: LinkState = 'down';
  #link: Link | undefined;
  /** Why there is no connection: the last attempt's or the last connection's error. */
  #error: YavmError = closedError();
  #giveUp: NodeJS.Timeout | undefined;
  #greeted = false;
  #dropped = 0;
  #closing: Promise<void> | undefined;

  constructor(options: GsbOptions) {
    this.#options = options;
    this.#instanceId = options.instanceId ?? randomBytes(16);
    this.#registrations = new Registrations(() => this.#update());
    this.#incoming = new IncomingCalls(this.#registrations, options.logger);
    this.#broadcasts = new Broadcasts(options.logger);
    this.#giveUpAfter(options.firstFor ?? options.reconnectFor ?? RECONNECT_FOR);
    void this.#stayConnected();
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Pushes that were dropped because the socket was congested or the connection down. */
  get dropped(): number {
    return this.#dropped;
  }

  async bind(address: string, binding: Binding, options?: BindOptions): Promise<void> {
    if (this.#state === 'closed') throw this.#error;
    await this.#registrations.add(address, binding, options);
  }

  async unbind(address: string): Promise<void> {
    await this.#registrations.remove(address);
  }

  async call(address: string, body: Flex, options: CallOptions): Promise<Flex> {
    const answer = deferred<CallReply>();
    const id = this.#send(address, body, options, { reply: answer.resolve, fail: answer.reject });
    try {
      const reply = await this.#within(answer.promise, address, options.deadline, options.signal);
      if (reply.replyType === 'full') return openReply(address, reply);
      throw new YavmError('YAVM_E_GSB_SERVICE', `${address}: streaming response`);
    } finally {
      this.#outgoing.remove(id);
    }
  }

  async *stream(address: string, body: Flex, options: CallOptions): AsyncGenerator<Flex, void> {
    const end = Date.now() + options.deadline;
    const replies = new ReplyQueue();
    const id = this.#send(address, body, options, replies);
    try {
      for (;;) {
        const left = Math.max(0, end - Date.now());
        const reply = await this.#within(replies.next(), address, left, options.signal);
        const last = reply.replyType === 'full';
        if (!last || reply.code !== 0 || reply.data.length > 0) yield openReply(address, reply);
        if (last) return;
      }
    } finally {
      this.#outgoing.remove(id);
    }
  }

  push(address: string, data: Uint8Array, caller: string): boolean {
    const link = this.#link;
    if (link === undefined || link.queued > CONGESTED) {
      this.#dropped++;
      return false;
    }
    const requestId = this.#outgoing.nextId();
    // A copy: who gave it may use its memory again.
    link.send({ kind: 'callRequest', caller, address, requestId, data: Buffer.from(data), noReply: true });
    return true;
  }

  pusher(address: string, caller: string): FramePusher {
    const writer = new FrameWriter(address, caller);
    return {
      push: (data, offset, length) => {
        if (length > MAX_PUSHED) return this.push(address, data.subarray(offset, offset + length), caller);
        if (this.#link !== undefined && writer.write(data, offset, length, this.#link.frames)) return true;
        this.#dropped++;
        return false;
      },
    };
  }

  flushFrames(): void {
    this.#link?.frames.flush();
  }

  /** Hands on what is sent to a topic, also after reconnects. Resolves when the bus took it. */
  async subscribe(topic: string, handler: TopicHandler): Promise<void> {
    if (this.#state === 'closed') throw this.#error;
    await this.#broadcasts.subscribe(topic, handler);
  }

  async unsubscribe(topic: string): Promise<void> {
    await this.#broadcasts.unsubscribe(topic);
  }

  /** Sends to all that have subscribed. @throws {YavmError} YAVM_E_GSB_CLOSED while there is no connection */
  async broadcast(topic: string, body: Flex, caller: string = DEFAULT_CALLER): Promise<void> {
    await this.#broadcasts.send(topic, encodeBody(body), caller);
  }

  onState(listener: StateListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): Promise<void> {
    this.#closing ??= this.#end(closedError(new Error('it was closed')), undefined);
    return this.#closing;
  }

  async #stayConnected(): Promise<void> {
    const { signal } = this.#stop;
    let pause = FIRST_PAUSE;
    while (!signal.aborted) {
      try {
        const socket = await openSocket(this.#options.address, CONNECT_WAIT, signal);
        if (await this.#use(new Link(socket, this.#options.maxPacket))) pause = FIRST_PAUSE;
      } catch (error) {
        if (isYavmError(error)) this.#error = error;
      }
      await sleep(pause, signal).catch(() => {});
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }

  /** Works with a connection until it ends; resolves with whether it had come up. */
  async #use(link: Link): Promise<boolean> {
    this.#link = link;
    this.#greeted = false;
    // In one write, as upstream does, and without waiting for the bus's own Hello.
    link.together(() => {
      link.send({ ...HELLO, instanceId: this.#instanceId });
      this.#registrations.connected(link);
      this.#broadcasts.connected(link);
      this.#outgoing.sendWaiting();
    });
    this.#update();
    const answer = (requestId: string) => link.send({ ...EMPTY_ANSWER, requestId });
    const error = await link.run({
      frame: (bytes, start, end) => this.#incoming.takeFrame(bytes, start, end, answer),
      packet: (packet) => this.#receive(link, packet),
      flush: () => this.#incoming.flushFrames(),
    });
    return this.#lost(error);
  }

  #lost(error: YavmError): boolean {
    const wasUp = this.#state === 'up';
    this.#link = undefined;
    if (this.#state !== 'closed') this.#error = error;
    this.#registrations.lost();
    this.#broadcasts.lost();
    this.#incoming.lost();
    this.#outgoing.fail(error, false);
    if (wasUp) {
      this.#giveUpAfter(this.#options.reconnectFor ?? RECONNECT_FOR);
      this.#change('down', error);
    }
    return wasUp;
  }

  #receive(link: Link, packet: Packet): void {
    switch (packet.kind) {
      case 'callRequest':
        this.#incoming.receive(link, packet);
        break;
      case 'callReply':
        this.#outgoing.receive(packet);
        break;
      case 'registerReply':
      case 'unregisterReply':
        this.#registrations.receive(packet);
        break;
      case 'broadcastRequest':
      case 'broadcastReply':
      case 'subscribeReply':
      case 'unsubscribeReply':
        this.#broadcasts.receive(packet);
        break;
      case 'ping':
        link.send({ kind: 'pong' });
        break;
      case 'pong':
        break;
      case 'hello':
        if (this.#greeted) throw misplacedError(packet);
        this.#greeted = true;
        break;
      default:
        throw misplacedError(packet);
    }
  }

  /** Sends a call, now or when there is a connection; returns its id. */
  #send(address: string, body: Flex, options: CallOptions, answers: Caller): string {
    if (this.#state === 'closed') throw this.#error;
    const requestId = this.#outgoing.nextId();
    const request: CallRequest = {
      kind: 'callRequest',
      caller: options.caller ?? DEFAULT_CALLER,
      address,
      requestId,
      data: encodeBody(body),
      noReply: false,
    };
    this.#outgoing.add(requestId, answers);
    if (this.#link === undefined) this.#outgoing.wait(requestId, () => this.#link?.send(request));
    else this.#link.send(request);
    return requestId;
  }

  async #within<T>(
    answer: Promise<T>,
    address: string,
    milliseconds: number,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return await withDeadline(answer, milliseconds, address, { signal });
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      const cause = this.#link === undefined ? this.#error : undefined;
      throw new YavmError('YAVM_E_GSB_TIMEOUT', error.message, { cause });
    }
  }

  #update(): void {
    if (this.#state !== 'down' || !this.#registrations.complete) return;
    clearTimeout(this.#giveUp);
    this.#change('up');
  }

  #giveUpAfter(milliseconds: number): void {
    this.#giveUp = setTimeout(() => {
      const { taken } = this.#registrations;
      const where = formatGsbUrl(this.#options.address);
      const text = `the bus at ${where} was not to be had for ${milliseconds / 1000} s`;
      const cause = this.#error;
      const error =
        taken === undefined ? new YavmError('YAVM_E_GSB_CLOSED', text, { cause }) : takenError(taken);
      this.#closing ??= this.#end(error, error);
    }, milliseconds);
  }

  /** @param reason For those that still ask for something. `told` is for the listeners. */
  async #end(reason: YavmError, told: YavmError | undefined): Promise<void> {
    const link = this.#link;
    clearTimeout(this.#giveUp);
    this.#error = reason;
    this.#stop.abort(reason);
    this.#incoming.end();
    this.#outgoing.fail(reason, true);
    this.#change('closed', told);
    await this.#registrations.end(reason);
    await link?.end();
  }

  #change(state: LinkState, error?: YavmError): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) {
      try {
        listener(state, error);
      } catch (thrown) {
        this.#options.logger.error({ err: toError(thrown) }, "a listener of the bus's state failed");
      }
    }
  }
}

function misplacedError({ kind }: Packet): YavmError {
  return new YavmError('YAVM_E_GSB_FRAME', `the bus sent a ${kind} that does not belong there`);
}
