/**
 * The exe-unit as a program, with a stand-in for its VM that does what the recorded runtimes did: for replays.
 *
 * `node replay-supervisor.ts SETTINGS`, JSON of {@link ReplaySettings}. Each message on the IPC channel is the number of
 * a command of the runtime (deploy, start, run, transfer; counted from 0) that may end now.
 */
import { tmpdir } from 'node:os';
import { readExeUnitOptions } from '../../host/exe-unit/options.ts';
import { runExeUnit } from '../../host/exe-unit/supervisor.ts';
import { runTransfer } from '../../host/exe-unit/transfers.ts';
import type { ActivityRuntime, CommandOf, OutputSinks, ProgressReport } from '../../host/exe-unit/types.ts';
import type { Gsb } from '../../host/gsb/types.ts';
import { sleep } from '../../host/lib/deadline.ts';
import { type Deferred, deferred } from '../../host/lib/deferred.ts';
import type { Logger } from '../../host/lib/logger.ts';
import type { VpnNetwork } from '../../host/network/types.ts';
import { parseNetworks } from '../../host/network/vpn/networks.ts';
import { fetchImage } from '../../host/transfer/image.ts';
import { hashError } from '../../host/transfer/image-errors.ts';
import { aborted } from './fake-runtime.ts';
import { MemoryFiles } from './memory-files.ts';
import { openNetwork, type RecordedNetwork } from './replay-network.ts';

export interface ReplaySettings {
  activityId: string;
  reportUrl: string;
  /** The agreement's file. */
  agreement: string;
  work: string;
  cache: string;
  capHandoff: boolean;
  /** What `start` prints on stdout. */
  startPrints?: string;
  /** What a deploy fails with. */
  deployFails?: string | { calculated: string; expected: string };
  /** Bytes that the VM takes. */
  memory?: number;
  /** Instead of what the table says a program prints. */
  programPrints?: string;
  /** What a deploy fetches, as agreements have it. */
  taskPackage?: string;
  /** Host and port of the web server that was at {@link RECORDED_SERVER}; without it no transfer is one. */
  server?: string;
}

/** In the recorded scripts. */
const RECORDED_SERVER = '127.0.0.1:18001';

/** What a program does. Texts are of bytes (Latin-1); `last` is printed when the command may end. */
interface Program {
  first?: string[];
  errors?: string[];
  last?: string[];
  exitCode?: number;
  /** The runtime answers with an error. */
  fails?: string;
}

