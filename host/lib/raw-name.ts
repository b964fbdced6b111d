/**
 * Names of files as they are: bytes, mostly UTF-8, but a file system takes anything. Here a name is a string with one
 * character a byte (`latin1` to Node): it compares, splits and is kept as cheaply as a text, and loses nothing.
 */
import { isUtf8 } from 'node:buffer';

export type RawName = string;

export function rawName(text: string): RawName {
  return isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

/** The bytes as a name. */
export function rawBytes(bytes: Uint8Array): RawName {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

export function nameBytes(raw: RawName): Buffer {
  return Buffer.from(raw, 'latin1');
}

/** The name as text; what is not UTF-8 becomes U+FFFD. */
export function nameText(raw: RawName): string {
  return isAscii(raw) ? raw : nameBytes(raw).toString('utf8');
}

/** Whether it is text at all. */
export function isText(raw: RawName): boolean {
  return isAscii(raw) || isUtf8(nameBytes(raw));
}

export function isAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 0x7e) return false;
  return true;
}
