/** Requests, each on a connection of its own, up to the answer's headers. */
import {
  request as beginRequest,
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from 'node:http';
import { type ConnectionSettings, connect } from './http-connection.ts';
import { connectionError, HttpError } from './http-error.ts';
import { authorizationFor, MAX_REDIRECTS, REDIRECTS, redirectTarget } from './http-redirect.ts';
import { showUrl } from './location.ts';

export interface HttpTimeouts {
  /** Name look-up, connection, proxy and TLS, milliseconds. */
  connect: number;
  /** From the connection to the answer's headers. */
  headers: number;
  /** In which some of the body must move (http-watchdog.ts, http-upload.ts). */
  stall: number;
}

export const TIMEOUTS: HttpTimeouts = { connect: 10_000, headers: 30_000, stall: 30_000 };

export interface RequestSettings extends ConnectionSettings {
  timeouts: HttpTimeouts;
  signal: AbortSignal;
}

export interface HttpAnswer {
  status: number;
  /** Still to be read, or to be destroyed. */
  body: IncomingMessage;
  /** Where the answer came from, for messages. */
  shown: string;
  /** The same, with its secrets. */
  url: URL;
}

/**
 * Sends a GET and follows redirects, also relative ones, also from https to http. Credentials of the URL go to its own
 * origin only.
 * @throws {YavmError} YAVM_E_HTTP without an answer in time, and after 10 redirects; YAVM_E_URL_REFUSED, YAVM_E_PROXY. The
 * signal's reason.
 */
export async function get(
  start: URL,
  headers: OutgoingHttpHeaders,
  settings: RequestSettings,
): Promise<HttpAnswer> {
  let url = start;
  for (let redirects = 0; ; redirects++) {
    const authorization = authorizationFor(url, start);
    const own = authorization ? { ...headers, authorization } : headers;
    const { request, answer, timer, shown } = await beginExchange(url, 'GET', own, settings);
    timer.begin('no answer', settings.timeouts.headers);
    request.end();
    const body = await answer;
    const status = body.statusCode ?? 0;
    if (!REDIRECTS.has(status)) return { status, body, shown, url };
    body.destroy();
    if (redirects === MAX_REDIRECTS) throw tooManyRedirects(start);
    url = redirectTarget(url, body.headers.location, shown);
  }
}

export function tooManyRedirects(start: URL): HttpError {
  return new HttpError(`${showUrl(start)}: more than ${MAX_REDIRECTS} redirects`);
}

/** A request that has its connection; nothing is sent yet. */
export interface Exchange {
  request: ClientRequest;
  /** Rejects with an HttpError or the signal's reason; may be left alone. */
  answer: Promise<IncomingMessage>;
  /** When the request is over, with what ended it; null: nothing went wrong. */
  closed: Promise<Error | null>;
  /** Not running. The answer ends it. */
  timer: PhaseTimer;
  /** Where it goes, for messages. */
  shown: string;
}

/** Connects, and makes the request. @throws as {@link get} */
export async function beginExchange(
  url: URL,
  method: 'GET' | 'PUT',
  headers: OutgoingHttpHeaders,
  settings: RequestSettings,
): Promise<Exchange> {
  const { signal, timeouts } = settings;
  const shown = showUrl(url);
  const connection = await connect(url, timeouts.connect, signal, settings);
  // Without an agent, so that the connection is closed behind the answer.
  const request = beginRequest({
    method,
    path: connection.path,
    headers: { host: url.host, ...headers, ...connection.headers },
    setHost: false,
    createConnection: () => connection.socket,
    signal,
  });
  const timer = new PhaseTimer(request, shown);
  const answer = answerOf(request, timer, shown, signal);
  answer.catch(() => {});
  return { request, answer, closed: endOf(request), timer, shown };
}

function endOf(request: ClientRequest): Promise<Error | null> {
  return new Promise((resolve) => {
    let failure: Error | null = null;
    request.on('error', (error) => {
      failure ??= error;
    });
    request.once('close', () => resolve(failure));
  });
}

function answerOf(
  request: ClientRequest,
  timer: PhaseTimer,
  shown: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let body: IncomingMessage | undefined;
    request.once('response', (response) => {
      timer.end();
      body = response;
      // Kept for the reader, who may still be busy with the headers.
      response.on('error', () => {});
      resolve(response);
    });
    // Stays after the response: the body's reader learns why, not only that the connection is gone.
    request.on('error', (error) => {
      timer.end();
      if (body) endBody(body, error, shown);
      reject(signal.aborted ? signal.reason : connectionError(error, shown));
    });
    request.once('upgrade', (_, socket) => {
      timer.end();
      socket.destroy();
      reject(new HttpError(`${shown}: the server changes the protocol`));
    });
    request.once('close', () => {
      timer.end();
      reject(connectionError(Object.assign(new Error('connection closed'), { code: 'ECONNRESET' }), shown));
    });
  });
}

/** What goes wrong with a connection whose answer is being read. */
function endBody(body: IncomingMessage, error: NodeJS.ErrnoException, shown: string): void {
  if (!body.complete) body.destroy(error);
  // All that was announced is there. Then only bytes behind it matter, which are no second answer.
  else if (error.code?.startsWith('HPE_')) {
    body.destroy(new HttpError(`${shown}: more bytes come than were announced`));
  }
}

/** The deadline of the phase that a request is in. */
export class PhaseTimer {
  readonly #request: ClientRequest;
  readonly #shown: string;
  #timer: NodeJS.Timeout | undefined;

  constructor(request: ClientRequest, shown: string) {
    this.#request = request;
    this.#shown = shown;
  }

  begin(complaint: string, milliseconds: number): void {
    this.end();
    const expire = () => {
      const text = `${this.#shown}: ${complaint} within ${milliseconds / 1000} s`;
      this.#request.destroy(new HttpError(text, { retry: true }));
    };
    this.#timer = setTimeout(expire, milliseconds);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
