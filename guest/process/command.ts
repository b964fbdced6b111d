/**
 * One command: spawned in its own cgroup, its output pumped by native code, its end announced
 * only when everything that was in its pipes at that moment has been sent.
 */
import type { ExitStatus, Native } from '../../native/face.ts';
import { fromNative, GuestError, isNativeError } from '../errors.ts';
import { STREAM_WINDOW } from '../protocol/frames.ts';
import type { ExitedEvent, RunRequest } from '../protocol/messages.ts';
import { completeEnvironment, environmentValue, executableCandidates, resourceLimits } from './arguments.ts';
import type { Cgroup, CgroupTree } from './cgroup.ts';
import type { Reaper } from './reaper.ts';
import { checkStdio, openStdio, type Stdio } from './stdio.ts';
import type { UserDatabase } from './users.ts';

/** Byte that a terminal takes as end of input (VEOF, Ctrl-D). */
const TERMINAL_EOF = 4;
/** "No end byte": end of stdin closes the pipe. */
const CLOSE_AT_EOF = -1;

/** What a command needs from the agent. */
export interface CommandContext {
  native: Native;
  /** The native channel of the data port. */
  dataChannel: number;
  /** The task's root. */
  rootFd: number;
  users: UserDatabase;
  cgroups: CgroupTree;
  reaper: Reaper;
}

type OutputName = 'stdout' | 'stderr';

export class Command {
  readonly id: number;
  readonly cgroup: Cgroup;
  #pid = 0;
  #pidfd = -1;
  readonly #context: CommandContext;
  /** Native sources that have not ended, and the totals of those that have. */
  readonly #sources = new Map<OutputName, number>();
  readonly #totals: ExitedEvent['totals'] = {};
  #sink: number | null = null;
  /** A descriptor of the terminal's master of our own, for window sizes. */
  #terminal = -1;
  #ended = false;

  private constructor(id: number, cgroup: Cgroup, context: CommandContext) {
    this.id = id;
    this.cgroup = cgroup;
    this.#context = context;
  }

