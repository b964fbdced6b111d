/**
 * `read-files` and `write-files`: done by a child of the agent, `/init --role files …`, so that a slow or full
 * disk never blocks PID 1. The bytes go port ↔ pipe ↔ child by the native pumps.
 */
import { fromNative, GuestError } from '../errors.ts';
import { O_CLOEXEC, O_RDWR } from '../lib/constants.ts';
import { STREAM_WINDOW } from '../protocol/frames.ts';
import type { FilesReply, ReadFilesRequest, WireError, WriteFilesRequest } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';

/** The agent's own ELF. */
const SELF = '/proc/self/exe';
/** Descriptor on which the child writes its one result line. */
const RESULT_FD = 3;
/** Descriptor of the task's root: the child stays in the initramfs, as the agent does, and reaches into the root. */
const ROOT_FD = 4;
/** Longest result line, bytes (a path and an error text). */
const MAX_RESULT = 16 * 1024;

/** Sends a file or tar on the request's stream; resolves when all of it was sent. @throws {GuestError} */
export async function readFiles(agent: Agent, request: ReadFilesRequest): Promise<FilesReply> {
  const { native } = agent;
  const [read, write] = native.pipe('read', STREAM_WINDOW);
  const sent = new Promise<void>((resolve, reject) => {
    native.sourceOpen(agent.dataChannel, request.stream, read, STREAM_WINDOW, (_total, error) =>
      error ? reject(fromNative('file-failed', `cannot send '${request.path}'`, error)) : resolve(),
    );
  });
  const worked = runFilesRole(agent, ['read', request.format, request.path], [[write, 1]]);
  native.close(write);
  const [reply] = await Promise.all([worked, sent]);
  return reply;
}

/** Takes a file or tar from the request's stream; resolves when it is on the file system. @throws {GuestError} */
export async function writeFiles(agent: Agent, request: WriteFilesRequest): Promise<FilesReply> {
  const { native } = agent;
  const [read, write] = native.pipe('write', STREAM_WINDOW);
  const sink = native.sinkOpen(agent.dataChannel, request.stream, write, STREAM_WINDOW, -1, () => {});
  const option = (name: string, value: number | undefined) =>
    value === undefined ? [] : [`--${name}`, String(value)];
  const words = [
    'write',
    request.format,
    request.path,
    ...option('mode', request.mode),
    ...option('uid', request.uid),
    ...option('gid', request.gid),
  ];
  try {
    const worked = runFilesRole(agent, words, [[read, 0]]);
    native.close(read);
    return await worked;
  } finally {
    native.sinkStop(sink);
  }
}

/** Starts the role with the words given and resolves with its result line. */
function runFilesRole(agent: Agent, words: string[], fds: [number, number][]): Promise<FilesReply> {
  const { native } = agent;
  const task = agent.task();
  const [resultRead, resultWrite] = native.pipe('none', 0);
  const nothing = native.open('/dev/null', O_RDWR | O_CLOEXEC, 0);
  const standard = [0, 1, 2].filter((fd) => !fds.some(([, child]) => child === fd));
  const cgroup = task.cgroups.take({});
  try {
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
      cgroupFd: cgroup.fd,
      // Modes are the archive's or the request's.
      umask: 0,
      uid: 0,
      gid: 0,
      groups: [0],
    });
    native.close(pidfd);
    return new Promise((resolve, reject) => {
      task.reaper.expect(pid, (status) => {
        const line = readResult(agent, resultRead);
        cgroup.remove();
        if (line.ok) resolve(line.ok);
        else reject(line.error ?? endedBadly(status.code, status.signal));
      });
    });
  } catch (error) {
    native.close(resultRead);
    cgroup.remove();
    throw fromNative('file-failed', 'cannot start the file transfer', error);
  } finally {
    native.close(nothing);
    native.close(resultWrite);
  }
}

/** The child's result line. It has ended, so everything is in the pipe and the read cannot block. */
function readResult(agent: Agent, fd: number): { ok?: FilesReply; error?: GuestError } {
  const buffer = new Uint8Array(MAX_RESULT);
  let filled = 0;
  try {
    for (;;) {
      const count = agent.native.read(fd, buffer.subarray(filled));
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
    agent.native.close(fd);
  }
}

function endedBadly(code: number | undefined, signal: number | undefined): GuestError {
  const how = signal === undefined ? `with code ${code}` : `by signal ${signal}`;
  return new GuestError('file-failed', `the file transfer ended ${how} and left no result`);
}
