/**
 * `read-files` and `write-files`: done by a child of the agent, `/init --role files …`, so that a slow or full
 * disk never blocks PID 1. The bytes go port ↔ pipe ↔ child by the native pumps.
 */
import type { Native, NativeError } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import { O_CLOEXEC, O_RDWR } from '../lib/constants.ts';
import type { Cgroup } from '../process/cgroup.ts';
import { STREAM_WINDOW } from '../protocol/frames.ts';
import type {
  CancelRequest,
  FilesReply,
  ReadFilesRequest,
  WireError,
  WriteFilesRequest,
} from '../protocol/messages.ts';
import type { Agent, Task } from './agent.ts';

/** The agent's own ELF. */
const SELF = '/proc/self/exe';
/** Descriptor on which the child writes its one result line. */
const RESULT_FD = 3;
/** Descriptor of the task's root: the child stays in the initramfs, as the agent does, and reaches into the root. */
const ROOT_FD = 4;
/**
 * Descriptor on which a child that writes learns, at the end of its bytes, whether they are all: one byte if so. The end
 * alone does not tell, and half of a file must not pass for a whole one.
 */
const WHOLE_FD = 5;
/** Longest result line, bytes (a path and an error text). */
const MAX_RESULT = 16 * 1024;

/** Transfers at a time: each is a process that holds a few hundred KiB beside its windows. */
const MAX_TRANSFERS = 32;

/** Gives a transfer up; one that is over already needs nothing. @throws {GuestError} not-configured */
export function cancel(agent: Agent, request: CancelRequest): Record<string, never> {
  agent.task().transfers.get(request.request)?.();
  return {};
}

/** Sends a file or tar on the request's stream; resolves when all of it was sent. @throws {GuestError} */
export async function readFiles(agent: Agent, request: ReadFilesRequest, id: number): Promise<FilesReply> {
  const { native } = agent;
  const task = taskWithRoom(agent, id);
  const [read, write] = native.pipe('read', STREAM_WINDOW);
  let source: Source;
  try {
    source = openSource(agent, request, read);
  } catch (error) {
    for (const fd of [read, write]) native.close(fd);
    throw fromNative('file-failed', `cannot send '${request.path}'`, error);
  }
  let givenUp = false;
  task.transfers.set(id, () => {
    givenUp = true;
    // Without its reader the child ends at its next write.
    native.sourceStop(source.handle);
  });
  try {
    const worked = runFilesRole(native, task, ['read', request.format, request.path], [[write, 1]]);
    native.close(write);
    const [reply] = await Promise.all([worked, source.sent]);
    // The child may have done its part before, while the last of its bytes were still here.
    if (!givenUp) return reply;
    throw new GuestError('file-failed', 'the transfer was given up', { errno: 'ECANCELED' });
  } catch (error) {
    throw agent.stopping ? isStopping() : error;
  } finally {
    task.transfers.delete(id);
  }
}

/** Takes a file or tar from the request's stream; resolves when it is on the file system. @throws {GuestError} */
export async function writeFiles(agent: Agent, request: WriteFilesRequest, id: number): Promise<FilesReply> {
  const { native } = agent;
  const task = taskWithRoom(agent, id);
  const option = (name: string, value: number | undefined) =>
    value === undefined ? [] : [`--${name}`, String(value)];
  const words = [
    'write',
    request.format,
    request.path,
    ...option('mode', request.mode),
    ...option('uid', request.uid),
    ...option('gid', request.gid),
    '--whole',
    String(WHOLE_FD),
  ];
  const [read, write] = native.pipe('write', STREAM_WINDOW);
  let sink: Sink;
  try {
    sink = openSink(agent, request, write);
  } catch (error) {
    for (const fd of [read, write]) native.close(fd);
    throw fromNative('file-failed', `cannot receive '${request.path}'`, error);
  }
  task.transfers.set(id, sink.stop);
  try {
    const worked = runFilesRole(native, task, words, [
      [read, 0],
      [sink.whole, WHOLE_FD],
    ]);
    native.close(read);
    return await worked;
  } catch (error) {
    throw agent.stopping ? isStopping() : error;
  } finally {
    task.transfers.delete(id);
    sink.stop();
  }
}

/** Gives all transfers up, so that what they have half written is removed before the disks are unmounted. */
export function cancelAll(task: Task): void {
  for (const giveUp of task.transfers.values()) giveUp();
}

function isStopping(): GuestError {
  return new GuestError('shutting-down', 'the VM is shutting down');
}

/**
 * @throws {GuestError} not-configured; shutting-down; bad-request when the id names a transfer; file-failed when so many run
 * already
 */
function taskWithRoom(agent: Agent, id: number): Task {
  const task = agent.task();
  if (agent.stopping) throw isStopping();
  if (task.transfers.has(id))
    throw new GuestError('bad-request', `request id ${id} already names a transfer`);
  if (task.transfers.size < MAX_TRANSFERS) return task;
  throw new GuestError('file-failed', `${MAX_TRANSFERS} file transfers run already`, { errno: 'EAGAIN' });
}

