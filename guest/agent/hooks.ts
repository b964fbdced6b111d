/** The initramfs' start-up hook, if it has one: each of its functions in a child of the agent, with a deadline. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import type { HookPhase } from '../hook/api.ts';
import { type HookManifest, hookFailure } from '../hook/manifest.ts';
import { type FailedRecord, type LogRecord, RECORDS_FD, readHook, TASK_FD } from '../hook/parts.ts';
import { O_CLOEXEC, O_RDWR, READABLE, SIGKILL } from '../lib/constants.ts';
import type { Agent } from './agent.ts';
import type { Log } from './log.ts';

/** Milliseconds: a start may take a while; a stop is waited for by somebody who has a deadline as well. */
const DEADLINE: Record<HookPhase, number> = {
  afterHello: 10_000,
  beforeMounts: 10_000,
  afterConfigure: 10_000,
  beforeStop: 3_000,
};
/** Bytes of one portion, and of text that is kept until its line ends. */
const CHUNK = 4096;
const MAX_PENDING = 32 * 1024;
/** Of what a process says that is no record: the last words of one that died. */
const MAX_WORDS = 8 * 1024;

/** Starts the hook's first function; what becomes of it is told to `configure`, which waits for it. */
export function startHooks(agent: Agent): void {
  agent.begun = runHook(agent, 'afterHello');
  // An unhandled rejection would end PID 1.
  agent.begun.catch(() => {});
}

/** Runs the hook's function for a phase, if there is one, to its end. @throws {GuestError} hook-failed, with file and line; hook-version */
export async function runHook(agent: Agent, phase: HookPhase): Promise<void> {
  let hook: HookManifest | null;
  try {
    hook = readHook(agent.native);
  } catch (error) {
    throw fromNative('hook-failed', 'the hook cannot be read', error);
  }
  if (!hook?.phases.includes(phase)) return;
  const listener = new HookListener(agent.log);
  const inTime = await watchHook(agent, phase, listener);
  if (listener.done) return;
  if (listener.foreign) throw new GuestError('hook-version', `hook ${hook.name}: ${listener.failed}`);
  const why = listener.failed ?? (inTime ? listener.words || 'its process ended without a word' : undefined);
  const text = why ?? `not done within ${DEADLINE[phase] / 1000} s`;
  throw new GuestError('hook-failed', `hook, ${phase}: ${hookFailure(hook, text)}`);
}

/** Starts the process and waits for the end of what it says. False: its time was up, and it was killed. */
function watchHook(agent: Agent, phase: HookPhase, listener: HookListener): Promise<boolean> {
  const { native } = agent;
  const taskFd = agent.configured ? agent.task().root.fd : null;
  const [read, write] = native.pipe('read', 0);
  const nothing = native.open('/dev/null', O_RDWR | O_CLOEXEC, 0);
  let pidfd: number;
  try {
    const child = native.spawn({
      file: ['/proc/self/exe'],
      argv: ['init', '--role', 'hook', phase, ...(taskFd === null ? [] : ['task'])],
      env: [],
      fds: [
        [nothing, 0],
        [nothing, 1],
        // The engine's last words, should it come to that.
        [write, 2],
        [write, RECORDS_FD],
        ...(taskFd === null ? [] : [[taskFd, TASK_FD] as [number, number]]),
      ],
      umask: 0o022,
    });
    pidfd = child.pidfd;
    if (agent.configured) agent.task().reaper.expect(child.pid, () => {});
  } catch (error) {
    native.close(read);
    throw fromNative('hook-failed', `hook, ${phase}: its process cannot be started`, error);
  } finally {
    native.close(write);
    native.close(nothing);
  }
  return new Promise((resolve) => {
    const end = (inTime: boolean) => {
      clearTimeout(timer);
      native.unwatch(read);
      native.close(read);
      killQuietly(native, pidfd);
      native.close(pidfd);
      listener.end();
      resolve(inTime);
    };
    const timer = setTimeout(() => end(false), DEADLINE[phase]);
    const chunk = new Uint8Array(CHUNK);
    native.watch(read, READABLE, () => {
      const count = readQuietly(native, read, chunk);
      if (count === 0) end(true);
      else if (count > 0) listener.take(chunk.subarray(0, count));
    });
  });
}

/** 0 also for a pipe that cannot be read. */
function readQuietly(native: Native, fd: number, chunk: Uint8Array): number {
  try {
    return native.read(fd, chunk);
  } catch {
    return 0;
  }
}

function killQuietly(native: Native, pidfd: number): void {
  try {
    native.killPidfd(pidfd, SIGKILL);
  } catch {
    // It is gone.
  }
}

/** What the process says, line by line: its log goes to ours. */
class HookListener {
  done = false;
  failed: string | undefined;
  /** It failed because it is another engine's bytecode. */
  foreign = false;
  /** Text that is no record. */
  words = '';
  readonly #log: Log;
  readonly #decoder = new TextDecoder();
  #pending = '';

  constructor(log: Log) {
    this.#log = log;
  }

  take(bytes: Uint8Array): void {
    this.#pending += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#pending.split('\n');
    this.#pending = (lines.pop() as string).slice(0, MAX_PENDING);
    for (const line of lines) this.#line(line);
  }

  end(): void {
    if (this.#pending !== '') this.#line(this.#pending);
  }

  #line(line: string): void {
    let record: Partial<LogRecord & { done: true } & FailedRecord> | null = null;
    try {
      if (line.startsWith('{')) record = JSON.parse(line);
    } catch {
      // Words that begin so.
    }
    if (record?.done) this.done = true;
    else if (record?.failed !== undefined) {
      this.failed = String(record.failed);
      this.foreign = record.foreign === true;
    } else if (record?.level !== undefined) this.#tell(record.level, String(record.text));
    else this.words = `${this.words}${line}\n`.slice(0, MAX_WORDS);
  }

  #tell(level: string, text: string): void {
    const known = level === 'debug' || level === 'warn' || level === 'error' ? level : 'info';
    this.#log.write(known, text, { source: 'hook' });
  }
}
