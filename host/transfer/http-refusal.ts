/** What a server says when it does not do what was asked: its status, and a line of its page. */
import type { IncomingMessage } from 'node:http';
import { type HttpError, printable, statusError } from './http-error.ts';
import { basic } from './http-redirect.ts';
import type { HttpAnswer } from './http-request.ts';

/** Bytes of a page that are looked at. */
const MAX_PAGE = 4096;
/** Milliseconds that a page may take. The status is known: nobody should wait for the words. */
const PATIENCE = 1000;
const TEXT = /^(?:text\/|application\/(?:[\w.+-]*\+)?(?:json|xml)\b)/i;
/** Parts of a query as short as this appear in any text. */
const MIN_SECRET = 4;

/** An answer that is no success as an error. Ends the answer. */
export async function refusal({ status, body, shown, url }: HttpAnswer): Promise<HttpError> {
  const line = firstLine(await readPage(body), body.headers['content-type'] ?? '');
  const words = withoutSecrets(line, url);
  const reason = body.statusMessage ?? '';
  // Most pages only repeat it.
  const repeats = words === '' || words === reason || words === `${status} ${reason}`;
  return statusError(status, withoutSecrets(reason, url), shown, repeats ? undefined : words);
}

async function readPage(body: IncomingMessage): Promise<string> {
  const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = body.headers;
  const timer = setTimeout(() => body.destroy(), PATIENCE);
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    if (!TEXT.test(type) || encoding.toLowerCase() !== 'identity') return '';
    for await (const piece of body as AsyncIterable<Uint8Array>) {
      pieces.push(piece);
      size += piece.byteLength;
      if (size >= MAX_PAGE) break;
    }
  } catch {
    // What there is will do.
  } finally {
    clearTimeout(timer);
    body.destroy();
  }
  return new TextDecoder().decode(Buffer.concat(pieces).subarray(0, MAX_PAGE));
}

/** The first line that holds something, of a page without its markup. */
function firstLine(page: string, type: string): string {
  const text = /html|xml/i.test(type)
    ? page.replace(/<(style|script)\b[\s\S]*?(<\/\1>|$)/gi, '').replace(/<[^>]*(>|$)/g, ' \n')
    : page;
  const lines = text.split(/[\r\n]+/).map(printable);
  return lines.find((line) => line !== '' && line !== '{') ?? '';
}

/** Servers like to repeat what they were asked, with what the URL keeps to itself. */
function withoutSecrets(text: string, url: URL): string {
  const query = url.search.slice(1);
  const values = query.split('&').map((pair) => pair.slice(pair.indexOf('=') + 1));
  const secrets = [query, url.username, url.password, basic(url)?.slice('Basic '.length) ?? '', ...values];
  const forms = secrets.flatMap((secret) => [secret, decoded(secret)]);
  return forms
    .filter((form) => form.length >= MIN_SECRET)
    .sort((one, other) => other.length - one.length)
    .reduce((clean, form) => clean.replaceAll(form, '…'), text);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
