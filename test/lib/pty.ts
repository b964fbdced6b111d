/** A program on a terminal of its own, and a person who types and reads. */
import { closeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { withDeadline } from '../../host/lib/deadline.ts';
import type { ExitStatus } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import type { Owner } from './vm.ts';

const DEADLINE = 120_000;
const SIGKILL = 9;

export class Terminal {
  readonly pid: number;
  readonly #master: number;
  readonly #stream: ReadStream;
  readonly #exited: Promise<ExitStatus>;
  #shown = '';
  /** Everything before it was waited for already. */
  #seen = 0;
  #changed: (() => void)[] = [];

  constructor(
    argv: readonly string[],
    env: Record<string, string | undefined>,
    size: { rows: number; columns: number },
  ) {
    const native = loadNative();
    const [master, slave] = native.openPty(size.rows, size.columns);
    const entries = Object.entries({ TERM: 'xterm', ...env }).filter(([, value]) => value !== undefined);
    const { pid, pidfd } = native.spawn({
      file: [argv[0] as string],
      argv: [...argv],
      env: entries.map(([name, value]) => `${name}=${value}`),
      fds: [0, 1, 2].map((fd): [number, number] => [slave, fd]),
      controllingTerminal: 0,
    });
    closeSync(slave);
    this.pid = pid;
    this.#master = master;
    this.#exited = new Promise((resolve) => {
      native.watch(pidfd, 1, () => {
        const status = native.waitPid(pid);
        if (status === null) return;
        native.unwatch(pidfd);
        native.close(pidfd);
        resolve(status);
      });
    });
    this.#stream = new ReadStream(master);
    this.#stream.setEncoding('utf8').on('data', (text: string) => {
      this.#shown += text;
      this.#wake();
    });
    // EIO: nobody has the terminal open any more.
    this.#stream.on('error', () => this.#wake());
  }

  /** Everything that it has shown so far. */
  get shown(): string {
    return this.#shown;
  }

  /** Waits until it shows what fits, after what was waited for last. @returns the match. @throws at the deadline */
  async shows(pattern: RegExp): Promise<RegExpMatchArray> {
    const wait = async () => {
      for (;;) {
        const match = this.#shown.slice(this.#seen).match(pattern);
        if (match) {
          this.#seen += (match.index as number) + match[0].length;
          return match;
        }
        await new Promise<void>((resolve) => this.#changed.push(resolve));
      }
    };
    try {
      return await withDeadline(wait(), DEADLINE, `the terminal with ${pattern}`);
    } catch (error) {
      throw new Error(`${(error as Error).message}; it shows: ${JSON.stringify(this.#shown.slice(-1500))}`);
    }
  }

  type(text: string): void {
    loadNative().write(this.#master, Buffer.from(text));
  }

  resize(rows: number, columns: number): void {
    loadNative().setWindowSize(this.#master, rows, columns);
  }

  /** How the program ended. */
  async ended(): Promise<ExitStatus> {
    return withDeadline(this.#exited, DEADLINE, 'the program on the terminal');
  }

  async close(): Promise<void> {
    const native = loadNative();
    try {
      native.kill(this.pid, SIGKILL);
    } catch {
      // It has ended.
    }
    await this.ended().catch(() => {});
    this.#stream.destroy();
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const resolve of changed) resolve();
  }
}

/** Starts a program on a terminal of 40 × 100; both end with the test. */
export function openTerminal(
  t: Owner,
  argv: readonly string[],
  env: Record<string, string | undefined>,
): Terminal {
  const terminal = new Terminal(argv, env, { rows: 40, columns: 100 });
  t.teardown(() => terminal.close());
  return terminal;
}
