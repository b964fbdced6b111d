/** Runs mksquashfs: a tar through its standard input, or a folder that it reads itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { Writable } from 'node:stream';
import { deferred } from '../../lib/deferred.ts';
import { findProgram } from '../../lib/programs.ts';
import { TextTail } from '../../lib/text-tail.ts';
import { ImageBuildError } from '../errors.ts';
import { diskFull } from './disk-error.ts';
import { watchFolder } from './folder-progress.ts';
import { type Packer, packerWords } from './packers.ts';
import { nextTurn } from './section.ts';
import type { Pieces } from './tar-writer.ts';

/** Who owns what is packed: as it is found, or one for all. */
export type Ownership = 'keep' | { uid: number; gid: number };

export interface PackOptions {
  source: { tar: Pieces } | { folder: string };
  /** The file; it must not exist. After a failure it may be there, in part. */
  output: string;
  compressor: Packer;
  level?: number;
  owner: Ownership;
  /** Permissions of the root; of a folder they are its own. */
  rootMode?: number;
  /** When the image was made, seconds since the epoch. */
  time: number;
  /** No file is younger than `time` (SOURCE_DATE_EPOCH). */
  clampTimes: boolean;
  signal: AbortSignal;
  /** Bytes of a folder that were read. */
  onProgress?: (done: number, total: number) => void;
  env?: Readonly<Record<string, string | undefined>>;
}

/** Memory for its queues at most; its own bound is a quarter of the machine's. */
const MAX_MEMORY = 1024 ** 3;
const MIB = 1024 ** 2;
const MESSAGES = 4096;

/** mksquashfs's words. Pure but for the machine's size. */
export function packArguments(options: PackOptions): string[] {
  const { source, output, compressor, level, owner, rootMode, time, clampTimes } = options;
  const memory = Math.floor(Math.min(totalmem() / 4, MAX_MEMORY) / MIB);
  return [
    // Of a tar the table of owners is changed afterwards (owners.ts).
    ...('folder' in source ? [source.folder, output] : ['-', output, '-tar', '-noId']),
    // A file that cannot be read would be empty in the image, with a warning.
    ...['-noappend', '-no-recovery', '-exit-on-error', '-reproducible', '-quiet', '-no-progress'],
    ...['-processors', String(availableParallelism()), '-mem', `${memory}M`],
    ...packerWords(compressor, level),
    ...(rootMode === undefined ? [] : ['-root-mode', rootMode.toString(8)]),
    ...(clampTimes ? [] : ['-mkfs-time', String(time)]),
    ...ownerWords(owner),
  ];
}

function ownerWords(owner: Ownership): string[] {
  if (owner === 'keep') return [];
  return ['-force-uid', String(owner.uid), '-force-gid', String(owner.gid)];
}

/**
 * @throws {YavmError} YAVM_E_MKSQUASHFS_MISSING, YAVM_E_DISK_FULL, YAVM_E_IMAGE_BUILD with its last words; what the tar
 * throws; the signal's reason, mksquashfs killed
 */
export async function runMksquashfs(options: PackOptions): Promise<void> {
  const { source, signal, env = process.env } = options;
  const program = findProgram('mksquashfs', env);
  signal.throwIfAborted();
  const [file, ...words] = [...dyingWithUs(), program, ...packArguments(options)];
  const child = spawn(file as string, words, {
    stdio: ['tar' in source ? 'pipe' : 'ignore', 'ignore', 'pipe'],
    env: { ...env, LC_ALL: 'C', SOURCE_DATE_EPOCH: options.clampTimes ? String(options.time) : undefined },
  });
  const kill = () => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  const said = new TextTail(MESSAGES);
  child.stderr?.on('data', (chunk: Buffer) => said.push(chunk));
  const ended = endOf(child);
  const watch =
    'folder' in source && options.onProgress && child.pid !== undefined
      ? watchFolder(source.folder, child.pid, options.onProgress)
      : null;
  try {
    if ('tar' in source) await feed(child.stdin as Writable, source.tar, ended);
    const end = await ended;
    // Ctrl-C reaches mksquashfs too: our own signal, which says why, may come a moment later.
    await nextTurn();
    signal.throwIfAborted();
    if (end !== 'ok') throw failure(options, end, said);
  } catch (error) {
    kill();
    await ended;
    signal.throwIfAborted();
    throw error;
  } finally {
    watch?.stop();
    signal.removeEventListener('abort', kill);
  }
}

/** util-linux's program, where it is: mksquashfs ends with us, however that happens. It becomes mksquashfs. */
const SETPRIV = '/usr/bin/setpriv';

function dyingWithUs(): string[] {
  return existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL', '--'] : [];
}

/** How it ended: in words, or `ok`. Never rejects. */
function endOf(child: ChildProcess): Promise<string> {
  const end = deferred<string>();
  child.once('error', (error) => end.resolve(`cannot be started: ${error.message}`));
  child.once('close', (code, signal) => {
    if (code === 0) end.resolve('ok');
    else end.resolve(signal ? `was ended by ${signal}` : `ended with status ${code}`);
  });
  return end.promise;
}

/** Hands the tar over at the pace at which it is read; stops when mksquashfs has ended, which is judged by its end. */
async function feed(stdin: Writable, tar: Pieces, ended: Promise<string>): Promise<void> {
  stdin.on('error', () => {});
  let over = false;
  void ended.then(() => {
    over = true;
  });
  for (let next = tar.next(); !next.done; ) {
    if (over || stdin.destroyed) return;
    const piece = next.value;
    const taken = stdin.write(piece);
    if (!taken) await Promise.race([once(stdin, 'drain').catch(() => {}), ended]);
    // Drained is all that was written: the piece is free.
    next = tar.next(taken ? undefined : piece);
  }
  stdin.end();
}

/** Words of the system for a disk that is full, a used-up quota, and a file that may not grow. */
const FULL = /No space left on device|Disk quota exceeded|File too large/;

function failure({ output, source }: PackOptions, end: string, said: TextTail): Error {
  const words = said.lines(3).join('; ');
  if (FULL.test(words) || end.includes('SIGXFSZ')) return diskFull(output, new Error(words || end));
  const hint = 'folder' in source && /Could not open|Failed to read/.test(words) ? READABLE : undefined;
  return new ImageBuildError(`mksquashfs ${end}${words === '' ? '' : `: ${words}`}`, { hint });
}

const READABLE =
  'All files of the folder must be readable by who builds the image, and stay as they are meanwhile.';
