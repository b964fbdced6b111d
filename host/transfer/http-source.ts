/**
 * A server as the source of a transfer: what arrives is what it announced, or an error. A body that breaks off is continued
 * where it stopped when the server proves that it is still the same file; else the whole transfer begins anew.
 */
import { sleep } from '../lib/deadline.ts';
import type { ConnectionSettings } from './http-connection.ts';
import { connectionError, HttpError } from './http-error.ts';
import { checkEncoding, contentLength, FILE_HEADERS } from './http-headers.ts';
import { refusal } from './http-refusal.ts';
import { get, type HttpAnswer, type HttpTimeouts, type RequestSettings, TIMEOUTS } from './http-request.ts';
import { Watchdog } from './http-watchdog.ts';
import { type Identity, identityOf, provesRange, rangeHeaders } from './identity.ts';
import { showUrl } from './location.ts';
import { isPassing, RETRY_DELAYS } from './retry.ts';
import type { Bytes, Opened, TransferSource } from './types.ts';

export interface HttpOptions extends ConnectionSettings {
  timeouts?: Partial<HttpTimeouts>;
  /** Called before a wait of `seconds`, after which a body that broke off is continued. */
  onRetry?: (seconds: number, error: Error) => void;
  sleep?: typeof sleep;
}

/** So many bytes since the last break earn a full set of continuations. */
const EARNS_CONTINUATIONS = 16 * 1024 * 1024;

export function httpSource(url: URL, options: HttpOptions = {}): TransferSource {
  return {
    shown: showUrl(url),
    open: ({ signal }) => new Reading(url, options, signal).open(),
  };
}

/** Settings for requests of one attempt. */
export function settingsOf(options: HttpOptions, signal: AbortSignal): RequestSettings {
  return { ...options, timeouts: { ...TIMEOUTS, ...options.timeouts }, signal };
}

/** One attempt. */
class Reading {
  readonly #url: URL;
  readonly #options: HttpOptions;
  readonly #settings: RequestSettings;
  /** Bytes handed on. */
  #at = 0;
  #total: number | null = null;
  /** Null: nothing would prove that another answer is about the same file. */
  #identity: Identity | null = null;
  #continuations = 0;
  /** Where the last continuation began. */
  #continuedAt = 0;

  constructor(url: URL, options: HttpOptions, signal: AbortSignal) {
    this.#url = url;
    this.#options = options;
    this.#settings = settingsOf(options, signal);
  }

  async open(): Promise<Opened> {
    const answer = await get(this.#url, FILE_HEADERS, this.#settings);
    const { status, body, shown } = answer;
    if (status !== 200) throw await refusal(answer);
    try {
      checkEncoding(body.headers, shown);
      this.#total = contentLength(body.headers, shown);
    } catch (error) {
      body.destroy();
      throw error;
    }
    this.#identity = identityOf(body.headers, this.#total);
    return { size: this.#total, bytes: this.#read(answer) };
  }

  async *#read(first: HttpAnswer): Bytes {
    let answer: HttpAnswer | null = first;
    while (answer !== null) {
      try {
        yield* this.#readBody(answer);
        return;
      } catch (error) {
        answer = await this.#continueAfter(error);
      }
    }
  }

  async *#readBody({ body, shown }: HttpAnswer): Bytes {
    const { signal, timeouts } = this.#settings;
    const watchdog = new Watchdog(body, shown, timeouts.stall);
    try {
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        watchdog.pause();
        this.#at += chunk.byteLength;
        yield chunk;
        watchdog.resume(chunk.byteLength);
      }
    } catch (error) {
      throw signal.aborted ? signal.reason : connectionError(error, shown);
    } finally {
      watchdog.end();
      body.destroy();
    }
    if (this.#total !== null && this.#at < this.#total) {
      throw new HttpError(`${shown}: only ${this.#at} of ${this.#total} bytes came`, { retry: true });
    }
  }

  /** The answer with the bytes that are missing. @throws {HttpError} `error` when it cannot be continued; a later one */
  async #continueAfter(error: unknown): Promise<HttpAnswer> {
    const { onRetry, logger, sleep: wait = sleep } = this.#options;
    const { signal } = this.#settings;
    if (this.#at - this.#continuedAt >= EARNS_CONTINUATIONS) this.#continuations = 0;
    this.#continuedAt = this.#at;
    for (let failure = error; ; ) {
      signal.throwIfAborted();
      if (!this.#identity || this.#at === 0 || !isPassing(failure)) throw failure;
      const seconds = RETRY_DELAYS[this.#continuations++];
      if (seconds === undefined) throw failure;
      onRetry?.(seconds, failure);
      logger?.warn({ url: showUrl(this.#url), seconds, err: failure }, 'a body that broke off is continued');
      await wait(seconds * 1000, signal);
      try {
        return await this.#getRest(this.#identity);
      } catch (later) {
        failure = later;
      }
    }
  }

  async #getRest(identity: Identity): Promise<HttpAnswer> {
    const headers = { ...FILE_HEADERS, ...rangeHeaders(identity, this.#at, identity.total) };
    const answer = await get(this.#url, headers, this.#settings);
    const { status, body, shown } = answer;
    if (status >= 400 && status !== 416) throw await refusal(answer);
    const proven = status === 206 && provesRange(body.headers, identity, this.#at, identity.total);
    if (proven) {
      checkEncoding(body.headers, shown);
      return answer;
    }
    body.destroy();
    // Nobody proves anything about this beginning any more.
    this.#identity = null;
    throw new HttpError(`${shown}: the download cannot be continued, the file has changed`, { retry: true });
  }
}
