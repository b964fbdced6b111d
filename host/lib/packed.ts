/**
 * Whether this is the single program that build/dist makes, and what is in it. In the checkout, and in the launcher's
 * bundle, there is nothing packed.
 */
import { getAsset, getRawAsset, isSea } from 'node:sea';
import { type PackedIndex, unpackedFolder } from './unpack.ts';

/** The asset that lists the others. */
const INDEX = 'index.json';

let known: PackedIndex | null | undefined;

/** What is in the program; null when this is none. */
export function packedIndex(): PackedIndex | null {
  // The program's own bytes, which its build wrote.
  known ??= isSea() ? (JSON.parse(getAsset(INDEX, 'utf8')) as PackedIndex) : null;
  return known;
}

/** A text in the program; null when this is none. @throws Error when it has no such text */
export function packedText(name: string): string | null {
  return packedIndex() === null ? null : getAsset(name, 'utf8');
}

/** The folder below `base` with the program's files; null when this is no such program. @throws {YavmError} YAVM_E_DIST_… */
export function packedFolder(base: string): string | null {
  const index = packedIndex();
  return index && unpackedFolder(base, { index, read: (name) => new Uint8Array(getRawAsset(name)) });
}
