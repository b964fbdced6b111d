/** QEMU's monitor: JSON lines on a socket. QEMU is not trusted beyond need: a guest may have taken it over. */

import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import type { Connect } from './frame-port.ts';

/** Longest line that is taken, bytes; the answers that we ask for have a few hundred. */
const MAX_LINE = 1024 * 1024;
/** Events kept, for who looks back after QEMU's end. */
const MAX_EVENTS = 100;
const COMMAND_DEADLINE = 5000;

/** `SHUTDOWN {reason: 'guest-reset'}` and the like. */
export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

interface Pending {
  command: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Qmp {
  readonly #socket: ReturnType<Connect>;
  readonly #greeting = deferred<string>();
  readonly #pending = new Map<number, Pending>();
  readonly #events: QmpEvent[] = [];
  readonly #closed = deferred<void>();
  readonly #onEvent: (event: QmpEvent) => void;
  #line: Buffer = Buffer.alloc(0);
  #lastId = 0;
  #error: Error | null = null;

  constructor(connect: Connect, onEvent: (event: QmpEvent) => void = () => {}) {
    this.#onEvent = onEvent;
    this.#greeting.promise.catch(() => {});
    const buffer = Buffer.allocUnsafeSlow(16 * 1024);
    this.#socket = connect({
      buffer,
      callback: (count) => {
        try {
          this.#take(buffer.subarray(0, count));
        } catch (error) {
          this.#end(new YavmError('YAVM_E_QMP', `QEMU's monitor: ${toError(error).message}`));
        }
        return this.#error === null;
      },
    });
    const gone = () => this.#end(new YavmError('YAVM_E_QMP', "QEMU's monitor is closed"));
    this.#socket.on('end', gone);
    this.#socket.on('close', gone);
    this.#socket.on('error', gone);
  }

  /** Events so far, the last hundred. */
  get events(): readonly QmpEvent[] {
    return this.#events;
  }

  /** Resolves when nothing more can come. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Greets QEMU. @returns its version, `7.2.22`. @throws {YavmError} YAVM_E_QMP, YAVM_E_TIMEOUT */
  async negotiate(milliseconds: number, signal?: AbortSignal): Promise<string> {
    // It need not have greeted: what is written before is read after.
    const accepted = this.execute('qmp_capabilities', {}, milliseconds);
    accepted.catch(() => {});
    const version = await withDeadline(this.#greeting.promise, milliseconds, "QEMU's monitor", { signal });
    await accepted;
    return version;
  }

  /** Runs a command. @throws {YavmError} YAVM_E_QMP when QEMU refuses or is gone, YAVM_E_TIMEOUT */
  async execute(
    command: string,
    args: Record<string, unknown> = {},
    milliseconds: number = COMMAND_DEADLINE,
  ): Promise<unknown> {
    if (this.#error) throw this.#error;
    const id = ++this.#lastId;
    const { promise, resolve, reject } = deferred<unknown>();
    this.#pending.set(id, { command, resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await withDeadline(promise, milliseconds, `QEMU's monitor to '${command}'`);
    } finally {
      this.#pending.delete(id);
    }
  }

  close(): void {
    this.#end(new YavmError('YAVM_E_QMP', "QEMU's monitor was closed"));
  }

  #take(chunk: Buffer): void {
    let rest = this.#line.length === 0 ? chunk : Buffer.concat([this.#line, chunk]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      this.#receive(rest.subarray(0, end).toString('utf8'));
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_LINE) throw new Error(`a line of more than ${MAX_LINE} bytes`);
    // A copy: the buffer is read into again.
    this.#line = Buffer.from(rest);
  }

  #receive(line: string): void {
    const message = asRecord(JSON.parse(line));
    if (message.QMP !== undefined) this.#greeting.resolve(versionOf(message));
    else if (typeof message.event === 'string')
      this.#keep({ event: message.event, data: dataOf(message.data) });
    else if (typeof message.id === 'number') this.#answer(message.id, message);
  }

  #keep(event: QmpEvent): void {
    if (this.#events.length >= MAX_EVENTS) this.#events.shift();
    this.#events.push(event);
    this.#onEvent(event);
  }

  #answer(id: number, message: Record<string, unknown>): void {
    const pending = this.#pending.get(id);
    if (message.error === undefined) {
      pending?.resolve(message.return);
      return;
    }
    const { desc } = dataOf(message.error);
    const text = printable(String(desc ?? 'no reason given').slice(0, 500));
    pending?.reject(new YavmError('YAVM_E_QMP', `QEMU refuses '${pending.command}': ${text}`));
  }

  #end(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#socket.destroy();
    this.#greeting.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#closed.resolve();
  }
}

function versionOf(message: Record<string, unknown>): string {
  const { qemu } = dataOf(dataOf(message.QMP).version);
  const { major, minor, micro } = dataOf(qemu);
  return `${Number(major)}.${Number(minor)}.${Number(micro)}`;
}

function asRecord(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('a line that is no object');
  return value as Record<string, unknown>;
}

function dataOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
