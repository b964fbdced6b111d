/** Streams and a context for tests of the command line. */
import { PassThrough, Writable } from 'node:stream';
import type { Context, TerminalIn } from '../../host/cli/context.ts';
import { type Logger, silentLogger } from '../../host/lib/logger.ts';

/** A standard stream that keeps what is written. Like the real ones it has taken a chunk when it calls back. */
export class Captured extends Writable {
  readonly isTTY: boolean;
  columns = 100;
  rows = 40;
  /** Set: writes wait until it resolves, as for a reader that does not read. */
  gate: Promise<void> | null = null;
  readonly #chunks: Buffer[] = [];

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
    // As main does for the real ones: who writes a command's bytes looks at the callback.
    this.on('error', () => {});
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    const take = () => {
      this.#chunks.push(Buffer.from(chunk));
      callback();
    };
    if (this.gate) void this.gate.then(take);
    else take();
  }
}

export interface TestContext extends Context {
  stdin: PassThrough & TerminalIn;
  stdout: Captured;
  stderr: Captured;
  env: Record<string, string | undefined>;
  /** What was written so far. */
  out(): string;
  err(): string;
  /** Raw mode, each time that it was set. */
  rawModes: boolean[];
}

/** `terminal`: all three are one, of 100 × 40. */
export function testContext(options: { terminal?: boolean; log?: Logger } = {}): TestContext {
  const { terminal = false } = options;
  const rawModes: boolean[] = [];
  const stdin = Object.assign(new PassThrough(), {
    isTTY: terminal,
    setRawMode: (raw: boolean) => rawModes.push(raw),
  });
  const [stdout, stderr] = [new Captured(terminal), new Captured(terminal)];
  return {
    stdin,
    stdout,
    stderr,
    env: {},
    log: options.log ?? silentLogger,
    out: () => stdout.bytes.toString(),
    err: () => stderr.bytes.toString(),
    rawModes,
  };
}
