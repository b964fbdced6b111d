/** A guest agent in Node, as far as the host can tell: speaks the protocol on three sockets, or breaks it on demand. */
import type { Socket } from 'node:net';
import { decodeRequest, encodeMessage } from '../../guest/protocol/codec.ts';
import {
  decodeCredit,
  encodeCredit,
  encodeFrame,
  type Frame,
  FrameDecoder,
  FrameType,
  MAX_CONTROL_PAYLOAD,
  MAX_DATA_PAYLOAD,
  STREAM_WINDOW,
} from '../../guest/protocol/frames.ts';
import type { ExitedEvent, Notification, Reply, Request, WireError } from '../../guest/protocol/messages.ts';
import type { GuestPorts } from '../../host/runtime/guest-client.ts';
import { notificationExamples } from './messages.ts';
import { socketPair } from './socket-pairs.ts';

type Answer = (request: Request, guest: FakeGuest) => void | Promise<void>;

/** What the guest does with a request; by default it says yes. */
const agree: Answer = (request, guest) =>
  guest.reply(request.id, request.op === 'run' ? { pid: 1000 + (request.id % 1000) } : {});

interface Input {
  chunks: Uint8Array[];
  ended: boolean;
}

export class FakeGuest {
  readonly control: Socket;
  readonly data: Socket;
  readonly log: Socket;
  readonly requests: Request[] = [];
  answer: Answer = agree;
  /** Whether bytes that arrive are paid for with new credit. */
  granting = true;
  readonly #credits = new Map<number, number>();
  readonly #inputs = new Map<number, Input>();
  #changed: (() => void)[] = [];

  /** The ports for a {@link GuestClient}, and the guest behind them, there once the client has connected. */
  static async prepare(): Promise<{ ports: GuestPorts; guest: Promise<FakeGuest> }> {
    const [control, data, log] = await Promise.all([socketPair(), socketPair(), socketPair()]);
    const guest = Promise.all([control.peer, data.peer, log.peer]).then(
      (sockets) => new FakeGuest(...sockets),
    );
    return { ports: { control: control.connect, data: data.connect, log: log.connect }, guest };
  }

  constructor(control: Socket, data: Socket, log: Socket) {
    this.control = control;
    this.data = data;
    this.log = log;
    const messages = new FrameDecoder(MAX_CONTROL_PAYLOAD, ({ payload }) =>
      this.#receive(decodeRequest(payload)),
    );
    const frames = new FrameDecoder(MAX_DATA_PAYLOAD, (frame) => this.#dataFrame(frame));
    control.on('data', (chunk) => messages.push(chunk));
    data.on('data', (chunk) => frames.push(chunk));
  }

  // ---------------------------------------------------------------- says

  hello(change: object = {}): void {
    this.notify({ ...notificationExamples.hello, ...change });
  }

  notify(notification: Notification): void {
    this.#message(notification);
  }

  reply(id: number, ok: unknown): void {
    this.#message({ id, ok });
  }

  refuse(id: number, error: WireError): void {
    this.#message({ id, error });
  }

  exit(process: number, change: Partial<ExitedEvent> = {}): void {
    const { code: _, ...rest } = notificationExamples.exited;
    const how = change.signal === undefined ? { code: 0 } : {};
    this.notify({ ...rest, totals: {}, ...how, process, ...change });
  }

  /** Sends bytes on a stream as credit comes in. */
  async output(stream: number, bytes: Uint8Array, portion: number = 32 * 1024): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      const credit = this.#credits.get(stream) ?? STREAM_WINDOW;
      const size = Math.min(credit, portion, bytes.length - offset);
      if (size === 0) {
        await this.#change();
        continue;
      }
      this.#credits.set(stream, credit - size);
      this.frame(FrameType.data, stream, bytes.subarray(offset, offset + size));
      offset += size;
      if (this.data.writableNeedDrain) await new Promise((resolve) => this.data.once('drain', resolve));
    }
  }

  end(stream: number): void {
    this.frame(FrameType.end, stream, new Uint8Array(0));
  }

  /** A frame on the data port, credit or not. */
  frame(type: FrameType, stream: number, payload: Uint8Array): void {
    this.data.write(encodeFrame(type, stream, payload));
  }

  logLine(record: object | string): void {
    const text = typeof record === 'string' ? record : JSON.stringify(record);
    this.log.write(encodeFrame(FrameType.log, 0, Buffer.from(text)));
  }

  close(): void {
    for (const socket of [this.control, this.data, this.log]) socket.destroy();
  }

  /** Closes the ports after what was written. */
  finish(): void {
    for (const socket of [this.control, this.data, this.log]) socket.end();
  }

  // ---------------------------------------------------------------- hears

  /** The next request for which `op` fits, waiting for it. */
  async requested<Op extends Request['op']>(op: Op): Promise<Extract<Request, { op: Op }>> {
    for (;;) {
      const found = this.requests.find((request) => request.op === op);
      if (found) {
        this.requests.splice(this.requests.indexOf(found), 1);
        return found as Extract<Request, { op: Op }>;
      }
      await this.#change();
    }
  }

  /** Everything that came on a stream, once it has ended. */
  async input(stream: number): Promise<Buffer> {
    for (;;) {
      const input = this.#inputs.get(stream);
      if (input?.ended) return Buffer.concat(input.chunks);
      await this.#change();
    }
  }

  /** Bytes that came on a stream so far. */
  inputLength(stream: number): number {
    return (this.#inputs.get(stream)?.chunks ?? []).reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** Whether a stream's end has come. */
  inputEnded(stream: number): boolean {
    return this.#inputs.get(stream)?.ended ?? false;
  }

  /** Credit that the host has given on a stream and that is not used. */
  credit(stream: number): number {
    return this.#credits.get(stream) ?? STREAM_WINDOW;
  }

  // ---------------------------------------------------------------- inside

  #message(message: Reply | Notification): void {
    this.control.write(encodeFrame(FrameType.message, 0, encodeMessage(message)));
  }

  #receive(request: Request): void {
    this.requests.push(request);
    const input =
      request.op === 'run' ? request.stdin : request.op === 'write-files' ? request.stream : undefined;
    if (input !== undefined) this.data.write(encodeCredit(input, STREAM_WINDOW));
    void this.answer(request, this);
    this.#wake();
  }

  #dataFrame({ type, stream, payload }: Frame): void {
    if (type === FrameType.credit) {
      this.#credits.set(stream, this.credit(stream) + decodeCredit(payload));
    } else {
      const input = this.#inputs.get(stream) ?? { chunks: [], ended: false };
      this.#inputs.set(stream, input);
      if (type === FrameType.end) input.ended = true;
      else input.chunks.push(Uint8Array.from(payload));
      if (type === FrameType.data && this.granting) this.data.write(encodeCredit(stream, payload.length));
    }
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve));
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const resolve of changed) resolve();
  }
}