  /**
   * Starts a command. `onExited` is called once, when its end may be announced.
   * @throws {GuestError} spawn-failed (errno, call and path of what failed), unknown-user, bad-request, file-failed
   */
  static start(
    context: CommandContext,
    id: number,
    request: RunRequest,
    onExited: (command: Command, event: ExitedEvent) => void,
  ): Command {
    checkStdio(request);
    const limits = resourceLimits(request.rlimits);
    const identity = context.users.resolve(request.user ?? '0');
    const env = completeEnvironment(request.env, identity.home, request.tty !== undefined);
    const name = request.argv[0] as string;
    const stdio = openStdio(context.native, context.rootFd, request);
    let command: Command | null = null;
    try {
      const cgroup = context.cgroups.take({ memory: request.memoryLimit, pids: request.pidsLimit });
      command = new Command(id, cgroup, context);
      // First, because it can be refused (a stream's number may be in use), and then nothing has been started.
      command.#connect(stdio, request);
      const { pid, pidfd } = context.native.spawn({
        file: executableCandidates(name, environmentValue(env, 'PATH') ?? ''),
        argv: [request.argv0 ?? name, ...request.argv.slice(1)],
        env,
        fds: stdio.child,
        rootFd: context.rootFd,
        cwd: request.cwd ?? '/',
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        rlimits: limits,
        newSession: true,
        controllingTerminal: request.tty ? 0 : undefined,
        cgroupFd: cgroup.fd,
        noNewPrivileges: request.noNewPrivileges,
        umask: 0o022,
        oomScoreAdjust: 0,
      });
      stdio.closeChildEnds();
      const started = command;
      started.#pid = pid;
      started.#pidfd = pidfd;
      context.reaper.expect(pid, (status) => started.#exited(status, onExited));
      return started;
    } catch (error) {
      stdio.closeAll();
      if (command) command.#undo();
      throw isNativeError(error) ? spawnError(name, request, error) : error;
    }
  }

  get pid(): number {
    return this.#pid;
  }

  /** Whether the command's own process has ended (its background children may go on). */
  get ended(): boolean {
    return this.#ended;
  }

  /** Sends a signal to the command's process, or with `tree` to every process of its cgroup. */
  signal(signal: number, tree: boolean): void {
    const { native } = this.#context;
    if (!tree) {
      native.killPidfd(this.#pidfd, signal);
      return;
    }
    if (signal === 9) {
      this.cgroup.kill();
      return;
    }
    for (const pid of this.cgroup.processes()) {
      try {
        native.kill(pid, signal);
      } catch (error) {
        // It ended between the listing and the signal.
        if (!isNativeError(error) || error.code !== 'ESRCH') throw error;
      }
    }
  }

  /** Sets the terminal's window size. @throws {GuestError} bad-request when the command has no terminal. */
  resize(rows: number, columns: number): void {
    if (this.#terminal < 0) throw new GuestError('bad-request', `command ${this.id} has no terminal`);
    this.#context.native.setWindowSize(this.#terminal, rows, columns);
  }

  /** Drops stdin now: the command reads end of file. */
  closeInput(): void {
    if (this.#sink === null) return;
    this.#context.native.sinkStop(this.#sink);
    this.#sink = null;
  }

  /** Hands our ends of the command's descriptors to the native pumps. */
  #connect(stdio: Stdio, request: RunRequest): void {
    const { native } = this.#context;
    const handOver = (fd: number | undefined, open: (fd: number) => void) => {
      if (fd === undefined) return;
      open(fd);
      stdio.handedOver(fd);
    };
    if (stdio.terminal !== undefined) {
      this.#terminal = native.dup(stdio.terminal);
      if (request.stdin !== undefined) {
        const fd = stdio.keep(native.dup(stdio.terminal));
        handOver(fd, (fd) => this.#openSink(request.stdin as number, fd, TERMINAL_EOF));
      }
      handOver(stdio.terminal, (fd) => this.#openSource('stdout', streamOf(request.stdout), fd));
      return;
    }
    handOver(stdio.stdin, (fd) => this.#openSink(request.stdin as number, fd, CLOSE_AT_EOF));
    handOver(stdio.stdout, (fd) => this.#openSource('stdout', streamOf(request.stdout), fd));
    handOver(stdio.stderr, (fd) => this.#openSource('stderr', streamOf(request.stderr), fd));
  }

  /** Takes back what there is of a command that was not started. */
  #undo(): void {
    const { native } = this.#context;
    this.closeInput();
    for (const source of this.#sources.values()) native.sourceStop(source);
    this.#closeTerminal();
    // Nothing was ever in it: a failed spawn is reaped before it returns.
    this.cgroup.remove();
  }

  #openSource(name: OutputName, stream: number, fd: number): void {
    const { native, dataChannel } = this.#context;
    const source = native.sourceOpen(dataChannel, stream, fd, STREAM_WINDOW, (total) => {
      this.#sources.delete(name);
      this.#totals[name] = total;
      if (name === 'stdout') this.#closeTerminal();
    });
    this.#sources.set(name, source);
  }

  #openSink(stream: number, fd: number, eofByte: number): void {
    const { native, dataChannel } = this.#context;
    // Not forgotten at its end: a sink whose reader is gone goes on eating what the host sends, until closeInput.
    this.#sink = native.sinkOpen(dataChannel, stream, fd, STREAM_WINDOW, eofByte, () => {});
  }

  #closeTerminal(): void {
    if (this.#terminal < 0) return;
    this.#context.native.close(this.#terminal);
    this.#terminal = -1;
  }

  /** The process is gone: send what its pipes hold now, then announce. Background writers do not delay it. */
  #exited(status: ExitStatus, onExited: (command: Command, event: ExitedEvent) => void): void {
    const { native } = this.#context;
    this.#ended = true;
    native.close(this.#pidfd);
    this.closeInput();
    let waiting = this.#sources.size;
    const announce = () => onExited(this, this.#exitedEvent(status));
    if (waiting === 0) {
      announce();
      return;
    }
    for (const [name, source] of this.#sources) {
      native.sourceDrain(source, (total) => {
        this.#totals[name] = total;
        if (--waiting === 0) announce();
      });
    }
  }

  #exitedEvent(status: ExitStatus): ExitedEvent {
    const figures = this.cgroup.figures();
    return {
      event: 'exited',
      process: this.id,
      ...(status.signal === undefined ? { code: status.code ?? 0 } : { signal: status.signal }),
      outOfMemory: figures.outOfMemoryKills > 0,
      totals: { ...this.#totals },
      cpu: figures.cpu,
      memoryPeak: figures.memoryPeak,
    };
  }
}

function streamOf(spec: RunRequest['stdout'] | RunRequest['stderr']): number {
  if (typeof spec === 'object' && 'stream' in spec) return spec.stream;
  throw new GuestError('bad-request', 'the output has no stream');
}

/** Says in words what the failed call means for the person who typed the command. */
function spawnError(name: string, request: RunRequest, error: unknown): GuestError {
  const { syscall, code } = error as { syscall: string; code: string };
  if (syscall === 'chdir')
    return fromNative('spawn-failed', `cannot enter working directory '${request.cwd}'`, error);
  if (syscall !== 'execve') return fromNative('spawn-failed', `cannot start '${name}'`, error);
  const reason: Record<string, string> = {
    ENOENT: name.includes('/')
      ? `'${name}' does not exist, or its interpreter does not`
      : `'${name}' is not in the PATH`,
    EACCES: `'${name}' is not executable`,
    ENOEXEC: `'${name}' is no program that this kernel can run`,
    E2BIG: `the arguments and environment of '${name}' are too long`,
  };
  return fromNative('spawn-failed', reason[code] ?? `cannot execute '${name}'`, error);
}
