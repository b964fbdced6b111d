/**
 * The files role: `/init --role files …`, a child of the agent that moves one file or tree and ends. Here a slow or
 * full disk blocks nobody: everything is plain blocking reads and writes.
 *
 * Descriptors: 0 the bytes to write, or 1 the bytes that were read; 3 takes one line of JSON, the result; `--whole`
 * names one that tells at the end of the bytes to write, by a byte, that they are all.
 * Started as root with umask 0.
 */
import type { Native } from '../../native/face.ts';
import { GuestError, toWire } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_PATH } from '../lib/constants.ts';
import { writeAll } from '../lib/replace-file.ts';
import type { FilesReply } from '../protocol/messages.ts';
import { archiveTree } from './archive.ts';
import { ByteInput } from './byte-input.ts';
import { ByteOutput } from './byte-output.ts';
import { extractTar } from './extract.ts';
import { receiveFile, sendFile } from './plain-file.ts';

const STDIN = 0;
const STDOUT = 1;
const RESULT = 3;
/** Longest path and message in a result, characters: the agent reads a bounded line. */
const MAX_TEXT = 2000;

const OPTIONS = ['mode', 'uid', 'gid', 'root', 'whole'] as const;
type Option = (typeof OPTIONS)[number];

/** What the words of the command line say. */
export interface FilesJob {
  direction: 'read' | 'write';
  format: 'file' | 'tar';
  path: string;
  /**
   * Decimal numbers. `root`: the descriptor of the task's root; the process's own root when it is missing. `whole`: the
   * one that tells whether all bytes came; without it the end of the bytes does.
   */
  options: Partial<Record<Option, number>>;
}

/** Does what `words` say, reports on descriptor 3, and ends the process: 0, or 1 when it failed. */
export function runFilesRole(native: Native, words: string[], exit: (code: number) => void): void {
  let result: FilesReply | { error: ReturnType<typeof toWire> };
  try {
    result = doFilesJob(native, parseFilesWords(words));
  } catch (error) {
    const wire = toWire(error);
    result = { error: { ...wire, message: clipped(wire.message), path: wire.path && clipped(wire.path) } };
  }
  writeAll(native, RESULT, new TextEncoder().encode(`${JSON.stringify(result)}\n`));
  exit('error' in result ? 1 : 0);
}

/** `read|write file|tar PATH [--mode N] [--uid N] [--gid N] [--root FD] [--whole FD]`. @throws {GuestError} bad-request */
export function parseFilesWords(words: string[]): FilesJob {
  const [direction, format, path, ...rest] = words;
  if ((direction !== 'read' && direction !== 'write') || (format !== 'file' && format !== 'tar') || !path) {
    throw new GuestError(
      'bad-request',
      'usage: --role files read|write file|tar PATH [--mode|--uid|--gid|--root|--whole N]',
    );
  }
  const options: FilesJob['options'] = {};
  for (let i = 0; i < rest.length; i += 2) {
    const name = OPTIONS.find((option) => rest[i] === `--${option}`);
    const value = rest[i + 1] ?? '';
    if (!name || !/^\d{1,10}$/.test(value)) {
      throw new GuestError('bad-request', `cannot use '${rest[i]} ${value}'`);
    }
    options[name] = Number(value);
  }
  return { direction, format, path, options };
}

/** Does the job on descriptors 0 and 1. @throws {GuestError} */
export function doFilesJob(native: Native, job: FilesJob): FilesReply {
  const { direction, format, path, options } = job;
  const rootFd = options.root ?? native.open('/', O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (direction === 'read') {
    const output = new ByteOutput(native, STDOUT);
    if (format === 'tar') {
      const { entries, leftOut } = archiveTree(native, rootFd, path, output);
      return { bytes: output.total, entries, leftOut };
    }
    sendFile(native, rootFd, path, output);
    return { bytes: output.total, entries: 1 };
  }
  const input = new ByteInput(native, STDIN, options.whole);
  if (format === 'file') {
    receiveFile(native, rootFd, path, options, input);
    return { bytes: input.offset, entries: 1 };
  }
  const { entries, leftOut } = extractTar(native, rootFd, path, input);
  return { bytes: input.offset, entries, leftOut };
}

function clipped(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
