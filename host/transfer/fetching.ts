/** One file on its way: what is missing of it is asked for, on one connection or on several that help each other. */
import { sleep } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { formatSize } from '../lib/size.ts';
import { gathered, sizeOf, split } from './gather.ts';
import type { Downloaded, DownloadOptions, Lines, Sink } from './http.ts';
import { connectionError, HttpError } from './http-error.ts';
import { checkEncoding, contentLength, FILE_HEADERS } from './http-headers.ts';
import { refusal } from './http-refusal.ts';
import { get, type HttpAnswer, TIMEOUTS } from './http-request.ts';
import { settingsOf } from './http-source.ts';
import { Tap } from './http-tap.ts';
import { Watchdog } from './http-watchdog.ts';
import { type Identity, identityOf, provesRange, rangeHeaders } from './identity.ts';
import { type Segment, Segments } from './segments.ts';
import { Writes } from './writes.ts';

/**
 * Measured over a long line (the bench `line`): two connections bring 1.5 times as much as one, four 2.2 times; eight bring a
 * fifth on top of that, and are more than many servers let one client have.
 */
const LINES: Lines = { connections: 4, segment: 32 * 1024 * 1024, patience: 1000 };
/** Bytes a second: more fill a line of a gigabit, and several connections would only cost. */
const FAST = 100e6;
/**
 * A large file's segments are so many times as large: each begins with a connection that is slow at first. Larger ones
 * leave the hash further behind, and more to be fetched again after a kill.
 */
const LARGEST = 4;

/** What a body is for. */
interface Piece {
  segment: Segment;
  /** The body ends there; infinite when that is not known. */
  until: number;
}

interface Answer extends HttpAnswer {
  tap: Tap;
}

/** What one download has, and knows of the server. */
export class Fetching {
  readonly #url: URL;
  readonly #sink: Sink;
  readonly #options: DownloadOptions;
  readonly #lines: Lines;
  /** Of what the sink has; null: nothing that could be continued. */
  #identity: Identity | null;
  #plan: Segments;
  /** The server has shown that it does not serve several connections. */
  #alone = false;
  #pieced: boolean;
  #received = 0;

  constructor(url: URL, sink: Sink, options: DownloadOptions) {
    const { beginning = null, lines = LINES } = options;
    this.#url = url;
    this.#sink = sink;
    this.#options = options;
    this.#lines = lines;
    this.#identity = beginning?.identity ?? null;
    this.#plan = this.#newPlan(beginning?.size ?? 0, beginning?.identity.total ?? null);
    this.#pieced = beginning !== null;
  }

  /** Bytes that have arrived, in all attempts together. */
  get received(): number {
    return this.#received;
  }

