/** The control port's conversation: frames → requests → handlers → replies. */
import { GuestError, toWire } from '../errors.ts';
import { decodeRequest, encodeMessage, RequestError } from '../protocol/codec.ts';
import { FrameType } from '../protocol/frames.ts';
import { type Notification, PORTS, type Reply, type Request } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';
import { handlers } from './requests.ts';

/** Requests that may wait for an answer at a time: more are refused, so that a mad host cannot fill PID 1's memory. */
const MAX_PENDING = 256;

export class Session {
  readonly #agent: Agent;
  #pending = 0;

  constructor(agent: Agent) {
    this.#agent = agent;
  }

  /** Sends a notification. */
  notify(notification: Notification): void {
    this.#send(notification);
  }

  /** Takes one frame of the control port. Whatever it holds, PID 1 goes on. */
  receive(type: number, payload: Uint8Array): void {
    if (type !== FrameType.message) {
      this.notify({ event: 'protocol-error', port: PORTS.control, message: `frame of type ${type}` });
      return;
    }
    let request: Request;
    try {
      request = decodeRequest(payload);
    } catch (error) {
      this.#refuse(error);
      return;
    }
    void this.#handle(request);
  }

  async #handle(request: Request): Promise<void> {
    const { id } = request;
    if (this.#pending >= MAX_PENDING) {
      this.#reply({
        id,
        error: { code: 'bad-request', message: `${MAX_PENDING} requests are being answered` },
      });
      return;
    }
    this.#pending++;
    try {
      // The table's key decides the request's type; TypeScript cannot follow that through a union.
      const handler = handlers[request.op] as (agent: Agent, request: Request, id: number) => unknown;
      const result = handler(this.#agent, request, id);
      // No await for a value that is there: a run's reply must leave before its exit notice can.
      this.#reply({ id, ok: result instanceof Promise ? await result : result });
    } catch (error) {
      if (!(error instanceof GuestError))
        this.#agent.log.error(`request '${request.op}' failed`, { err: String(error) });
      this.#reply({ id, error: toWire(error) });
    } finally {
      this.#pending--;
    }
  }

  /** A frame that is no request: answered by its id where it has one. */
  #refuse(error: unknown): void {
    if (error instanceof RequestError && error.id !== undefined) {
      this.#reply({ id: error.id, error: { code: error.code, message: error.message } });
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    this.notify({ event: 'protocol-error', port: PORTS.control, message: message.slice(0, 1000) });
  }

  #reply(reply: Reply): void {
    this.#send(reply);
  }

  #send(message: Reply | Notification): void {
    const { native, controlChannel, log } = this.#agent;
    try {
      native.channelSend(controlChannel, FrameType.message, 0, encodeMessage(message));
    } catch (error) {
      // The port is gone or the host has stopped reading with megabytes queued: it will end this VM.
      log.error('cannot send on the control port', { err: String(error) });
    }
  }
}
