/** A server as the destination of a transfer: one PUT, which the server may refuse before, during and after its body. */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { deferred } from '../lib/deferred.ts';
import { connectionError, HttpError } from './http-error.ts';
import { authorizationFor, MAX_REDIRECTS, REDIRECTS, redirectTarget } from './http-redirect.ts';
import { refusal } from './http-refusal.ts';
import { beginExchange, type Exchange, type RequestSettings, tooManyRedirects } from './http-request.ts';
import { type HttpOptions, settingsOf } from './http-source.ts';
import { showUrl } from './location.ts';
import type { Opened, TransferDestination } from './types.ts';

/** Milliseconds that a server has to say "100 Continue"; those that do not know it say nothing. */
const CONTINUE_WAIT = 1000;
/** Bytes that must leave within `timeouts.stall`. */
const PIECE = 64 * 1024;
/** Bytes and milliseconds spent on what a server says to its success. */
const MAX_ANSWER = 64 * 1024;
const ANSWER_WAIT = 1000;

export function httpDestination(url: URL, options: HttpOptions = {}): TransferDestination {
  return {
    shown: showUrl(url),
    write: (content, { signal }) => put(url, content, settingsOf(options, signal)),
  };
}

/** Sends the request, to where redirects lead, until a server wants the body. */
async function put(start: URL, content: Opened, settings: RequestSettings): Promise<void> {
  let url = start;
  let expect = content.size !== 0;
  for (let redirects = 0; ; ) {
    const exchange = await beginExchange(url, 'PUT', headersOf(url, start, content, expect), settings);
    const refused = expect ? await refusedEarly(exchange) : null;
    if (refused === null) return await send(exchange, url, content, settings);
    const { statusCode: status = 0 } = refused;
    if (!REDIRECTS.has(status) && status !== 417) throw await refusalOf(refused, url, exchange.shown);
    refused.destroy();
    if (status === 417) {
      expect = false;
      continue;
    }
    if (redirects++ === MAX_REDIRECTS) throw tooManyRedirects(start);
    url = uploadTarget(url, refused, exchange.shown);
  }
}

function headersOf(url: URL, start: URL, { size }: Opened, expect: boolean): OutgoingHttpHeaders {
  const authorization = authorizationFor(url, start);
  return {
    'user-agent': 'ya-vm',
    accept: '*/*',
    'accept-encoding': 'identity',
    ...(size === null ? { 'transfer-encoding': 'chunked' } : { 'content-length': size }),
    ...(expect && { expect: '100-continue' }),
    ...(authorization && { authorization }),
  };
}

/** Sends the head. The answer, when it comes instead of an invitation to go on; null: the body may be sent. */
async function refusedEarly({ request, answer }: Exchange): Promise<IncomingMessage | null> {
  const invited = deferred<null>();
  const timer = setTimeout(() => invited.resolve(null), CONTINUE_WAIT);
  request.once('continue', () => invited.resolve(null));
  request.flushHeaders();
  try {
    const first = await Promise.race([invited.promise, answer]);
    return first !== null && (first.statusCode ?? 0) < 300 ? null : first;
  } finally {
    clearTimeout(timer);
  }
}

/** Where an upload that has not begun is to go instead. */
function uploadTarget(from: URL, { statusCode: status = 0, headers }: IncomingMessage, shown: string): URL {
  const target = redirectTarget(from, headers.location, shown);
  if (status !== 307 && status !== 308) throw movedError(status, target, shown);
  if (from.protocol === 'https:' && target.protocol === 'http:') {
    throw new HttpError(`${shown}: the server redirects the upload from https to http: ${showUrl(target)}`);
  }
  return target;
}

function movedError(status: number, target: URL, shown: string): HttpError {
  return new HttpError(
    `${shown}: the server answers ${status}: it redirects the upload to ${showUrl(target)}`,
    {
      hint: 'Name that address. An upload follows 307 and 308 only, and only before its first byte.',
    },
  );
}

async function refusalOf(body: IncomingMessage, url: URL, shown: string): Promise<HttpError> {
  const status = body.statusCode ?? 0;
  if (!REDIRECTS.has(status)) return await refusal({ status, body, url, shown });
  body.destroy();
  return movedError(status, redirectTarget(url, body.headers.location, shown), shown);
}

