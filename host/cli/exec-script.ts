/** `ya-vm exec-script`: sends a script to an activity, shows its events and results. The activity is made, or given. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { connectGsb, type Gsb, type GsbAddress, parseGsbUrl } from '../gsb/index.ts';
import { withDeadline } from '../lib/deadline.ts';
import { formatDuration, parseDuration } from '../lib/duration.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { assetsFolder } from '../lib/paths.ts';
import { type CommandResult, Requestor } from '../node/index.ts';
import type { AccelChoice } from '../runtime/types.ts';
import { type BatchLines, jsonLines, plainLines } from './batch-events.ts';
import type { Act } from './commands.ts';
import { type Context, print, writeAll } from './context.ts';
import { printError } from './error-line.ts';
import { EXIT } from './exit.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { type LocalActivity, localImage, startLocalActivity, usageOf } from './local-activity.ts';
import type { Outbound } from './net-manifest.ts';
import { type NetMode, parseAllow, parseNetMode } from './network-options.ts';
import {
  collect,
  forOption,
  parseChoice,
  parseCpus,
  parseMemory,
  parseStorage,
  usageError,
} from './options.ts';
import { readScript, type Script } from './script-file.ts';
import { shareFiles } from './script-places.ts';
import { usageLine } from './usage-line.ts';
import { DEMO_IMAGE } from './vm-options.ts';

const HELP = `
The file holds what a requestor sends, a JSON array of commands. Without --gsb-url ya-vm starts a node of its own and
itself as the supervisor, as a provider does; with it, the script goes to an activity that is there already.

Output of a command is shown if the script captures it: {"capture": {"stdout": {"stream": {}}}}.

The script's deploy may bring networks ("net"). --net and --allow write the manifest by which a requestor asks for the
internet.

A transfer reads and writes files of this host as local:PATH; they are published over gftp while the script runs:
{"transfer": {"from": "local:in.dat", "to": "container:/in.dat"}}.

Exit codes: 0 every command succeeded; the return code of the command that failed; 124 --timeout passed;
125 ya-vm failed, or a command that has no return code; 128 + n a signal to ya-vm.

Examples:
  ya-vm exec-script hello.json
  ya-vm exec-script hello.json --image task.gvmi --memory 1G --json | jq -c 'select(.kind == "result")'
  ya-vm exec-script hello.json --gsb-url unix:/tmp/yagna.sock --activity 4c2f0e…
  echo '[{"deploy":{}},{"start":{}},{"run":{"entry_point":"/bin/ls","args":["/"],
    "capture":{"stdout":{"stream":{}}}}}]' > hello.json`;

const ACCELERATORS: readonly AccelChoice[] = ['auto', 'kvm', 'tcg'];
const DEFAULT_MEMORY_MIB = 512;
const DEFAULT_STORAGE = 2 * 1024 ** 3;

export function define(command: Command, act: Act): void {
  command
    .argument('<file>', 'the script, JSON')
    .option('--image <file>', 'task image, .gvmi or squashfs (default: the demo image)')
    .option(
      '--task-package <hash:url>',
      "image of a server, as an agreement names it: 'hash:sha3:…:http://…'",
    )
    .option('-m, --memory <size>', 'memory of the VM (default: 512M)', forOption('--memory', parseMemory))
    .option('--cpus <n>', 'virtual CPUs (default: 1)', forOption('--cpus', parseCpus))
    .option('--storage <size>', 'size of the root disk (default: 2G)', forOption('--storage', parseStorage))
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration (default: auto)',
      forOption('--accel', (text) => parseChoice(text, ACCELERATORS, 'accelerator')),
    )
    .option(
      '--net [internet|none]',
      'a way to the internet; without a word: internet (default: none)',
      forOption('--net', parseNetMode),
    )
    .option(
      '--allow <url>',
      'only there, as https://example.com; may be repeated; implies --net',
      collect(forOption('--allow', allowed)),
    )
    .option('--work-dir <folder>', 'keep the work folder of the activity, with its log, below this one')
    .option('--cache-dir <folder>', "folder of images (default: ya-vm's own)")
    .option(
      '--gsb-url <url>',
      'the bus of an activity that is there; with --activity',
      forOption('--gsb-url', parseGsbUrl),
    )
    .option('--activity <id>', 'its id')
    .option('--timeout <time>', 'give up after this time (30s, 5m)', forOption('--timeout', parseDuration))
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', HELP);
  act(command, (context, options, [file]) => execScript(context, options, file as string));
}

interface Options {
  image?: string;
  taskPackage?: string;
  memory?: number;
  cpus?: number;
  storage?: number;
  accel?: AccelChoice;
  net?: true | NetMode;
  allow?: string[];
  workDir?: string;
  cacheDir?: string;
  gsbUrl?: GsbAddress;
  activity?: string;
  timeout?: number;
  json?: boolean;
}

/** Options that say what activity to make: they have no place where one is given. */
const FOR_NEW = [
  'image',
  'taskPackage',
  'memory',
  'cpus',
  'storage',
  'accel',
  'net',
  'allow',
  'workDir',
  'cacheDir',
] as const;

