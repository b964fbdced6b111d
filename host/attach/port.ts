/**
 * A place that commands run in, as the parts see it that do not care where it is: a VM of this process, or one of
 * another process that is reached through its attach.sock.
 */
import type { Readable, Writable } from 'node:stream';
import type { FilesReply } from '../../guest/protocol/messages.ts';
import type { OutputStream, Sink } from '../runtime/output-stream.ts';
import type { CommandResult, CommandSpec, StatsReply } from '../runtime/types.ts';

/** A command that was started. */
export interface RunningCommand {
  /** In the VM. */
  readonly pid: number;
  /** Null where the specification asked for none. `end()` closes the command's stdin. */
  readonly stdin: Writable | null;
  /** A reader that takes its time holds the command back. */
  readonly stdout: OutputStream | null;
  readonly stderr: OutputStream | null;
  /** How it ended, after its output was taken by who consumes it. Rejects when the VM is gone. */
  readonly result: Promise<CommandResult>;
  /** To its process, or with `tree` to all processes that it left. */
  signal(signal: number, options?: { tree?: boolean }): Promise<void>;
  resize(rows: number, columns: number): Promise<void>;
}

export interface CommandHost {
  /** Rejects with the guest's refusal: YAVM_E_GUEST_SPAWN_FAILED and others. */
  run(spec: CommandSpec): Promise<RunningCommand>;
  /**
   * A command that already runs, by the token it was started with: another process has its output and its result, and
   * this one its stdin and its terminal. May wait for one that is about to start. Undefined when none has that token; absent where commands have none.
   */
  runningAs?(token: string): RunningCommand | undefined | Promise<RunningCommand | undefined>;
  stats(): Promise<StatsReply>;
  /** A file's bytes, or a tar of anything, into `sink`. */
  readFiles(
    path: string,
    sink: Sink,
    options?: { format?: 'file' | 'tar'; signal?: AbortSignal },
  ): Promise<FilesReply>;
  /** The reverse. */
  writeFiles(
    path: string,
    source: Readable | AsyncIterable<Uint8Array>,
    options?: WriteOptions,
  ): Promise<FilesReply>;
}

export interface WriteOptions {
  format?: 'file' | 'tar';
  mode?: number;
  uid?: number;
  gid?: number;
  signal?: AbortSignal;
}
