/** Where something is to be fetched from, as agreements and scripts write it (exe-unit.md 6.1). */
import { fileURLToPath } from 'node:url';
import { YavmError } from '../lib/errors.ts';

export type HashAlgorithm = 'sha3-224' | 'sha3-256' | 'sha3-384' | 'sha3-512';

export interface Digest {
  algorithm: HashAlgorithm;
  /** Lower-case. */
  hex: string;
}

export interface Location {
  /** What the content must hash to; null when the text says nothing about it. */
  digest: Digest | null;
  /** May hold credentials: for messages and logs there is {@link showUrl}. */
  url: URL;
}

/** By the number of hex digits. */
const ALGORITHMS: Readonly<Record<number, HashAlgorithm>> = {
  56: 'sha3-224',
  64: 'sha3-256',
  96: 'sha3-384',
  128: 'sha3-512',
};

/** Found anywhere in the text, as upstream does; what stands before it is dropped. */
const HASHED = /hash:(?:\/\/)?([^:]+):(?:0x)?([a-f0-9]+):(.+)/i;
const ABSOLUTE = /^[a-z][a-z0-9+.-]*:/i;
/** Characters; real ones have a few hundred, presigned ones some thousand. */
const MAX_TEXT = 64 * 1024;

/**
 * Reads `hash:sha3:<hex>:<url>` or a plain URL.
 * @param fallback Scheme of a text that has none: `container` for transfers, `file` for images.
 * @throws {YavmError} YAVM_E_URL, YAVM_E_UNSUPPORTED (another kind of digest).
 */
export function parseLocation(text: string, fallback: 'container' | 'file'): Location {
  const trimmed = text.trim();
  if (trimmed === '') throw urlError('Empty URL');
  if (trimmed.length > MAX_TEXT) throw urlError(`longer than ${MAX_TEXT} characters`);
  const match = HASHED.exec(trimmed);
  if (match) {
    const [, algorithm = '', hex = '', url = ''] = match;
    return { digest: parseDigest(algorithm, hex), url: parseUrl(url.trim(), fallback) };
  }
  if (/^hash:/i.test(trimmed)) throw urlError('the hash is not of the form hash:sha3:<hex digits>:<URL>');
  return { digest: null, url: parseUrl(trimmed, fallback) };
}

function parseDigest(name: string, hex: string): Digest {
  const algorithm = ALGORITHMS[hex.length];
  if (name === 'sha3' && algorithm) return { algorithm, hex: hex.toLowerCase() };
  throw new YavmError('YAVM_E_UNSUPPORTED', `Unsupported digest: ${name} with ${hex.length} hex digits`, {
    hint: 'Supported is sha3 with 56, 64, 96 or 128 hex digits.',
  });
}

function parseUrl(text: string, fallback: string): URL {
  const absolute = ABSOLUTE.test(text) ? text : `${fallback}:${text}`;
  // Node's own error repeats the text, and with it credentials.
  if (!URL.canParse(absolute)) throw urlError('not a URL');
  return new URL(absolute);
}

/** The path that a `file:` URL names. @throws {YavmError} YAVM_E_URL */
export function filePath(url: URL): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new YavmError('YAVM_E_URL', 'Invalid url: not a path of this host', { cause });
  }
}

function urlError(reason: string): YavmError {
  return new YavmError('YAVM_E_URL', `Invalid url: ${reason}`);
}

/** A URL without what may be a secret: user information, query, fragment. */
export function showUrl(url: URL): string {
  const place = url.host === '' ? url.protocol : `${url.protocol}//${url.host}`;
  return `${place}${url.pathname}${url.search === '' ? '' : '?…'}`;
}

/** Characters kept of a URL's file name; upstream's names are shorter than that. */
const MAX_STEM = 96;
const MAX_EXTENSION = 16;

/**
 * Name of an image in the cache, which upstream's exe-units share (exe-unit.md 6.2): `<stem>_<hex>.<ext>` of the
 * last part of the URL's path. Never has a slash, never begins with a dot.
 */
export function cacheName(url: URL, digest: Digest): string {
  const last = safeName(decode(url.pathname.slice(url.pathname.lastIndexOf('/') + 1)));
  // A dot in front begins no extension.
  const dot = last.lastIndexOf('.');
  const stem = (dot > 0 ? last.slice(0, dot) : last).slice(0, MAX_STEM).replace(/^\./, '_');
  const extension = dot > 0 ? last.slice(dot + 1, dot + 1 + MAX_EXTENSION) : '';
  return `${stem}_${digest.hex}${extension === '' ? '' : `.${extension}`}`;
}

const IMAGE_NAME = /^(?!\.).*_(?:[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})(?:\.[^.]+)?$/;

/** Whether a file of the cache has a name as {@link cacheName} gives it; whatever else is there is none of ours. */
export function isImageName(name: string): boolean {
  return IMAGE_NAME.test(name);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function safeName(text: string): string {
  return text.replace(/[^\w.+=@-]/g, '_');
}
