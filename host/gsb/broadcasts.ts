/** Topics: what anybody sends to one, all that have subscribed get. Kept over reconnects. Facts: exe-unit.md, 1.9. */
import { type Deferred, deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { decodeBody } from './body.ts';
import { closedError, type Link } from './link.ts';
import type { Packet } from './packet.ts';
import type { Flex } from './types.ts';

/** Takes what was sent to a topic; errors are logged. */
export type TopicHandler = (body: Flex, caller: string) => void;

type Kind = 'subscribeReply' | 'unsubscribeReply' | 'broadcastReply';
type Reply = Extract<Packet, { kind: Kind }>;
type Broadcast = Extract<Packet, { kind: 'broadcastRequest' }>;

/** Requests of a kind whose replies are to come, at most. */
const MAX_WAITING = 1024;

export class Broadcasts {
  readonly #logger: Logger;
  readonly #topics = new Map<string, TopicHandler>();
  #link: Link | undefined;
  /** Replies carry no id: they come in the order of the requests of their kind. */
  readonly #waiting: Record<Kind, Deferred<void>[]> = {
    subscribeReply: [],
    unsubscribeReply: [],
    broadcastReply: [],
  };

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Resolves once the bus has taken it; without a connection at once, since the next one gets it first. */
  async subscribe(topic: string, handler: TopicHandler): Promise<void> {
    this.#topics.set(topic, handler);
    if (this.#link !== undefined)
      await this.#ask(this.#link, { kind: 'subscribeRequest', topic }, 'subscribeReply');
  }

  async unsubscribe(topic: string): Promise<void> {
    const known = this.#topics.delete(topic);
    const link = this.#link;
    if (known && link !== undefined)
      await this.#ask(link, { kind: 'unsubscribeRequest', topic }, 'unsubscribeReply');
  }

  /** @throws {YavmError} YAVM_E_GSB_CLOSED without a connection, or when it is lost before the bus took it */
  async send(topic: string, data: Uint8Array, caller: string): Promise<void> {
    if (this.#link === undefined) throw closedError();
    await this.#ask(this.#link, { kind: 'broadcastRequest', caller, data, topic }, 'broadcastReply');
  }

  connected(link: Link): void {
    this.#link = link;
    for (const topic of this.#topics.keys()) {
      this.#ask(link, { kind: 'subscribeRequest', topic }, 'subscribeReply').catch((error: unknown) => {
        this.#logger.warn({ topic, err: toError(error) }, 'a topic of the bus is not subscribed to');
      });
    }
  }

  lost(): void {
    this.#link = undefined;
    for (const waiting of Object.values(this.#waiting)) {
      for (const reply of waiting.splice(0)) reply.reject(closedError());
    }
  }

  /** @throws {YavmError} YAVM_E_GSB_FRAME for a reply that nothing was asked for */
  receive(packet: Reply | Broadcast): void {
    if (packet.kind === 'broadcastRequest') {
      this.#deliver(packet);
      return;
    }
    const reply = this.#waiting[packet.kind].shift();
    if (reply === undefined) {
      throw new YavmError('YAVM_E_GSB_FRAME', `the bus sent a ${packet.kind} that nothing had asked for`);
    }
    // 404: nobody had subscribed, as was wanted.
    if (packet.code === 400) reply.reject(new YavmError('YAVM_E_GSB_REFUSED', `the bus: ${packet.message}`));
    else reply.resolve();
  }

  #deliver({ topic, data, caller }: Broadcast): void {
    try {
      this.#topics.get(topic)?.(decodeBody(data), caller);
    } catch (error) {
      this.#logger.warn({ topic, err: toError(error) }, 'a broadcast was not taken');
    }
  }

  #ask(link: Link, packet: Packet, reply: Kind): Promise<void> {
    const waiting = this.#waiting[reply];
    if (waiting.length >= MAX_WAITING) {
      return Promise.reject(
        new YavmError('YAVM_E_GSB_BUSY', `the bus has ${MAX_WAITING} requests to answer`),
      );
    }
    const answered = deferred<void>();
    waiting.push(answered);
    link.send(packet);
    return answered.promise;
  }
}