/** Sends the body and waits for the server's word on it. */
async function send(
  exchange: Exchange,
  url: URL,
  content: Opened,
  { signal, timeouts }: RequestSettings,
): Promise<void> {
  const { request, answer, timer, shown } = exchange;
  const sender = new Sender(exchange, timeouts.stall);
  try {
    const whole = await sendBody(sender, content, shown);
    // What the kernel has still to send comes on top.
    timer.begin('no answer', timeouts.stall + timeouts.headers);
    const body = await answer;
    timer.end();
    const { statusCode: status = 0 } = body;
    if (!whole || status < 200 || status > 299) throw await refusalOf(body, url, shown);
    await drain(body);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    timer.end();
    request.destroy();
  }
}

/** Whether all of it was sent; else the server has answered before. */
async function sendBody(sender: Sender, { size, bytes }: Opened, shown: string): Promise<boolean> {
  let sent = 0;
  // Held back until the source says that all is well: with it the server would have a whole file.
  let last: Uint8Array = new Uint8Array(0);
  for await (const piece of bytes) {
    sent += piece.byteLength;
    if (size !== null && sent > size) throw new HttpError(`${shown}: more than ${size} bytes are to be sent`);
    const held = sent === size && piece.byteLength > 0 ? 1 : 0;
    if (held > 0) last = Uint8Array.from(piece.subarray(-held));
    if (!(await sender.write(piece.subarray(0, piece.byteLength - held)))) return false;
  }
  if (size !== null && sent < size) {
    throw new HttpError(`${shown}: only ${sent} of ${size} bytes are there to be sent`);
  }
  return await sender.end(last);
}

/** Hands bytes to the connection, and notices when the server does not want them any more. */
class Sender {
  readonly #exchange: Exchange;
  readonly #stall: number;
  /** The server's last word has come: an error, a redirect, or the end of the connection. */
  #over = false;
  /** Ends the wait that is under way. */
  #wake: (() => void) | null = null;

  constructor(exchange: Exchange, stall: number) {
    this.#exchange = exchange;
    this.#stall = stall;
    const end = () => {
      this.#over = true;
      this.#wake?.();
    };
    // Once for all pieces: a promise that each piece's wait raced would remember each of them.
    exchange.answer.then(({ statusCode = 0 }) => {
      if (statusCode > 299) end();
      // A success that comes too early decides nothing yet. It has stopped the timer.
      else if (this.#wake) this.#startTimer();
    }, end);
    // Behind an early success nothing else would tell: a request that is closed ends no more, and fails no more.
    exchange.closed.then(end);
  }

  /** False: the server has answered, and wants no more. `bytes` may be used again when it resolves. */
  async write(bytes: Uint8Array): Promise<boolean> {
    const { request } = this.#exchange;
    for (let at = 0; at < bytes.byteLength; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE);
      if (!(await this.#pass((done) => request.write(piece, done)))) return false;
    }
    return !this.#over;
  }

  /** Sends the last bytes, and that they are. */
  async end(bytes: Uint8Array): Promise<boolean> {
    const { request } = this.#exchange;
    return await this.#pass((done) => request.end(bytes, done));
  }

  async #pass(begin: (done: (error?: Error | null) => void) => void): Promise<boolean> {
    const { request, answer, closed, timer, shown } = this.#exchange;
    let failure: Error | null | undefined;
    if (!this.#over && !request.destroyed) {
      const moved = deferred<Error | null | undefined>();
      this.#wake = () => moved.resolve(null);
      this.#startTimer();
      begin(moved.resolve);
      failure = await moved.promise;
      this.#wake = null;
      timer.end();
      if (!failure && !this.#over) return true;
    }
    // Its error is the connection's; an answer that came before the connection broke says more.
    const { statusCode = 0 } = await answer;
    if (statusCode > 299) return false;
    throw connectionError((await closed) ?? failure ?? new Error('aborted'), shown);
  }

  #startTimer(): void {
    this.#exchange.timer.begin('the upload stalls: nothing moves', this.#stall);
  }
}

/** Reads what the server adds to its success, so that it is not cut off while it still reads. */
async function drain(body: IncomingMessage): Promise<void> {
  const timer = setTimeout(() => body.destroy(), ANSWER_WAIT);
  let size = 0;
  try {
    for await (const piece of body as AsyncIterable<Uint8Array>) {
      size += piece.byteLength;
      if (size > MAX_ANSWER) break;
    }
  } catch {
    // The status was its word.
  } finally {
    clearTimeout(timer);
  }
}
