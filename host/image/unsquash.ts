/** Reads all of an image: squashfs has no checksums, so damage shows when its blocks are decompressed, or not at all. */
import { spawn } from 'node:child_process';
import { deferred } from '../lib/deferred.ts';
import { findProgram } from '../lib/programs.ts';
import { TextTail } from '../lib/text-tail.ts';
import { NotAnImageError } from './errors.ts';

const MESSAGES = 4096;

/**
 * Decompresses all files and tables of an image to nowhere.
 * @throws {YavmError} YAVM_E_IMAGE_FORMAT with unsquashfs's words; YAVM_E_MKSQUASHFS_MISSING; the signal's reason
 */
export async function readWholeImage(
  path: string,
  signal: AbortSignal,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<void> {
  signal.throwIfAborted();
  const words = ['-no-progress', '-strict-errors', '-pf', '/dev/null', path];
  const child = spawn(findProgram('unsquashfs', env), words, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...env, LC_ALL: 'C' },
  });
  const kill = () => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  const said = new TextTail(MESSAGES);
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
  const ended = deferred<string | null>();
  child.once('error', ended.reject);
  child.once('close', (code, by) => ended.resolve(code === 0 ? null : `${by ?? `status ${code}`}`));
  try {
    const end = await ended.promise;
    signal.throwIfAborted();
    if (end === null) return;
    const lines = said.lines(3).join('; ');
    throw new NotAnImageError(`${path}: its content is damaged: unsquashfs ended with ${end}: ${lines}`, {
      hint: 'Download or build it again.',
    });
  } finally {
    signal.removeEventListener('abort', kill);
  }
}
