/** One GET, through its redirects, up to the answer's headers. */
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders, RequestOptions } from 'node:http';
import { connectionError, HttpError } from './http-error.ts';
import { showUrl } from './location.ts';

export interface HttpTimeouts {
  /** Name look-up, connection and TLS, milliseconds. */
  connect: number;
  /** From the connection to the answer's headers. */
  headers: number;
  /** In which some of the body must move (http-watchdog.ts, http-upload.ts). */
  stall: number;
}

export const TIMEOUTS: HttpTimeouts = { connect: 10_000, headers: 30_000, stall: 30_000 };

export interface RequestSettings {
  timeouts: HttpTimeouts;
  /** Certificates to trust instead of Node's, PEM; for tests. */
  ca?: string;
  signal: AbortSignal;
}

export interface HttpAnswer {
  status: number;
  /** Still to be read, or to be destroyed. */
  body: IncomingMessage;
  /** Where the answer came from, for messages. */
  shown: string;
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 10;
/** Read at once from a socket, bytes: fewer and larger writes to the disk. */
const READ_SIZE = 1024 * 1024;

/**
 * Sends a GET and follows redirects, also relative ones. Credentials of the URL go to its own origin only.
 * @throws {HttpError} without an answer in time; after 10 redirects. The signal's reason.
 */
export async function get(
  start: URL,
  headers: OutgoingHttpHeaders,
  settings: RequestSettings,
): Promise<HttpAnswer> {
  let url = start;
  for (let redirects = 0; ; redirects++) {
    const shown = showUrl(url);
    // A redirect that brings credentials of its own brings them for its own place.
    const authorization = basic(url) ?? (url.origin === start.origin ? basic(start) : undefined);
    const body = await exchange(url, authorization ? { ...headers, authorization } : headers, settings);
    const status = body.statusCode ?? 0;
    if (!REDIRECTS.has(status)) return { status, body, shown };
    body.destroy();
    if (redirects === MAX_REDIRECTS) throw new HttpError(`${showUrl(start)}: more than 10 redirects`);
    url = redirectTarget(url, body.headers.location, shown);
  }
}

function redirectTarget(from: URL, location: string | undefined, shown: string): URL {
  const target = location === undefined ? null : URL.parse(location, from.href);
  if (target === null) throw new HttpError(`${shown}: a redirect that leads nowhere`);
  // A relative one takes its base's user information along: it is there already, by its origin.
  if (target.protocol === 'http:' || target.protocol === 'https:') return target;
  throw new HttpError(`${shown}: a redirect to ${target.protocol}, which is neither http nor https`);
}

function basic({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  return `Basic ${Buffer.from(`${decode(username)}:${decode(password)}`).toString('base64')}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** One request on a connection of its own. */
async function exchange(
  url: URL,
  headers: OutgoingHttpHeaders,
  settings: RequestSettings,
): Promise<IncomingMessage> {
  const { signal, timeouts, ca } = settings;
  signal.throwIfAborted();
  const { request: begin } = await (url.protocol === 'https:' ? import('node:https') : import('node:http'));
  const options: RequestOptions & { ca?: string; highWaterMark: number } = {
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port,
    path: url.pathname + url.search,
    headers,
    agent: false,
    signal,
    ca,
    highWaterMark: READ_SIZE,
  };
  const shown = showUrl(url);
  return await new Promise<IncomingMessage>((resolve, reject) => {
    const request = begin(options);
    const timer = new PhaseTimer(request, shown);
    timer.begin('no connection', timeouts.connect);
    request.once('socket', (socket) => {
      socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () =>
        timer.begin('no answer', timeouts.headers),
      );
    });
    request.once('response', (response) => {
      timer.end();
      // Kept for the reader, who may still be busy with the headers.
      response.on('error', () => {});
      resolve(response);
    });
    // Stays after the response: an error of the connection then reaches the body's reader by the body.
    request.on('error', (error) => {
      timer.end();
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
    request.end();
  });
}

/** The deadline of the phase that a request is in. */
class PhaseTimer {
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
