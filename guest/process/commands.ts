/** All commands that run, or have ended but left background children behind. */
import { GuestError } from '../errors.ts';
import type { ExitedEvent, RunRequest } from '../protocol/messages.ts';
import { Command, type CommandContext } from './command.ts';

/** Most commands at a time: a bound on descriptors and memory of PID 1. */
const MAX_COMMANDS = 4096;

export class Commands {
  readonly #context: CommandContext;
  readonly #onExited: (event: ExitedEvent) => void;
  readonly #byId = new Map<number, Command>();
  /** Ended, their end announced, but their cgroup still has processes. */
  readonly #background = new Set<Command>();

  constructor(context: CommandContext, onExited: (event: ExitedEvent) => void) {
    this.#context = context;
    this.#onExited = onExited;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Starts a command under the request's id. @throws {GuestError} */
  start(id: number, request: RunRequest): Command {
    if (this.#byId.has(id)) throw new GuestError('bad-request', `request id ${id} already names a command`);
    if (this.#byId.size >= MAX_COMMANDS) {
      throw new GuestError('spawn-failed', `${MAX_COMMANDS} commands run already`, { errno: 'EAGAIN' });
    }
    const command = Command.start(this.#context, id, request, (ended, event) => this.#exited(ended, event));
    this.#byId.set(id, command);
    return command;
  }

  /** @throws {GuestError} unknown-process */
  get(id: number): Command {
    const command = this.#byId.get(id);
    if (!command) throw new GuestError('unknown-process', `no command ${id} runs`);
    return command;
  }

  /** Sends `signal` to every process of every command; those that end meanwhile are no error. */
  signalAll(signal: number): void {
    for (const command of this.#byId.values()) command.signal(signal, true);
  }

  /** The command that a cgroup name of the kernel's log belongs to. */
  findByCgroup(name: string): Command | undefined {
    for (const command of this.#byId.values()) if (command.cgroup.name === name) return command;
    return undefined;
  }

  /** Forgets ended commands whose last background child is gone. Called after every batch of reaped children. */
  sweep(): void {
    for (const command of this.#background) {
      if (!command.cgroup.remove()) continue;
      this.#background.delete(command);
      this.#byId.delete(command.id);
    }
  }

  #exited(command: Command, event: ExitedEvent): void {
    this.#onExited(event);
    if (command.cgroup.remove()) this.#byId.delete(command.id);
    else this.#background.add(command);
    this.#context.cgroups.prepare();
  }
}