  /** Fetches what is missing. What it got before it failed stays, for the next attempt. */
  async attempt(): Promise<Downloaded> {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, over.signal]);
    let helpers = Promise.resolve();
    try {
      const onAccepted = (answer: HttpAnswer) => {
        if (this.#mayShare(answer)) helpers = this.#help(signal);
      };
      if (!this.#plan.complete) await this.#fetchFirst(signal, onAccepted);
      while (!this.#plan.complete) {
        const changed = this.#plan.changed();
        // Everything missing is in the hands of helpers: who fails, leaves it to us.
        if (!(await this.#fetchNext(signal))) await changed;
        signal.throwIfAborted();
      }
      return { size: this.#plan.total, pieced: this.#pieced };
    } finally {
      over.abort(new Error('the attempt is over'));
      await helpers;
    }
  }

  /** An attempt's first request, for all that follows what is there. Its answer may as well begin anew. */
  async #fetchFirst(signal: AbortSignal, onAccepted: (answer: HttpAnswer) => void): Promise<void> {
    const segment = this.#plan.take() ?? NOTHING;
    let piece: Piece = { segment, until: this.#plan.reach(segment) };
    const continued = this.#identity && this.#plan.present > 0;
    try {
      const answer = await this.#ask(continued ? piece : null, signal);
      try {
        if (!continued || !this.#proves(answer, piece)) piece = await this.#beginAnew(answer);
        await this.#options.onSize?.(this.#known === null ? null : this.#known - this.#plan.present);
        onAccepted(answer);
        await this.#receive(answer, piece);
      } finally {
        answer.body.destroy();
      }
    } finally {
      this.#plan.release(piece.segment);
    }
  }

  /** Fetches a segment by a request of its own; false when there is none to be had. */
  async #fetchNext(signal: AbortSignal, onAccepted = () => {}): Promise<boolean> {
    const segment = this.#plan.take();
    if (!segment) return false;
    const piece = { segment, until: segment.end };
    try {
      const answer = await this.#ask(piece, signal);
      try {
        if (!this.#proves(answer, piece)) throw await this.#refusal(answer);
        onAccepted();
        await this.#receive(answer, piece);
      } finally {
        answer.body.destroy();
      }
    } finally {
      this.#plan.release(segment);
    }
    return true;
  }

  #mayShare({ body }: HttpAnswer): boolean {
    if (this.#alone || this.#identity === null || this.#lines.connections < 2) return false;
    if (body.headers['accept-ranges']?.toLowerCase() === 'none') return false;
    return this.#plan.total - this.#plan.present >= 2 * this.#lines.segment;
  }

  /** Fetches along with a slow first connection, on a second one; on more when the server has served that. Never fails. */
  async #help(signal: AbortSignal): Promise<void> {
    const { patience, connections } = this.#lines;
    const before = this.#received;
    if (patience > 0) await sleep(patience, signal).catch(() => {});
    if (signal.aborted || (this.#received - before) * 1000 > FAST * patience) return;
    const served = deferred<boolean>();
    const helper = async () => {
      try {
        while (!this.#alone && (await this.#fetchNext(signal, () => served.resolve(true))));
      } catch {
        // What it did not get is fetched by the others, who will meet what is the matter.
      }
      served.resolve(false);
    };
    const first = helper();
    const more = (await served.promise) ? connections - 2 : 0;
    await Promise.all([first, ...Array.from({ length: more }, helper)]);
  }

  async #ask(piece: Piece | null, signal: AbortSignal): Promise<Answer> {
    const range = this.#identity && piece && rangeHeaders(this.#identity, piece.segment.at, piece.until);
    const tap = new Tap();
    const settings = { ...settingsOf(this.#options, signal), tap };
    return { ...(await get(this.#url, { ...FILE_HEADERS, ...range }, settings)), tap };
  }

  /** Whether an answer holds just what was asked for, of the same file. */
  #proves({ status, body, shown }: HttpAnswer, { segment, until }: Piece): boolean {
    if (status !== 206 || !this.#identity) return false;
    if (!provesRange(body.headers, this.#identity, segment.at, until)) return false;
    checkEncoding(body.headers, shown);
    segment.tentative = false;
    this.#pieced = true;
    return true;
  }

  /** Why a piece cannot be had. The next attempt's first request finds out whether the file has changed. */
  async #refusal(answer: HttpAnswer): Promise<HttpError> {
    this.#alone = true;
    const { status, shown } = answer;
    return status >= 400 && status !== 416 ? await refusal(answer) : changedError(shown);
  }

  /** Takes an answer for the whole file, from its first byte. */
  async #beginAnew(answer: HttpAnswer): Promise<Piece> {
    const { status, body, shown } = answer;
    if (this.#identity !== null && (status === 206 || status === 416)) {
      this.#identity = null;
      throw changedError(shown);
    }
    if (status !== 200) throw await refusal(answer);
    checkEncoding(body.headers, shown);
    const total = contentLength(body.headers, shown);
    if (total !== null && total > this.#options.maxSize) throw this.#tooLarge(shown);
    this.#identity = this.#options.onePiece ? null : identityOf(body.headers, total);
    this.#pieced = false;
    this.#plan = this.#newPlan(0, total);
    await this.#sink.begin(this.#identity);
    const segment = this.#plan.take() ?? NOTHING;
    segment.tentative = false;
    return { segment, until: this.#plan.total };
  }

  async #receive({ body, shown, tap }: Answer, piece: Piece): Promise<void> {
    const { signal, timeouts } = this.#options;
    const watchdog = new Watchdog(body, shown, timeouts?.stall ?? TIMEOUTS.stall);
    const writes = new Writes();
    try {
      let wanted = true;
      const length = contentLength(body.headers, shown);
      const tapped = length !== null && tap.fits(body, length);
      for await (const bytes of tapped ? tap.read(body, length, shown) : gathered(body)) {
        watchdog.pause();
        wanted = this.#store(bytes, piece, shown, writes, (count) => tap.free(count));
        if (!wanted) break;
        await writes.room();
        watchdog.resume(sizeOf(bytes));
      }
      watchdog.end();
      await writes.end();
      if (!wanted) return;
    } catch (error) {
      if (error instanceof SinkError) throw error.cause;
      throw signal.aborted ? signal.reason : connectionError(error, shown);
    } finally {
      watchdog.end();
      await writes.end().catch(() => {});
    }
    const { at } = piece.segment;
    if (this.#known === null) this.#plan = this.#newPlan(at, at);
    else if (at < piece.until) {
      throw new HttpError(`${shown}: only ${at} of ${this.#known} bytes came`, { retry: true });
    }
  }

  /** Puts a body's bytes where they belong; false when no more of them are wanted. */
  #store(
    bytes: Uint8Array[],
    { segment, until }: Piece,
    shown: string,
    writes: Writes,
    free: (count: number) => void,
  ): boolean {
    const { maxSize, onProgress } = this.#options;
    for (let rest = bytes; rest.length > 0; ) {
      const at = segment.claimed;
      if (at >= until) return false;
      if (at >= segment.end && !this.#plan.extend(segment)) return false;
      const count = Math.min(sizeOf(rest), segment.end - at);
      if (at + count > maxSize) throw this.#tooLarge(shown);
      segment.claimed = at + count;
      const [taken, others] = split(rest, count);
      writes.add(count, this.#sink.write(taken, at).catch(wrapSinkError), () => {
        free(count);
        segment.at = at + count;
        this.#received += count;
        this.#sink.advance(this.#plan.settled);
        onProgress?.(this.#plan.present, this.#known);
      });
      rest = others;
    }
    return true;
  }

  /** Bytes of the whole file, null when the server does not say. */
  get #known(): number | null {
    return Number.isFinite(this.#plan.total) ? this.#plan.total : null;
  }

  #newPlan(from: number, total: number | null): Segments {
    const { connections, segment } = this.#lines;
    const size = Math.min(Math.ceil((total ?? 0) / connections), LARGEST * segment);
    return new Segments(from, total ?? Number.POSITIVE_INFINITY, Math.max(size, segment));
  }

  #tooLarge(shown: string): HttpError {
    return new HttpError(
      `${shown}: larger than ${formatSize(this.#options.maxSize)}, the most that is taken`,
    );
  }
}

/** Of an empty file. */
const NOTHING: Segment = { at: 0, claimed: 0, end: 0, tentative: false };

function changedError(shown: string): HttpError {
  return new HttpError(`${shown}: the download cannot be continued, the file has changed`, { retry: true });
}

/** Tells the sink's errors, which have names like a connection's (EPIPE), from the connection's. */
class SinkError extends Error {}

function wrapSinkError(cause: unknown): never {
  throw new SinkError('', { cause });
}
