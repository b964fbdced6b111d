/** The other end of attach.sock: commands in a VM that another process supervises. */
import { connect as connectSocket, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { FilesReply, Operation, ReplyOf, RequestOf } from '../../guest/protocol/messages.ts';
import { withDeadline } from '../lib/deadline.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { Command } from '../runtime/command.ts';
import { GuestClient } from '../runtime/guest-client.ts';
import type { Sink } from '../runtime/output-stream.ts';
import type { CommandSpec, StatsReply } from '../runtime/types.ts';
import { encodeDetach } from './detach.ts';
import type { CommandHost, WriteOptions } from './port.ts';

/** The supervisor answers from its event loop; more than this means that it hangs, milliseconds. */
const CONNECT_DEADLINE = 5000;

/** It is the guest's client, on one socket: the server speaks the guest's messages, so nothing else is needed. */
export class AttachClient implements CommandHost {
  readonly #socket: Socket;
  readonly #client: GuestClient;

  private constructor(socket: Socket, client: GuestClient) {
    this.#socket = socket;
    this.#client = client;
  }

  /**
   * Connects to the socket at `path`.
   * @throws {YavmError} YAVM_E_ATTACH when nobody answers there. Later, when the connection ends, everything that waits
   * fails with YAVM_E_ATTACH_CLOSED.
   */
  static async connect(path: string, logger: Logger): Promise<AttachClient> {
    let socket!: Socket;
    const client: GuestClient = new GuestClient(
      {
        joint: (onread) => {
          socket = connectSocket({ path, onread });
          return socket;
        },
      },
      // One socket keeps the order of what is sent on it: output never comes after the exit that announces it.
      { logger, outputWait: 0, onEnd: (error) => client.close(error ?? closedError(path)) },
    );
    const connected = new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    try {
      await withDeadline(connected, CONNECT_DEADLINE, `the VM at ${path}`);
    } catch (cause) {
      const gone = hasErrno(cause, 'ENOENT') || hasErrno(cause, 'ECONNREFUSED');
      const error = new YavmError('YAVM_E_ATTACH', `${path}: the VM cannot be reached`, {
        cause,
        hint: gone ? 'It has ended, or is just starting. See: ya-vm ps' : undefined,
      });
      client.close(error);
      throw error;
    }
    return new AttachClient(socket, client);
  }

  run(spec: CommandSpec): Promise<Command> {
    return this.#client.run(spec);
  }

  /**
   * Takes stdin and terminal of a command that was started with `token` elsewhere. Its output goes where it went.
   * @throws {GuestRequestError} YAVM_E_GUEST_UNKNOWN_PROCESS
   */
  adopt(token: string, options: { stdin: boolean }): Promise<Command> {
    const spec: CommandSpec = { argv: ['-'], env: [], ...options, stdout: 'discard', stderr: 'discard' };
    return this.#client.run(spec, { adopt: token });
  }

  stats(): Promise<StatsReply> {
    return this.request({ op: 'stats' });
  }

  /** Any request without a stream; most are refused with YAVM_E_GUEST_UNKNOWN_REQUEST. */
  request<Op extends Operation>(body: RequestOf<Op>): Promise<ReplyOf[Op]> {
    return this.#client.request(body);
  }

  readFiles(path: string, sink: Sink, options?: { format?: 'file' | 'tar' }): Promise<FilesReply> {
    return this.#client.readFiles(path, sink, options);
  }

  writeFiles(
    path: string,
    source: Readable | AsyncIterable<Uint8Array>,
    options?: WriteOptions,
  ): Promise<FilesReply> {
    return this.#client.writeFiles(path, source, options);
  }

  /** Leaves `command` running and closes the connection; every other command of this client is killed. */
  async detach(command: Command): Promise<void> {
    this.#socket.write(encodeDetach(command.id));
    try {
      // Any answer shows that the word before it was heard. Without it output that is on its way here would meet a closed
      // socket, and the connection break on the other side before the word was read.
      await this.request({ op: 'cancel', request: command.id });
    } catch {
      // The VM has ended meanwhile: there is nothing to leave.
    }
    this.close();
  }

  /** Closes the connection; commands that still run are killed. */
  close(): void {
    this.#client.close(new YavmError('YAVM_E_ATTACH_CLOSED', 'the connection to the VM was closed'));
  }
}

function closedError(path: string): YavmError {
  return new YavmError(
    'YAVM_E_ATTACH_CLOSED',
    `${path}: the VM, or the process that supervises it, has ended`,
  );
}