/** What a child reads, on its way to the host. */
interface Source {
  handle: number;
  /** Resolves when all was sent. */
  sent: Promise<void>;
}

/** Pumps `fd` to the request's stream. @throws {NativeError} `fd` is the caller's then */
function openSource({ native, dataChannel }: Agent, request: ReadFilesRequest, fd: number): Source {
  let settle = (_: NativeError | null) => {};
  const sent = new Promise<void>((resolve, reject) => {
    settle = (error) =>
      error ? reject(fromNative('file-failed', `cannot send '${request.path}'`, error)) : resolve();
  });
  const handle = native.sourceOpen(dataChannel, request.stream, fd, STREAM_WINDOW, (_total, error) =>
    settle(error),
  );
  return { handle, sent };
}

/** What comes from the host, on its way to a child. */
interface Sink {
  /** Read end of the pipe that says whether all bytes came. */
  whole: number;
  /** Ends the child's bytes, which are not all then unless they have ended before. May be called again. */
  stop(): void;
}

/** Pumps the request's stream to `fd`. @throws {NativeError} `fd` is the caller's then */
function openSink({ native, dataChannel }: Agent, request: WriteFilesRequest, fd: number): Sink {
  const [whole, verdict] = native.pipe('none', 0);
  let stopped = false;
  // Called once, in any case.
  const ended = (error: NativeError | null) => {
    if (!stopped && error === null) native.write(verdict, new Uint8Array(1));
    native.close(verdict);
  };
  let handle: number;
  try {
    handle = native.sinkOpen(dataChannel, request.stream, fd, STREAM_WINDOW, -1, (_total, error) =>
      ended(error),
    );
  } catch (error) {
    for (const end of [whole, verdict]) native.close(end);
    throw error;
  }
  return {
    whole,
    stop: () => {
      if (stopped) return;
      stopped = true;
      native.sinkStop(handle);
      // Ours, which was open so that the verdict always has a reader.
      native.close(whole);
    },
  };
}

/** Starts the role with the words given, before it returns, and resolves with its result line. */
async function runFilesRole(
  native: Native,
  task: Task,
  words: string[],
  fds: [number, number][],
): Promise<FilesReply> {
  const [resultRead, resultWrite] = native.pipe('none', 0);
  const given = [resultWrite];
  let cgroup: Cgroup | null = null;
  try {
    const nothing = native.open('/dev/null', O_RDWR | O_CLOEXEC, 0);
    given.push(nothing);
    const standard = [0, 1, 2].filter((fd) => !fds.some(([, child]) => child === fd));
    const own = task.cgroups.take({});
    cgroup = own;
    const { pid, pidfd } = native.spawn({
      file: [SELF],
      argv: ['init', '--role', 'files', ...words, '--root', String(ROOT_FD)],
      env: [],
      fds: [
        ...fds,
        ...standard.map((fd): [number, number] => [nothing, fd]),
        [resultWrite, RESULT_FD],
        [task.root.fd, ROOT_FD],
      ],
      cgroupFd: own.fd,
      // Modes are the archive's or the request's.
      umask: 0,
      uid: 0,
      gid: 0,
      groups: [0],
    });
    native.close(pidfd);
    return new Promise((resolve, reject) => {
      task.reaper.expect(pid, (status) => {
        const line = readResult(native, resultRead);
        own.remove();
        if (line.ok) resolve(line.ok);
        else reject(line.error ?? endedBadly(status.code, status.signal));
      });
    });
  } catch (error) {
    native.close(resultRead);
    cgroup?.remove();
    throw fromNative('file-failed', 'cannot start the file transfer', error);
  } finally {
    for (const fd of given) native.close(fd);
  }
}

/** The child's result line. It has ended, so everything is in the pipe and the read cannot block. */
function readResult(native: Native, fd: number): { ok?: FilesReply; error?: GuestError } {
  const buffer = new Uint8Array(MAX_RESULT);
  let filled = 0;
  try {
    for (;;) {
      const count = native.read(fd, buffer.subarray(filled));
      if (count <= 0) break;
      filled += count;
    }
    const result = JSON.parse(new TextDecoder().decode(buffer.subarray(0, filled))) as
      | FilesReply
      | { error: WireError };
    if (!('error' in result)) return { ok: result };
    const { code, message, ...cause } = result.error;
    return { error: new GuestError(code, message, cause) };
  } catch {
    return {};
  } finally {
    native.close(fd);
  }
}

function endedBadly(code: number | undefined, signal: number | undefined): GuestError {
  const how = signal === undefined ? `with code ${code}` : `by signal ${signal}`;
  return new GuestError('file-failed', `the file transfer ended ${how} and left no result`);
}
