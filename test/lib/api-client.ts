/** The stock exe-unit's end of the runtime API, for tests: encodes requests, decodes what comes back. */
import type { Readable, Writable } from 'node:stream';
import { withDeadline } from '../../host/lib/deadline.ts';
import { FrameDecoder } from '../../host/runtime-api/frames.ts';
import { RequestType, ResponseType } from '../../host/runtime-api/schema.ts';

/** A response by its meaning: defaults filled in, text as text, bytes as latin1 text. */
export interface ApiMessage {
  event: boolean;
  id: number;
  error?: { code: number; message: string };
  hello?: { version: string };
  run?: { pid: number };
  kill?: object;
  shutdown?: object;
  status?: { pid: number; running: boolean; returnCode: number; stdout: string; stderr: string };
  network?: Record<string, string>;
}

/** Milliseconds that an answer may take. */
const DEADLINE = 120_000;

/** @throws when the bytes are no Response */
export function decodeResponse(bytes: Uint8Array): ApiMessage {
  const message = ResponseType.decode(bytes);
  const plain = ResponseType.toObject(message, { longs: Number }) as Record<string, unknown>;
  const { event = false, id = 0, status, ...body } = plain;
  const decoded = textOf(body) as Partial<ApiMessage>;
  if (decoded.error) decoded.error = { ...decoded.error, code: decoded.error.code ?? 0 };
  if (status) {
    const defaults = { pid: 0, running: false, returnCode: 0, stdout: '', stderr: '' };
    decoded.status = { ...defaults, ...(textOf(status) as Partial<ApiMessage['status']>) };
  }
  return { event: event as boolean, id: id as number, ...decoded };
}

function textOf(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, textOf(each)]));
}

/** One frame; texts as text. */
export function encodeRequest(id: number, body: Record<string, unknown>): Uint8Array {
  return RequestType.encodeDelimited(RequestType.create({ id, ...(bytesOf(body) as object) })).finish();
}

function bytesOf(value: unknown): unknown {
  if (typeof value === 'string') return Buffer.from(value);
  if (value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(bytesOf);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, bytesOf(each)]));
}

/** Sends requests over a pair of pipes and keeps everything that comes back. */
export class ApiClient {
  /** All messages, in order. */
  readonly messages: ApiMessage[] = [];
  readonly #input: Writable;
  readonly #watchers = new Set<() => void>();
  #last = 1;
  #ended = false;

  /** `input` is the runtime's standard input, `output` its standard output. */
  constructor(input: Writable, output: Readable) {
    this.#input = input;
    input.on('error', () => {});
    const decoder = new FrameDecoder();
    output.on('data', (chunk: Uint8Array) => {
      for (const frame of decoder.push(chunk)) {
        if ('bytes' in frame) this.messages.push(decodeResponse(frame.bytes));
      }
      this.#changed();
    });
    output.once('close', () => {
      this.#ended = true;
      this.#changed();
    });
  }

  /** Sends a request without waiting. @returns its number */
  send(body: Record<string, unknown>): number {
    const id = ++this.#last;
    this.#input.write(encodeRequest(id, body));
    return id;
  }

  async call(body: Record<string, unknown>): Promise<ApiMessage> {
    const id = this.send(body);
    return await this.message((message) => !message.event && message.id === id, Object.keys(body).join());
  }

  run(bin: string, ...args: string[]): Promise<ApiMessage> {
    return this.call({ run: { bin, args: [bin.slice(bin.lastIndexOf('/') + 1), ...args] } });
  }

  /** The final status of a process, with all of its output. */
  async end(pid: number): Promise<{ returnCode: number; stdout: string; stderr: string }> {
    const last = await this.message(({ status }) => status?.pid === pid && !status.running, `end of ${pid}`);
    const all = this.messages.flatMap(({ status }) => (status?.pid === pid ? [status] : []));
    const text = (name: 'stdout' | 'stderr') => all.map((status) => status[name]).join('');
    return { returnCode: last.status?.returnCode ?? 0, stdout: text('stdout'), stderr: text('stderr') };
  }

  /** The first message, now or later, that is wanted. */
  async message(wanted: (message: ApiMessage) => boolean, what: string): Promise<ApiMessage> {
    const look = async () => {
      for (;;) {
        const found = this.messages.find(wanted);
        if (found) return found;
        if (this.#ended) throw new Error(`the output ended before: ${what}`);
        await new Promise<void>((resolve) => this.#watchers.add(resolve));
      }
    };
    return await withDeadline(look(), DEADLINE, what);
  }

  /** Closes the runtime's standard input. */
  close(): void {
    this.#input.end();
  }

  #changed(): void {
    for (const wake of this.#watchers) wake();
    this.#watchers.clear();
  }
}
