/** Bytes through a program of the distribution: bzip2 and xz, which Node does not have. */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { toError, YavmError } from '../../lib/errors.ts';
import { findProgram } from '../../lib/programs.ts';
import { TextTail } from '../../lib/text-tail.ts';
import type { Bytes } from '../types.ts';
import { archiveError } from './errors.ts';
import { abortable } from './stream.ts';

export interface Filter {
  program: 'bzip2' | 'xz';
  arguments: readonly string[];
  /** What its complaints are about: the archive, or only itself. */
  reads: 'archive' | 'content';
}

/** Memory that unpacking may take: `xz -9` asks for 65 MiB. */
const XZ_MEMORY = '128MiB';

export const COMPRESS: Readonly<Record<Filter['program'], Filter>> = {
  bzip2: { program: 'bzip2', arguments: ['-c'], reads: 'content' },
  xz: { program: 'xz', arguments: ['-c', '-T1'], reads: 'content' },
};

export const DECOMPRESS: Readonly<Record<Filter['program'], Filter>> = {
  bzip2: { program: 'bzip2', arguments: ['-d', '-c'], reads: 'archive' },
  xz: {
    program: 'xz',
    arguments: ['-d', '-c', '-T1', '--format=xz', `--memlimit-decompress=${XZ_MEMORY}`],
    reads: 'archive',
  },
};

export interface FilterOptions {
  signal: AbortSignal;
  /** Milliseconds that the program may neither take nor give anything, while it could do both. */
  stall?: number;
  /** Path of the program; default: where the distribution has it. */
  path?: string;
}

const STALL = 60_000;
const MESSAGES = 4096;

/**
 * What the program makes of the bytes, at the pace of both sides. It is killed when the iteration is left, or the signal fires.
 * @throws {YavmError} YAVM_E_COMPRESSOR_MISSING, YAVM_E_ARCHIVE, YAVM_E_COMPRESSOR; what the bytes throw; the signal's reason
 */
export async function* filtered(
  filter: Filter,
  input: Bytes,
  { signal, stall = STALL, path = findProgram(filter.program) }: FilterOptions,
): Bytes {
  signal.throwIfAborted();
  const child = start(filter, path);
  const { stdin, stdout, stderr } = child;
  const messages = new TextTail(MESSAGES);
  stderr.on('data', (chunk) => messages.push(chunk));
  const ended = endOf(filter, child);
  ended.catch(() => {});
  const over = new AbortController();
  const watch = new Watch(stall, () => over.abort(stalled(filter, stall)));
  const until = AbortSignal.any([signal, over.signal]);
  const onAbort = () => child.kill('SIGKILL');
  until.addEventListener('abort', onAbort, { once: true });
  const feeding = feed(stdin, abortable(input, until), watch);
  let failure: { error: unknown } | undefined;
  feeding.catch((error: unknown) => {
    failure = { error };
    child.kill('SIGKILL');
  });
  try {
    yield* watched(stdout, watch);
    const end = await ended;
    until.throwIfAborted();
    if (failure) throw failure.error;
    // Before the rest of the input: a program that has refused it reads no more, and a source may be slow.
    check(filter, end, messages);
    await feeding;
  } catch (error) {
    until.throwIfAborted();
    throw error;
  } finally {
    until.removeEventListener('abort', onAbort);
    watch.stop();
    child.kill('SIGKILL');
    over.abort(new Error('nobody reads this any more'));
    await Promise.allSettled([feeding, ended]);
  }
}

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
}

function start(filter: Filter, path: string): ChildProcessWithoutNullStreams {
  try {
    // What a user's environment says about these programs (XZ_OPT, BZIP2) is not for us.
    return spawn(path, filter.arguments, { env: { PATH: process.env.PATH, LC_ALL: 'C' } });
  } catch (error) {
    throw startError(filter, error);
  }
}

/** Resolves when the program has ended, and all that it wrote has been read. */
async function endOf(filter: Filter, child: ChildProcess): Promise<End> {
  try {
    const [code, signal] = await once(child, 'close');
    return { code, signal };
  } catch (error) {
    throw startError(filter, error);
  }
}

async function feed(stdin: Writable, input: Bytes, watch: Watch): Promise<void> {
  // A program that ends before it has read everything (EPIPE) is judged by its exit status.
  let broken = false;
  stdin.on('error', () => {
    broken = true;
  });
  try {
    for await (const piece of input) {
      if (broken) return;
      watch.takes = 'waits';
      // The callback, and not the buffer's room: until then the piece is still in use.
      await new Promise<void>((resolve) => {
        stdin.once('close', resolve);
        stdin.write(piece, () => {
          stdin.off('close', resolve);
          resolve();
        });
      });
      watch.takes = 'idle';
    }
    watch.takes = 'waits';
    stdin.end();
  } catch (error) {
    stdin.destroy();
    throw error;
  }
}

async function* watched(stdout: Readable, watch: Watch): Bytes {
  watch.gives = 'waits';
  for await (const piece of stdout as AsyncIterable<Uint8Array>) {
    watch.gives = 'idle';
    yield piece;
    watch.gives = 'waits';
  }
  // Its end is still to come.
}

/** Tells when a program neither takes nor gives, although it is fed and read. */
class Watch {
  readonly #milliseconds: number;
  readonly #onStall: () => void;
  #timer: NodeJS.Timeout | undefined;
  #takes: 'waits' | 'idle' = 'idle';
  #gives: 'waits' | 'idle' = 'idle';

  constructor(milliseconds: number, onStall: () => void) {
    this.#milliseconds = milliseconds;
    this.#onStall = onStall;
  }

  /** Whether it is to take bytes, or the end of them. */
  set takes(state: 'waits' | 'idle') {
    this.#takes = state;
    this.#arm();
  }

  /** Whether it is to give bytes. */
  set gives(state: 'waits' | 'idle') {
    this.#gives = state;
    this.#arm();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#takes = 'idle';
  }

  /** Each change is progress. */
  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer =
      this.#takes === 'waits' && this.#gives === 'waits'
        ? setTimeout(this.#onStall, this.#milliseconds)
        : undefined;
  }
}

function check(filter: Filter, { code, signal }: End, messages: TextTail): void {
  const said = messages.lines(4).join('; ');
  // bzip2 only warns of what stands behind its data, and leaves it out.
  if (code === 0 && (said === '' || filter.reads === 'content')) return;
  const how = said || (signal ? `it was ended by ${signal}` : `exit code ${code}`);
  if (filter.reads === 'archive' && signal === null) {
    throw archiveError(`its ${filter.program} data are damaged, cut off, or not alone: ${how}`);
  }
  throw new YavmError('YAVM_E_COMPRESSOR', `${filter.program} failed: ${how}`);
}

function stalled({ program }: Filter, milliseconds: number): YavmError {
  return new YavmError(
    'YAVM_E_COMPRESSOR',
    `${program} neither took nor gave anything for ${milliseconds / 1000} s`,
  );
}

function startError({ program }: Filter, cause: unknown): YavmError {
  return new YavmError('YAVM_E_COMPRESSOR', `${program} cannot be started`, { cause: toError(cause) });
}
