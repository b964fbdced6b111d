/** The program as a user runs it: a process with pipes, ended with its test whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { withDeadline } from '../../host/lib/deadline.ts';
import type { Owner } from './vm.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** What tests start: the launcher of the build, or `YAVM_TEST_PROGRAM`, the packaged program (`make dist-test`). */
export const LAUNCHER = resolve(process.env.YAVM_TEST_PROGRAM || join(ROOT, 'build/out/ya-vm'));

/** For words of `run` and `shell`: the accelerator of the tests (test/lib/vm.ts says why it is not the machine's best). */
export const ACCEL = ['--accel', process.env.YAVM_TEST_ACCEL ?? 'tcg'];

export interface CliOptions {
  /** The whole environment; see privateEnvironment of vm.ts. */
  env: Record<string, string | undefined>;
  /** Whole content of standard input; without it /dev/null. `'open'`: a pipe that the test writes to. */
  input?: string | Uint8Array | 'open';
  /** What starts the launcher: a program and its words, the launcher's path and words come behind them. */
  through?: readonly string[];
  /** Milliseconds until it must have ended, see {@link CliProcess.ended}. */
  deadline?: number;
}

export interface CliResult {
  /** Exit code; null when `signal` ended it. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
  milliseconds: number;
}

/** A command boots a VM in 2 to 3 s; a machine that is busy with other things may take ten times that. */
const DEADLINE = 180_000;

export class CliProcess {
  readonly child: ChildProcess;
  readonly #words: readonly string[];
  readonly #deadline: number;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #ended: Promise<CliResult>;
  #changed: (() => void)[] = [];
  #over = false;

  constructor(words: readonly string[], { env, input, through = [], deadline = DEADLINE }: CliOptions) {
    this.#words = words;
    this.#deadline = deadline;
    const [file, ...argv] = [...through, LAUNCHER, ...words];
    const began = performance.now();
    this.child = spawn(file as string, argv, {
      env,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    if (input !== undefined && input !== 'open') this.child.stdin?.end(input);
    this.child.stdin?.on('error', () => {});
    this.#keep(this.child.stdout, this.#stdout);
    this.#keep(this.child.stderr, this.#stderr);
    this.#ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code, signal) => {
        const milliseconds = performance.now() - began;
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr, milliseconds });
      });
    });
    const over = () => {
      this.#over = true;
      this.#wake();
    };
    this.#ended.then(over, over);
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** What it has written so far. */
  get stdout(): Buffer {
    return Buffer.concat(this.#stdout);
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString('utf8');
  }

  /** Its end, all of its output read. @throws {YavmError} YAVM_E_TIMEOUT at the deadline; its output is in the error. */
  async ended(): Promise<CliResult> {
    try {
      return await withDeadline(this.#ended, this.#deadline, `ya-vm ${this.#words.join(' ')}`);
    } catch (error) {
      throw new Error(`${(error as Error).message}; ${this.#said()}`, { cause: error });
    }
  }

  /** Waits until it has written `text` to standard output. @throws {Error} when it ends, or the deadline passes, first. */
  async says(text: string): Promise<void> {
    await this.until(() => this.stdout.includes(text), `'${text}' on standard output`);
  }

  /** Waits for what its output brings about. @throws {Error} when it ends, or the deadline passes, first. */
  async until(done: () => boolean, what: string): Promise<void> {
    const timer = setTimeout(() => this.#wake(), this.#deadline);
    const last = performance.now() + this.#deadline;
    try {
      while (!done()) {
        if (this.#over || performance.now() >= last) throw new Error(`no ${what}; ${this.#said()}`);
        await new Promise<void>((resolve) => this.#changed.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  #keep(stream: NodeJS.ReadableStream | null, chunks: Buffer[]): void {
    stream?.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      this.#wake();
    });
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const resolve of changed) resolve();
  }

  #said(): string {
    return `stdout: ${this.stdout.toString('utf8').slice(-2000)}; stderr: ${this.stderr.slice(-2000)}`;
  }
}

/** Starts `ya-vm`; it is killed when the test ends, and its VM with it. */
export function startCli(t: Owner, words: readonly string[], options: CliOptions): CliProcess {
  const cli = new CliProcess(words, options);
  t.teardown(async () => {
    cli.kill('SIGKILL');
    await cli.ended().catch(() => {});
  });
  return cli;
}

/** Runs `ya-vm` to its end. */
export function runCli(t: Owner, words: readonly string[], options: CliOptions): Promise<CliResult> {
  return startCli(t, words, options).ended();
}

/** The report of `run --json`: the last line of standard error. */
export function reportOf(result: CliResult): Record<string, unknown> {
  return JSON.parse(result.stderr.trimEnd().split('\n').at(-1) as string);
}
