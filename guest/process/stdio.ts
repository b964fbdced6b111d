/** The three standard descriptors of a command: pipes, a terminal, files or /dev/null. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import {
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
} from '../lib/constants.ts';
import type { OutputSpec, RunRequest } from '../protocol/messages.ts';

/** Capacity of the pipe to a command's stdin, bytes: so much can wait there while it is busy. */
const STDIN_PIPE = 256 * 1024;
/** Of its output: the kernel's default. The pump makes it larger for a command that writes much. */
const OUTPUT_PIPE = 0;

/** Descriptors of a command before its start. */
export interface Stdio {
  /** Parent descriptor → child descriptor. */
  child: [number, number][];
  /** Our ends: pipe read ends, the pipe write end for stdin, or the terminal's master. */
  stdin?: number;
  stdout?: number;
  stderr?: number;
  terminal?: number;
  /** Closes what the child has been given; ours stay open. */
  closeChildEnds(): void;
  /** One more descriptor of ours. @returns it */
  keep(fd: number): number;
  /** A descriptor of ours has a new owner, who will close it. */
  handedOver(fd: number): void;
  /** Closes everything that is still here: the start failed. */
  closeAll(): void;
}

/** Opens what `request` asks for. @throws {GuestError} file-failed when an output file cannot be opened. */
export function openStdio(native: Native, rootFd: number, request: RunRequest): Stdio {
  const ours: number[] = [];
  const theirs: number[] = [];
  const stdio: Stdio = {
    child: [],
    closeChildEnds: () => closeEach(native, theirs),
    keep: (fd) => keep(ours, fd),
    handedOver: (fd) => void ours.splice(ours.indexOf(fd), 1),
    closeAll: () => {
      closeEach(native, theirs);
      closeEach(native, ours);
    },
  };
  try {
    if (request.tty) openTerminal(native, request, stdio, ours, theirs);
    else openSeparate(native, rootFd, request, stdio, ours, theirs);
    return stdio;
  } catch (error) {
    stdio.closeAll();
    throw error;
  }
}

function openTerminal(
  native: Native,
  request: RunRequest,
  stdio: Stdio,
  ours: number[],
  theirs: number[],
): void {
  const [master, slave] = native.openPty(request.tty?.rows ?? 24, request.tty?.columns ?? 80);
  ours.push(master);
  theirs.push(slave);
  stdio.terminal = master;
  stdio.child = [
    [slave, 0],
    [slave, 1],
    [slave, 2],
  ];
}

function openSeparate(
  native: Native,
  rootFd: number,
  request: RunRequest,
  stdio: Stdio,
  ours: number[],
  theirs: number[],
): void {
  if (request.stdin === undefined) {
    stdio.child.push([keep(theirs, native.open('/dev/null', O_RDWR | O_CLOEXEC, 0)), 0]);
  } else {
    const [read, write] = native.pipe('write', STDIN_PIPE);
    stdio.child.push([keep(theirs, read), 0]);
    stdio.stdin = keep(ours, write);
  }
  const output = (spec: OutputSpec, childFd: number): number | undefined => {
    if (spec === 'discard' || 'file' in spec) {
      stdio.child.push([keep(theirs, openOutputFile(native, rootFd, spec)), childFd]);
      return undefined;
    }
    const [read, write] = native.pipe('read', OUTPUT_PIPE);
    stdio.child.push([keep(theirs, write), childFd]);
    return keep(ours, read);
  };
  stdio.stdout = output(request.stdout, 1);
  if (request.stderr === 'stdout') {
    const stdout = stdio.child.find(([, childFd]) => childFd === 1) as [number, number];
    stdio.child.push([stdout[0], 2]);
  } else {
    stdio.stderr = output(request.stderr, 2);
  }
}

/**
 * An output file, resolved beneath the task's root. Opened non-blocking first: the image may have a fifo there,
 * and PID 1 must not wait for its reader.
 */
function openOutputFile(
  native: Native,
  rootFd: number,
  spec: 'discard' | { file: string; append?: boolean },
): number {
  if (spec === 'discard') return native.open('/dev/null', O_WRONLY | O_CLOEXEC, 0);
  const flags = O_WRONLY | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC | (spec.append ? O_APPEND : O_TRUNC);
  try {
    const fd = native.openBeneath(rootFd, spec.file, flags, 0o644);
    native.setNonBlocking(fd, false);
    return fd;
  } catch (error) {
    throw fromNative('file-failed', `cannot open '${spec.file}' for the command's output`, error);
  }
}

function keep(list: number[], fd: number): number {
  list.push(fd);
  return fd;
}

function closeEach(native: Native, list: number[]): void {
  for (const fd of list.splice(0)) native.close(fd);
}

/** @throws {GuestError} bad-request when the specs of a run request contradict each other. */
export function checkStdio(request: RunRequest): void {
  const streams = [request.stdin];
  for (const spec of [request.stdout, request.stderr]) {
    if (typeof spec === 'object' && 'stream' in spec) streams.push(spec.stream);
  }
  const numbers = streams.filter((stream) => stream !== undefined);
  if (new Set(numbers).size !== numbers.length) {
    throw new GuestError('bad-request', 'stdin, stdout and stderr need different stream numbers');
  }
  if (request.tty && (typeof request.stdout !== 'object' || !('stream' in request.stdout))) {
    throw new GuestError('bad-request', 'a terminal needs a stream for stdout');
  }
}