/** What the script is sent to. */
interface Target {
  requestor: Requestor;
  gsb: Gsb;
  /** Rejects when the activity has ended. */
  lost: Promise<never>;
  /** Ends what was made. @returns the last usage, names and values */
  close(): Promise<readonly (readonly [name: string, value: number])[]>;
}

/** Time for an exe-unit that ends its streams to do so, once the results are there, milliseconds. Upstream's never does. */
const STREAM_END = 2000;

/** `start` is replaced by tests. @returns the exit code */
export async function execScript(
  context: Context,
  options: Options,
  file: string,
  start: typeof startLocalActivity = startLocalActivity,
): Promise<number> {
  checkOptions(options);
  const script = await readScript(file);
  const interrupts = new Interrupts();
  const limit = timeLimit(options.timeout, interrupts.signal);
  try {
    const target = await openTarget(context, options, start, limit.signal);
    const lines = options.json ? jsonLines : plainLines(script.names);
    let results: CommandResult[];
    let usage: Awaited<ReturnType<Target['close']>> = [];
    try {
      results = await runScript({ context, target, script, lines, signal: limit.signal });
    } finally {
      usage = await target.close();
    }
    return await tellEnd(context, { results, usage, json: options.json === true });
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode;
    if (!limit.passed(error)) throw error;
    await printError(error, context, false);
    return EXIT.timedOut;
  } finally {
    limit.clear();
    interrupts.close();
  }
}

function checkOptions(options: Options): void {
  if (options.image !== undefined && options.taskPackage !== undefined) {
    throw usageError('--image and --task-package both name the image', 'Leave out one of them.');
  }
  if (options.net === 'none' && options.allow !== undefined) {
    throw usageError('--net none excludes --allow', 'Leave out one of them.');
  }
  if ((options.gsbUrl === undefined) !== (options.activity === undefined)) {
    throw usageError(
      '--gsb-url and --activity go together',
      'Give both for an activity that is there, or none.',
    );
  }
  if (options.gsbUrl !== undefined && FOR_NEW.some((name) => options[name] !== undefined)) {
    throw usageError(
      'the options of the VM are for a new activity',
      'Leave them out, or leave out --gsb-url.',
    );
  }
}

function allowed(url: string): string {
  parseAllow(url);
  return url;
}

/** What the activity's manifest lets out, as a requestor would write it. */
function outboundOf({ net, allow }: Options): Outbound | undefined {
  if (allow !== undefined) return { urls: allow };
  return net === undefined || net === 'none' ? undefined : 'unrestricted';
}

/** A signal that fires after the time, or with `signal`. */
function timeLimit(milliseconds: number | undefined, signal: AbortSignal) {
  if (milliseconds === undefined) return { signal, passed: () => false, clear() {} };
  const abort = new AbortController();
  const text = `the script ran longer than --timeout ${formatDuration(milliseconds)}`;
  const reason = new YavmError('YAVM_E_COMMAND_TIMEOUT', text);
  const timer = setTimeout(() => abort.abort(reason), milliseconds);
  return {
    signal: AbortSignal.any([signal, abort.signal]),
    passed: (error: unknown) => error === reason,
    clear: () => clearTimeout(timer),
  };
}

// ---------------------------------------------------------------- the activity

