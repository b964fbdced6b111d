/** A command that runs in a VM: its streams, its result, and what can be done to it. */
import type { ExitedEvent } from '../../guest/protocol/messages.ts';
import type { InputStream } from './input-stream.ts';
import type { OutputStream } from './output-stream.ts';
import type { Requests } from './requests.ts';
import type { CommandResult } from './types.ts';

/** How long an exit notice is held for output that it announces, milliseconds (the ports have no order between them). */
export const OUTPUT_WAIT = 5000;

export interface CommandStreams {
  stdin: InputStream | null;
  stdout: OutputStream | null;
  stderr: OutputStream | null;
}

export class Command implements CommandStreams {
  /** Names the process towards the guest. */
  readonly id: number;
  readonly stdin: InputStream | null;
  readonly stdout: OutputStream | null;
  readonly stderr: OutputStream | null;
  /**
   * How the command ended, once all output from before its end is here, and, for a stream that `consume` reads, was
   * taken by its sink. Rejects with the VM's error when the VM ends first.
   */
  readonly result: Promise<CommandResult>;
  readonly #requests: Requests;
  #pid = 0;
  #resolve!: (result: CommandResult) => void;
  #reject!: (error: Error) => void;

  constructor(id: number, streams: CommandStreams, requests: Requests) {
    this.id = id;
    this.stdin = streams.stdin;
    this.stdout = streams.stdout;
    this.stderr = streams.stderr;
    this.#requests = requests;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Who does not look at the result is not to be ended by its failure.
    this.result.catch(() => {});
  }

  /** Its pid in the guest. */
  get pid(): number {
    return this.#pid;
  }

  /** Sends a signal to the command's process, or with `tree` to all processes that it started. */
  async signal(signal: number, options: { tree?: boolean } = {}): Promise<void> {
    await this.#requests.send({ op: 'signal', process: this.id, signal, tree: options.tree ?? false });
  }

  /** Sets the window size of a command with a tty. */
  async resize(rows: number, columns: number): Promise<void> {
    await this.#requests.send({ op: 'resize', process: this.id, rows, columns });
  }

  /** Closes its stdin at once, whatever of the stream has not arrived. */
  async closeInput(): Promise<void> {
    await this.#requests.send({ op: 'input', process: this.id, action: 'close' });
  }

  /** The run request was answered. For the client. */
  started(pid: number): void {
    this.#pid = pid;
  }

  /** The exit notice came: waits for the output that it announces, then settles the result. For the client. */
  async exited(event: ExitedEvent, outputWait: number = OUTPUT_WAIT): Promise<void> {
    this.stdin?.release();
    const announced: [OutputStream | null, number][] = [
      [this.stdout, event.totals.stdout ?? 0],
      [this.stderr, event.totals.stderr ?? 0],
    ];
    const arrived = Promise.all(announced.map(([stream, total]) => stream?.reached(total, 'received')));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, outputWait);
    });
    await Promise.race([arrived, late]);
    clearTimeout(timer);
    const complete = announced.every(([stream, total]) => stream === null || stream.received >= total);
    await Promise.all(
      announced.map(([stream, total]) => stream?.reached(Math.min(total, stream.received), 'taken')),
    );
    this.#resolve(resultOf(event, complete));
  }

  /** The VM is gone. For the client. */
  fail(error: Error): void {
    this.stdin?.fail(error);
    this.stdout?.fail(error);
    this.stderr?.fail(error);
    this.#reject(error);
  }
}

function resultOf(event: ExitedEvent, complete: boolean): CommandResult {
  const result: CommandResult = {
    exitCode: event.code ?? 128 + (event.signal as number),
    outOfMemory: event.outOfMemory,
    complete,
    totals: event.totals,
    cpu: event.cpu,
    memoryPeak: event.memoryPeak,
  };
  if (event.signal !== undefined) result.signal = event.signal;
  return result;
}
