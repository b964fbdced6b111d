/**
 * Downloads over HTTP: what arrives is what the server announced, or an error. An attempt that breaks off is
 * continued where it stopped when the server proves that it is still the same file (exe-unit.md 6.6 for the retries).
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { sleep } from '../lib/deadline.ts';
import { formatSize } from '../lib/size.ts';
import { connectionError, HttpError, statusError } from './http-error.ts';
import { contentLength, validatorOf } from './http-headers.ts';
import { get, type HttpAnswer, type HttpTimeouts, type RequestSettings, TIMEOUTS } from './http-request.ts';
import { Watchdog } from './http-watchdog.ts';

/** Where the bytes go. */
export interface Sink {
  /** Bytes taken so far. */
  readonly size: number;
  /** Takes `bytes`, which the sink may use until its promise resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** Forgets everything: the server begins anew. */
  restart(): Promise<void>;
}

export interface DownloadOptions {
  signal: AbortSignal;
  timeouts?: Partial<HttpTimeouts>;
  ca?: string;
  /** Most bytes taken. */
  maxSize: number;
  /** Continue attempts that broke off; default true. */
  resume?: boolean;
  /** Called when the size is known, before the first byte of an attempt; may throw. */
  onSize?: (total: number | null) => void | Promise<void>;
  /** Called after each write. */
  onProgress?: (done: number, total: number | null) => void;
  /** Called before a wait of `seconds`. */
  onRetry?: (seconds: number, error: HttpError) => void;
  sleep?: typeof sleep;
}

export interface Downloaded {
  /** Bytes. */
  size: number;
  /** Continued after a break at least once. */
  resumed: boolean;
}

/** Seconds before each further attempt. */
const RETRY_DELAYS = [2, 4];
/** An attempt that brought so many bytes has earned a full set of retries: large images come over poor lines. */
const EARNS_RETRIES = 16 * 1024 * 1024;
/** What proves that an answer is about the same file as the one before. */
interface Identity {
  total: number;
  /** A strong ETag, or the date of the last change. */
  validator: string;
}

/**
 * Fetches `url` into `sink`.
 * @throws {HttpError} the last attempt's; the signal's reason; whatever sink and callbacks throw.
 */
export async function download(url: URL, sink: Sink, options: DownloadOptions): Promise<Downloaded> {
  const { signal, sleep: wait = sleep } = options;
  const transfer = new Transfer(url, sink, options);
  for (let retries = 0; ; ) {
    const before = sink.size;
    try {
      return await transfer.attempt();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof HttpError && error.retry)) throw error;
      if (sink.size - before >= EARNS_RETRIES) retries = 0;
      const seconds = RETRY_DELAYS[retries++];
      if (seconds === undefined) throw error;
      options.onRetry?.(seconds, error);
      await wait(seconds * 1000, signal);
    }
  }
}

class Transfer {
  readonly #url: URL;
  readonly #sink: Sink;
  readonly #options: DownloadOptions;
  readonly #settings: RequestSettings;
  /** Of what is in the sink; null: nothing that could be continued. */
  #identity: Identity | null = null;
  #resumed = false;

  constructor(url: URL, sink: Sink, options: DownloadOptions) {
    this.#url = url;
    this.#sink = sink;
    this.#options = options;
    this.#settings = {
      timeouts: { ...TIMEOUTS, ...options.timeouts },
      ca: options.ca,
      signal: options.signal,
    };
  }

  /** One request, until its last byte. */
  async attempt(): Promise<Downloaded> {
    const answer = await get(this.#url, this.#headers(), this.#settings);
    try {
      const total = await this.#accept(answer);
      await this.#options.onSize?.(total);
      await this.#receive(answer, total);
      return { size: this.#sink.size, resumed: this.#resumed };
    } finally {
      answer.body.destroy();
    }
  }

  #headers(): OutgoingHttpHeaders {
    // An image is compressed already, and its hash is that of the file.
    const headers: OutgoingHttpHeaders = {
      'user-agent': 'ya-vm',
      accept: '*/*',
      'accept-encoding': 'identity',
    };
    if (!this.#identity || this.#sink.size === 0) return headers;
    return { ...headers, range: `bytes=${this.#sink.size}-`, 'if-range': this.#identity.validator };
  }

  /** Checks status and headers, and puts the sink where the body begins. Returns the whole file's size, when it is said. */
  async #accept({ status, body, shown }: HttpAnswer): Promise<number | null> {
    if (status === 206 && this.#continues(body.headers)) {
      this.#resumed = true;
      return this.#checkSize(this.#identity?.total ?? null, shown);
    }
    const asked = this.#identity !== null;
    this.#identity = null;
    this.#resumed = false;
    if (asked && (status === 206 || status === 416)) {
      throw new HttpError(`${shown}: the download cannot be continued, the file has changed`, {
        retry: true,
      });
    }
    if (status !== 200) throw statusError(status, body.statusMessage, shown);
    const encoding = body.headers['content-encoding'] ?? 'identity';
    if (encoding.toLowerCase() !== 'identity') {
      throw new HttpError(`${shown}: the server sends the file as ${JSON.stringify(encoding)}, unasked`);
    }
    const total = this.#checkSize(contentLength(body.headers, shown), shown);
    if (this.#sink.size > 0) await this.#sink.restart();
    const validator = validatorOf(body.headers);
    if (this.#options.resume !== false && total !== null && validator !== null)
      this.#identity = { total, validator };
    return total;
  }

  /** Whether a partial answer goes on with what is in the sink. */
  #continues(headers: IncomingHttpHeaders): boolean {
    if (!this.#identity) return false;
    const { total, validator } = this.#identity;
    const range = `bytes ${this.#sink.size}-${total - 1}/${total}`;
    return headers['content-range'] === range && validatorOf(headers) === validator;
  }

  #checkSize(total: number | null, shown: string): number | null {
    if (total !== null && total > this.#options.maxSize) throw this.#tooLarge(shown);
    return total;
  }

  #tooLarge(shown: string): HttpError {
    return new HttpError(
      `${shown}: larger than ${formatSize(this.#options.maxSize)}, the most that is taken`,
    );
  }

  async #receive({ body, shown }: HttpAnswer, total: number | null): Promise<void> {
    const { maxSize, onProgress, signal } = this.#options;
    const watchdog = new Watchdog(body, shown, this.#settings.timeouts.stall);
    const end = Math.min(total ?? maxSize, maxSize);
    try {
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        if (this.#sink.size + chunk.byteLength > end) throw this.#tooLarge(shown);
        watchdog.pause();
        await this.#sink.write(chunk).catch(wrapSinkError);
        watchdog.resume(chunk.byteLength);
        onProgress?.(this.#sink.size, total);
      }
    } catch (error) {
      if (error instanceof SinkError) throw error.cause;
      throw signal.aborted ? signal.reason : connectionError(error, shown);
    } finally {
      watchdog.end();
    }
    if (total !== null && this.#sink.size < total) {
      throw new HttpError(`${shown}: only ${this.#sink.size} of ${total} bytes came`, { retry: true });
    }
  }
}

/** Tells the sink's errors, which have names like a connection's (EPIPE), from the connection's. */
class SinkError extends Error {}

function wrapSinkError(cause: unknown): never {
  throw new SinkError('', { cause });
}