async function openTarget(
  context: Context,
  options: Options,
  start: typeof startLocalActivity,
  signal: AbortSignal,
): Promise<Target> {
  const { gsbUrl, activity } = options;
  if (gsbUrl !== undefined && activity !== undefined) return givenActivity(context, gsbUrl, activity);
  const made = await start(context, {
    taskPackage:
      options.taskPackage ?? localImage(options.image ?? join(assetsFolder(context.env), DEMO_IMAGE)),
    memoryMiB: options.memory ?? DEFAULT_MEMORY_MIB,
    cpus: options.cpus ?? 1,
    storage: options.storage ?? DEFAULT_STORAGE,
    accel: options.accel ?? 'auto',
    outbound: outboundOf(options),
    folder: options.workDir,
    cacheFolder: options.cacheDir,
    signal,
  });
  return madeActivity(made);
}

function madeActivity({ node, activity, close }: LocalActivity): Target {
  const lost = activity.ended.then(({ code, signal }) => {
    const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
    throw new YavmError('YAVM_E_ACTIVITY_LOST', `the supervisor has ended ${how}`, {
      cause: activity.record?.reason,
    });
  });
  lost.catch(() => {});
  return {
    requestor: node.requestor(activity.activity),
    gsb: node.gsb,
    lost,
    async close() {
      await close();
      return usageOf(activity);
    },
  };
}

function givenActivity(context: Context, address: GsbAddress, id: string): Target {
  const gsb = connectGsb({ address, logger: context.log });
  const requestor = new Requestor({ gsb, activity: id });
  const lost = new Promise<never>((_, reject) => {
    gsb.onState((state, error) => state === 'closed' && error && reject(error));
  });
  lost.catch(() => {});
  return {
    requestor,
    gsb,
    lost,
    async close() {
      // The agreement, which has the names of the counters, is the provider's.
      const usage = await requestor.usage().catch(() => null);
      await gsb.close();
      return usage?.current?.map((value, index) => [String(index), value] as const) ?? [];
    },
  };
}

// ---------------------------------------------------------------- the batch

interface Batch {
  context: Context;
  target: Target;
  script: Script;
  lines: BatchLines;
  signal: AbortSignal;
}

async function runScript(batch: Batch): Promise<CommandResult[]> {
  const { script, target } = batch;
  const { commands, close } = await shareFiles(script.commands, target.gsb);
  try {
    return await runBatch({ ...batch, script: { ...script, commands } });
  } finally {
    await close();
  }
}

async function runBatch({ context, target, script, lines, signal }: Batch): Promise<CommandResult[]> {
  const { requestor, lost } = target;
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const batch = await Promise.race([requestor.exec(script.commands, { signal: either }), lost]);
  const showing = showEvents(context, {
    events: requestor.stream(batch, { signal: either }),
    lines,
    over: over.signal,
  });
  try {
    const results = await Promise.race([requestor.finished(batch, either), lost]);
    await withDeadline(showing, STREAM_END, 'the end of the stream').catch(() => {});
    await print(context, ...lines.results(results));
    return results;
  } finally {
    over.abort();
    await showing;
  }
}

interface Showing {
  events: AsyncIterable<Parameters<BatchLines['event']>[0]>;
  lines: BatchLines;
  over: AbortSignal;
}

/** Shows events until they end. One that cannot be had any more is only a warning: the results say it all. Never rejects. */
async function showEvents(context: Context, { events, lines, over }: Showing): Promise<void> {
  try {
    for await (const event of events) await print(context, ...lines.event(event));
  } catch (error) {
    if (!over.aborted) context.log.warn({ err: toError(error) }, "the batch's events cannot be shown");
  }
}

// ---------------------------------------------------------------- the end

interface End {
  results: readonly CommandResult[];
  usage: readonly (readonly [name: string, value: number])[];
  json: boolean;
}

async function tellEnd(context: Context, { results, usage, json }: End): Promise<number> {
  const failed = results.find(({ ok }) => !ok);
  const exitCode = failed === undefined ? EXIT.ok : returnCodeOf(failed);
  if (json) {
    await print(context, JSON.stringify({ kind: 'end', exitCode, usage: Object.fromEntries(usage) }));
  } else if (usage.length > 0) {
    await writeAll(context.stderr, `ya-vm: ${usageLine(usage)}\n`);
  }
  return exitCode;
}

/** Results have it in their text only (11.1, 26). */
function returnCodeOf({ message }: CommandResult): number {
  const code = Number(/exited with code (\d{1,3})\b/.exec(message ?? '')?.[1]);
  return code >= 1 && code <= 255 ? code : EXIT.failure;
}
