/**
 * A stand-in for the VM behind an activity: commands end at once, or do what the test scripted. Fast: nothing here
 * waits for anything but its sinks.
 */
import type {
  ActivityRuntime,
  CommandOf,
  OutputSink,
  OutputSinks,
  ProgressReport,
  RunEnd,
  RuntimeUsage,
} from '../../host/exe-unit/types.ts';

type RunHandler = (command: CommandOf<'run'>, output: OutputSinks, signal: AbortSignal) => Promise<RunEnd>;

/** Bytes passed to a sink at once by `bytes`: what the guest's credit brings. */
const PORTION = 128 * 1024;

/**
 * Programs that `run` finds by their entry point:
 *
 * | entry point | arguments | what it does |
 * |---|---|---|
 * | `echo` | words | prints them and a line feed |
 * | `print` | text, [text on stderr] | prints exactly these |
 * | `bytes` | count, [stream], [fill] | produces so many bytes, as fast as the sink takes them; `fill`: a character |
 * | `numbers` | count | prints the numbers from 0 on, one a line, in large portions |
 * | `exit` | code | ends with it |
 * | `hang` | [text] | prints the text, then runs until it is aborted |
 * | `fail` | text | the runtime fails |
 */
export class FakeRuntime implements ActivityRuntime {
  /** What was asked, in order: `deploy`, `start`, `run echo hi`, `stop`, … */
  readonly calls: string[] = [];
  /** Instead of the table, for one entry point. */
  readonly programs = new Map<string, RunHandler>(Object.entries(PROGRAMS));
  /** Replaced by tests that need more than success. */
  onDeploy: ActivityRuntime['deploy'] = async () => {};
  onStart: ActivityRuntime['start'] = async () => {};
  onTransfer: ActivityRuntime['transfer'] = async () => {};
  onStop: ActivityRuntime['stop'] = async () => {};
  current: RuntimeUsage = { cpuSeconds: 0, memory: 0, shared: 0, storage: 0, networkIn: 0, networkOut: 0 };

  async deploy(
    command: CommandOf<'deploy'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    this.calls.push('deploy');
    await this.onDeploy(command, progress, signal);
  }

  async start(command: CommandOf<'start'>, output: OutputSinks, signal: AbortSignal): Promise<void> {
    this.calls.push('start');
    await this.onStart(command, output, signal);
  }

  async run(command: CommandOf<'run'>, output: OutputSinks, signal: AbortSignal): Promise<RunEnd> {
    this.calls.push(['run', command.entryPoint, ...command.args].join(' '));
    const program = this.programs.get(command.entryPoint);
    if (!program) throw new Error(`no such program: ${command.entryPoint}`);
    return program(command, output, signal);
  }

  async transfer(
    command: CommandOf<'transfer'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    this.calls.push(`transfer ${command.from} ${command.to}`);
    await this.onTransfer(command, progress, signal);
  }

  async stop(grace: number): Promise<void> {
    this.calls.push('stop');
    await this.onStop(grace);
  }

  usage(): RuntimeUsage {
    return this.current;
  }
}

const PROGRAMS: Record<string, RunHandler> = {
  async echo({ args }, { stdout }) {
    await stdout?.(Buffer.from(`${args.join(' ')}\n`));
    return { exitCode: 0 };
  },
  async print({ args: [out = '', error = ''] }, { stdout, stderr }) {
    if (out !== '') await stdout?.(Buffer.from(out));
    if (error !== '') await stderr?.(Buffer.from(error));
    return { exitCode: 0 };
  },
  async bytes({ args: [count = '0', stream = 'stdout', fill = 'x'] }, output, signal) {
    const sink = stream === 'stderr' ? output.stderr : output.stdout;
    await produce(sink, Number(count), Buffer.alloc(PORTION, fill), signal);
    return { exitCode: 0 };
  },
  async numbers({ args: [count = '0'] }, { stdout }, signal) {
    let lines = '';
    for (let number = 0; number < Number(count); number++) {
      lines += `${number}\n`;
      if (lines.length < PORTION) continue;
      signal.throwIfAborted();
      await stdout?.(Buffer.from(lines));
      lines = '';
    }
    await stdout?.(Buffer.from(lines));
    return { exitCode: 0 };
  },
  async exit({ args: [code = '0'] }) {
    return { exitCode: Number(code) };
  },
  async hang({ args: [text = ''] }, { stdout }, signal) {
    if (text !== '') await stdout?.(Buffer.from(text));
    return aborted(signal);
  },
  async fail({ args: [text = 'failed'] }) {
    throw new Error(text);
  },
};

/** Passes `count` bytes to the sink, `portion` again and again. */
async function produce(
  sink: OutputSink | null,
  count: number,
  portion: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  for (let left = count; left > 0; left -= portion.length) {
    signal.throwIfAborted();
    const taken = sink?.(left < portion.length ? portion.subarray(0, left) : portion);
    if (taken instanceof Promise) await taken;
  }
}

/** Rejects when `signal` fires, with its reason. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