const DIGITS: Program = { first: ['0123456789abcdef'] };
const BYTES: Program = { first: ['hi\xff\x00\n'] };
const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index + 1}\n`).join('');

/** By the last argument, or all words where there is no shell. */
const PROGRAMS: Readonly<Record<string, Program>> = {
  '/bin/true': {},
  '/bin/echo hi': { first: ['hi\n'] },
  '/bin/echo ok': { first: ['ok\n'] },
  '/no/such/bin': { exitCode: 1 },
  '/no/such/bin x': {
    fails:
      'Error { code: NotFound, message: "[Errno 2] No such file or directory: \'/no/such/bin\'", context: {} }',
  },
  'main /input /output': {
    first: ['Executing main (["main", "/input", "/output"]\n'],
    last: ['Done executing main (["main", "/input", "/output"])\n'],
  },
  true: {},
  'echo zipped': { first: ['zipped\n'] },
  'echo nocap': { first: ['nocap\n'] },
  'echo b': { first: ['b\n'] },
  'echo up': { first: ['up\n'] },
  'echo again': { first: ['again\n'] },
  'echo hidden': { first: ['hidden\n'] },
  'exit 3': { exitCode: 3 },
  'exit 4': { exitCode: 4 },
  'exit 7': { exitCode: 7 },
  'kill -9 $$': { exitCode: 137 },
  // The runtime itself, and what was run after it had gone.
  "kill -9 $(ps -o ppid= -p $$ 2>/dev/null || cut -d' ' -f4 /proc/$$/stat); sleep 5": { exitCode: 137 },
  'echo after': { exitCode: 137 },
  "printf '0123456789abcdef'": DIGITS,
  "printf 'hi\\377\\000\\n'": BYTES,
  'printf x': { first: ['x'] },
  'seq 1 3': { first: [numbers(3)] },
  'seq 1 200 | head -c 300': { first: [numbers(200).slice(0, 300)] },
  "head -c 20000 /dev/zero | tr '\\0' z": { first: Array.from({ length: 5 }, () => 'z'.repeat(4000)) },
  'sleep 1.5; echo a': { last: ['a\n'] },
  'echo begin; sleep 30; echo end': { first: ['begin\n'], last: ['end\n'] },
  'echo out; echo err >&2; sleep 1; echo late': { first: ['out\n'], errors: ['err\n'], last: ['late\n'] },
  'echo hello; echo err >&2; sleep 1; echo bye': { first: ['hello\n'], errors: ['err\n'], last: ['bye\n'] },
  "echo one; echo bad >&2; sleep 0.3; printf 'tw\\303'; sleep 0.2; printf '\\266\\n'": {
    first: ['one\n'],
    errors: ['bad\n'],
    last: ['tw\xc3', '\xb6\n'],
  },
};

/** Bytes fetched at each report of a deploy that was asked for progress, of so many; the last one is ours alone. */
const DEPLOY_PROGRESS = [8076, 73_612, 139_148, 200_000];
const DEPLOY_TOTAL = 200_000;
/** Milliseconds between them: more than the recorded script's interval. */
const PROGRESS_PAUSE = 25;

class RecordedRuntime implements ActivityRuntime {
  readonly #settings: ReplaySettings;
  readonly #bus: Gsb | null;
  readonly #logger: Logger;
  readonly #files = new MemoryFiles();
  readonly #gates = new Map<number, Deferred<void>>();
  #calls = 0;
  #networks: VpnNetwork[] = [];
  #network: RecordedNetwork | null = null;

  constructor(settings: ReplaySettings, logger: Logger, bus: Gsb | null) {
    this.#settings = settings;
    this.#logger = logger;
    this.#bus = bus;
  }

  /** Lets a command end. */
  open(call: number): void {
    this.#gate(call).resolve();
  }

  async deploy(
    { progress: wanted, networks }: CommandOf<'deploy'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { deployFails, taskPackage, cache: cacheFolder } = this.#settings;
    const ended = this.#mayEnd(signal);
    ended.catch(() => {});
    if (taskPackage !== undefined) {
      const progressOptions = wanted;
      const bus = this.#bus;
      await fetchImage({ taskPackage, cacheFolder, bus, progress, progressOptions, signal });
      return await ended;
    }
    await ended;
    this.#networks = parseNetworks(networks);
    for (const done of wanted ? DEPLOY_PROGRESS : []) {
      progress({ done, total: DEPLOY_TOTAL, unit: 'Bytes' });
      await sleep(PROGRESS_PAUSE, signal);
    }
    if (typeof deployFails === 'string') throw new Error(deployFails);
    if (deployFails) throw hashError(deployFails.calculated, deployFails.expected);
  }

  async start(_command: CommandOf<'start'>, output: OutputSinks, signal: AbortSignal): Promise<void> {
    const ended = this.#mayEnd(signal);
    ended.catch(() => {});
    try {
      if (this.#networks.length > 0) this.#network = await openNetwork(this.#networks, this.#logger);
    } finally {
      await ended;
    }
    await output.stdout?.(Buffer.from(this.#settings.startPrints ?? ''));
  }

  async run({ entryPoint, args }: CommandOf<'run'>, { stdout, stderr }: OutputSinks, signal: AbortSignal) {
    const program = this.#program(entryPoint, args);
    const ended = this.#mayEnd(signal);
    ended.catch(() => {});
    for (const text of program.first ?? []) await stdout?.(Buffer.from(text, 'latin1'));
    for (const text of program.errors ?? []) await stderr?.(Buffer.from(text, 'latin1'));
    await ended;
    for (const text of program.last ?? []) await stdout?.(Buffer.from(text, 'latin1'));
    if (program.fails !== undefined) throw new Error(program.fails);
    return { exitCode: program.exitCode ?? 0 };
  }

  async transfer(
    command: CommandOf<'transfer'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const ended = this.#mayEnd(signal);
    ended.catch(() => {});
    const { server } = this.#settings;
    if (server === undefined) {
      await ended;
      return this.#refuse(command);
    }
    const [from, to] = [command.from, command.to].map((url) => url.replace(RECORDED_SERVER, server));
    try {
      await runTransfer(
        { ...command, from: from as string, to: to as string },
        {
          ...{ files: this.#files, bus: this.#bus, allowFiles: false },
          ...{ tempFolder: tmpdir(), env: process.env, progress, signal },
          ...{ logger: this.#logger, sleep: async () => {} },
        },
      );
    } finally {
      await ended;
    }
  }

  /** Where no deploy registered a volume. */
  #refuse({ from, to }: CommandOf<'transfer'>): never {
    const scheme = from.slice(0, from.indexOf(':'));
    if (scheme === 'ftp') throw new Error(`Unsupported scheme: ${scheme}`);
    throw new Error(`IO error: path not found in container: ${to.replace('container:', '')}`);
  }

  async stop(): Promise<void> {
    await this.#network?.close();
    this.#network = null;
  }

  usage() {
    const { memory = 2 ** 27 } = this.#settings;
    return {
      cpuSeconds: performance.now() / 2000,
      memory,
      shared: 0,
      storage: 0,
      networkIn: 0,
      networkOut: 0,
    };
  }

  #program(entryPoint: string, args: readonly string[]): Program {
    const { programPrints } = this.#settings;
    if (programPrints !== undefined) return { first: [programPrints] };
    const words = entryPoint === '/bin/sh' ? args.slice(1) : [entryPoint, ...args];
    const program = PROGRAMS[words.join(' ')];
    if (program === undefined) throw new Error(`what does ${words.join(' ')} do?`);
    return program;
  }

  #mayEnd(signal: AbortSignal): Promise<void> {
    return Promise.race([this.#gate(this.#calls++).promise, aborted(signal)]);
  }

  #gate(call: number): Deferred<void> {
    const gate = this.#gates.get(call) ?? deferred<void>();
    this.#gates.set(call, gate);
    return gate;
  }
}

if (import.meta.main) {
  const settings = JSON.parse(process.argv[2] ?? '') as ReplaySettings;
  const { activityId, reportUrl, agreement, work: workDir, cache: cacheDir, capHandoff } = settings;
  const opened: number[] = [];
  let runtime: RecordedRuntime | undefined;
  process.on('message', (call: number) => (runtime ? runtime.open(call) : opened.push(call)));
  // The channel alone keeps nobody alive.
  process.channel?.unref();
  const options = readExeUnitOptions(
    { activityId, reportUrl, agreement, workDir, cacheDir, capHandoff },
    process.env,
  );
  process.exitCode = await runExeUnit(options, {
    env: process.env,
    terminal: false,
    runtime(_task, logger, bus) {
      runtime = new RecordedRuntime(settings, logger, bus);
      for (const call of opened) runtime.open(call);
      return runtime;
    },
  }).catch(() => 1);
}
