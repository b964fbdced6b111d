/** The folder of the socket that a state comes through: outside of the template, where QEMU's user may enter. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** In the folder of a template that is being made: where that of the socket is. */
export const SOCKET_NOTE = 'socket-folder';
/** Bytes of a name's random part. */
const NAME_BYTES = 8;
const FORM = /^\/.*\/ya-vm-[0-9a-f]{16}$/;

/**
 * Makes one. Its name is written down before: who is killed cannot remove it, and the next who builds does.
 * @throws what writing and making fail with
 */
export function makeSocketFolder(note: string): string {
  const path = join(tmpdir(), `ya-vm-${randomBytes(NAME_BYTES).toString('hex')}`);
  writeFileSync(note, path, { mode: 0o600 });
  mkdirSync(path, { mode: 0o700 });
  return path;
}

/** Removes the one that is written down, if there is one. */
export function removeSocketFolder(note: string): void {
  let path: string;
  try {
    path = readFileSync(note, 'latin1');
  } catch {
    return;
  }
  if (FORM.test(path)) rmSync(path, { recursive: true, force: true });
  rmSync(note, { force: true });
}
