/** The other end of network.sock: the network of a VM that another process runs. */
import { connect, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { ValidationError } from '../../guest/protocol/check.ts';
import { withDeadline } from '../lib/deadline.ts';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { hasErrno, toError, YavmError } from '../lib/errors.ts';
import { errorFromWire } from '../lib/wire-error.ts';
import type { NetworkControl } from './control-face.ts';
import {
  type ControlReply,
  type ControlRequest,
  type ControlResult,
  checkReply,
  encodeLine,
  Lines,
  MAX_LINE,
  RESULTS,
} from './control-wire.ts';
import type { NetworkStats, PingReply } from './types.ts';

/** The other process answers from its event loop; more than this means that it hangs. Milliseconds. */
const CONNECT_DEADLINE = 5000;
/** Its own deadlines are shorter. Milliseconds. */
const ANSWER_DEADLINE = 15_000;

export interface NetworkControlClient extends NetworkControl {
  /** Resolves when the connection has ended: the VM, or the process that runs it, is gone. */
  readonly ended: Promise<void>;
  /** Ends the connection, and the capture that was begun over it. */
  close(): void;
}

/**
 * Everything that waits when the connection ends fails with YAVM_E_NET_CONTROL.
 * @throws {YavmError} YAVM_E_NET_CONTROL: nobody answers at `path`
 */
export async function connectNetworkControl(path: string): Promise<NetworkControlClient> {
  const socket = connect({ path });
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  try {
    await withDeadline(connected, CONNECT_DEADLINE, `the network at ${path}`);
    return new Client(socket, path);
  } catch (cause) {
    socket.destroy();
    const gone = hasErrno(cause, 'ENOENT') || hasErrno(cause, 'ECONNREFUSED');
    throw new YavmError('YAVM_E_NET_CONTROL', `${path}: the VM's network cannot be reached`, {
      cause,
      hint: gone
        ? 'The VM has none (see: ya-vm run --help, --net and --vpn), is just starting, or has ended.'
        : undefined,
    });
  }
}

type RequestBody = ControlRequest extends infer R
  ? R extends { id: number }
    ? Omit<R, 'id'>
    : never
  : never;

class Client implements NetworkControlClient {
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting = new Map<number, Deferred<unknown>>();
  #count = 0;
  #failure: Error | null = null;

  constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    const lines = new Lines(MAX_LINE.reply, (value) => this.#answered(checkReply(value)));
    socket.on('data', (chunk: Uint8Array) => {
      try {
        lines.push(chunk);
      } catch (error) {
        socket.destroy(toError(error));
      }
    });
    socket.on('error', (error) => this.#fail(error));
    this.ended = new Promise((resolve) => {
      socket.once('close', () => {
        this.#fail(null);
        resolve();
      });
    });
  }

  stats(): Promise<NetworkStats> {
    return this.#ask({ op: 'stats' });
  }

  ping(address: string, milliseconds: number): Promise<PingReply> {
    return this.#ask({ op: 'ping', address, milliseconds }, milliseconds + ANSWER_DEADLINE);
  }

  async capture(file: string | null): Promise<void> {
    // The other process has another working directory.
    await this.#ask({ op: 'capture', file: file === null ? null : resolve(file) });
  }

  close(): void {
    this.#fail(null);
    this.#socket.end();
    this.#socket.destroySoon();
  }

  async #ask<Op extends RequestBody['op']>(
    body: RequestBody & { op: Op },
    deadline: number = ANSWER_DEADLINE,
  ): Promise<ControlResult[Op]> {
    if (this.#failure !== null) throw this.#failure;
    const id = ++this.#count;
    const answer = deferred<unknown>();
    this.#waiting.set(id, answer);
    try {
      this.#socket.write(encodeLine({ id, ...body } as ControlRequest));
      const result = await withDeadline(answer.promise, deadline, `the network at ${this.#path}`);
      return RESULTS[body.op](result) as ControlResult[Op];
    } catch (error) {
      throw error instanceof ValidationError ? this.#broken(error) : error;
    } finally {
      this.#waiting.delete(id);
    }
  }

  #answered(reply: ControlReply): void {
    const waiting = this.#waiting.get(reply.id);
    if ('error' in reply) waiting?.reject(errorFromWire(reply.error));
    else waiting?.resolve(reply.ok);
  }

  #fail(cause: Error | null): void {
    if (this.#failure !== null) return;
    this.#failure = this.#broken(cause);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#failure);
  }

  #broken(cause: Error | null): YavmError {
    const message =
      cause instanceof ValidationError
        ? `${this.#path}: the answer makes no sense`
        : `${this.#path}: the VM, or the process that runs it, has ended`;
    return new YavmError('YAVM_E_NET_CONTROL', message, { cause: cause ?? undefined });
  }
}
