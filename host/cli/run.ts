/** `ya-vm run`: boots a VM, runs a command in it, passes its output on, exits with its code. */
import type { Command } from 'commander';
import { formatDuration, parseDuration } from '../lib/duration.ts';
import { formatSize } from '../lib/size.ts';
import type { CommandResult } from '../runtime/types.ts';
import { phasesFor, type StartedVm, type StartVm, vmSpecOf, withVm } from './boot.ts';
import type { Act } from './commands.ts';
import { type Context, note, writeAll } from './context.ts';
import { printError } from './error-line.ts';
import { describeEnd, EXIT, exitCodeOf, signalExit } from './exit.ts';
import { resolveImages } from './image-store.ts';
import { openImages } from './images.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { forOption, usageError } from './options.ts';
import type { Phases } from './phases.ts';
import { planCommand } from './plan.ts';
import { type RunReport, reportError, reportResult, writeReport } from './report.ts';
import { runSession, type SessionEnd } from './session.ts';
import type { Standing } from './stand-by.ts';
import { windowSize } from './terminal.ts';
import { usageLine } from './usage-line.ts';
import { startActivity } from './vm.ts';
import { addVmOptions, readVmOptions, titleOf, type VmOptions } from './vm-options.ts';

const HELP = `
Without a command the image's own is run: Entrypoint and Cmd; with one, Entrypoint and the command, as docker does.

Standard output and error carry the command's bytes and nothing else. On a terminal the phases of the start are
shown before, and how the command ended after.

Ctrl-C and SIGTERM go to the command; a second one ends the VM, and so does SIGTERM after 10 s. With -t Ctrl-C is
typed into the command's terminal.

Exit codes: the command's; 128 + n when signal n ended it; 124 --timeout passed; 125 ya-vm failed;
126 the command cannot be executed; 127 it was not found; 141 nobody reads the output any more.

Examples:
  ya-vm run -- uname -a
  ya-vm run --image task.gvmi --env N=10 --memory 1G -- /golem/run.sh
  cat in.csv | ya-vm run -i --image task.gvmi -- ./job > out.csv
  ya-vm run -it -- sh
  ya-vm run --volume ./data:/data:ro --volume ./out:/out --tmpfs /scratch:size=64M -- /golem/run.sh
  ya-vm run --timeout 30s --json -- ./job 2>&1 >/dev/null | tail -n 1 | jq .result.cpu`;

export function define(command: Command, act: Act): void {
  command
    .usage('[options] [--] [command…]')
    .argument('[command...]', 'command and its arguments')
    .passThroughOptions();
  command
    .option('-i, --stdin', 'pass standard input on; without it the command reads /dev/null')
    .option('-t, --tty', 'give the command a terminal; needs one here. Implies -i')
    .option('--entrypoint <program>', "replace the image's Entrypoint (and drop its Cmd); '' clears it")
    .option(
      '--timeout <time>',
      'kill the command after this time (30s, 5m): exit code 124',
      forOption('--timeout', parseDuration),
    )
    .option('--json', 'write a report of the run as the last line of standard error')
    .option('--usage', 'say what the activity has used, as a provider would count it')
    .option('--report <file>', 'write that report to a file');
  addVmOptions(command);
  command.addHelpText('after', HELP);
  act(command, (context, options, [words]) => run(context, options, words as string[]));
}

interface RunOptions extends VmOptions {
  stdin: boolean;
  tty: boolean;
  entrypoint?: string;
  timeout?: number;
  usage: boolean;
  json: boolean;
  report?: string;
}

/** `start` is replaced by tests. @returns the exit code. */
export async function run(
  context: Context,
  given: Record<string, unknown>,
  words: readonly string[],
  start: StartVm = startActivity,
): Promise<number> {
  // First of all: options name files that the single program has to unpack, which takes a second once.
  const interrupts = new Interrupts();
  const options = await readOptions(context, given).catch((error) => {
    interrupts.close();
    throw error;
  });
  const report: RunReport = {
    exitCode: EXIT.failure,
    vm: null,
    command: [...words],
    phases: [],
    result: null,
    usage: null,
    timedOut: false,
    error: null,
  };
  try {
    report.exitCode = await bootAndRun(context, options, words, { interrupts, report, start });
  } catch (error) {
    report.exitCode = error instanceof Interrupted ? error.exitCode : exitCodeOf(error);
    report.error = reportError(error);
    if (error instanceof Interrupted) await note(context, `${error.message}; the VM was ended`);
    // Printed here, not by who calls us: the report is the last line.
    else await printError(error, context, context.log.enabled('debug'));
  } finally {
    interrupts.close();
    await emitReport(context, options, report);
  }
  return report.exitCode;
}

async function readOptions(context: Context, given: Record<string, unknown>): Promise<RunOptions> {
  const { stdin, tty, entrypoint, timeout, usage, json, report } = given as Partial<RunOptions>;
  if (tty && !(context.stdin.isTTY && context.stdout.isTTY)) {
    throw usageError(
      '-t needs a terminal, and standard input or output is none',
      'Leave out -t; -i alone passes standard input on.',
    );
  }
  return {
    ...(await readVmOptions(given, context.env)),
    stdin: stdin === true,
    tty: tty === true,
    entrypoint,
    timeout,
    usage: usage === true,
    json: json === true,
    report,
  };
}

interface RunParts {
  interrupts: Interrupts;
  report: RunReport;
  start: StartVm;
}

async function bootAndRun(
  context: Context,
  options: RunOptions,
  words: readonly string[],
  parts: RunParts,
): Promise<number> {
  const standing = parts.start.standBy?.(context, { accel: options.accel });
  try {
    return await runOn(standing, context, options, words, parts);
  } finally {
    await standing?.end();
  }
}

async function runOn(
  standing: Standing | undefined,
  context: Context,
  options: RunOptions,
  words: readonly string[],
  { interrupts, report, start }: RunParts,
): Promise<number> {
  const { progress } = options;
  const { paths, built } = await resolveImages(context, options.images, {
    signal: interrupts.signal,
    progress,
  });
  const images = await openImages(paths, options.assets);
  const command = planCommand(images.defaults, {
    ...options,
    command: words,
    tty: options.tty ? windowSize(context.stdout) : undefined,
    term: context.env.TERM,
  });
  report.command = command.argv;
  const phases = phasesFor(context, options);
  report.phases = phases.done;
  if (built !== null) phases.add({ name: 'image', milliseconds: built });
  const spec = vmSpecOf(options, images, titleOf(options, command.argv), command.cwd);
  let activity: StartedVm | null = null;
  const exitCode = await withVm({
    context,
    spec,
    network: options.network,
    standing,
    phases,
    signal: interrupts.signal,
    start,
    async use(vm) {
      activity = vm;
      const { memoryMiB, cpus } = options;
      report.vm = { id: vm.id, accel: vm.accel, start: vm.start, memoryMiB, cpus, images: images.layers };
      const running = await vm.run(command);
      phases.ready();
      const began = performance.now();
      const end = await runSession(running, context, {
        tty: options.tty,
        timeout: options.timeout,
        interrupts,
      });
      phases.done.push({ name: 'command', milliseconds: Math.round(performance.now() - began) });
      return await conclude(context, options, { end, phases, report });
    },
  });
  await tellUsage(context, options, { vm: activity, report });
  return exitCode;
}

/** Known only when the activity is over. */
async function tellUsage(
  context: Context,
  options: RunOptions,
  { vm, report }: { vm: StartedVm | null; report: RunReport },
): Promise<void> {
  if (!vm?.usage) return;
  report.usage = Object.fromEntries(vm.usage);
  if (options.usage) await note(context, usageLine(vm.usage));
}

/** Tells how it ended. @returns the exit code. */
async function conclude(
  context: Context,
  options: RunOptions,
  { end, phases, report }: { end: SessionEnd; phases: Phases; report: RunReport },
): Promise<number> {
  // Nothing can leave a `run` while its command goes on.
  const result = end.kind === 'detached' ? null : end.result;
  if (result) report.result = reportResult(result);
  if (result) phases.ended(endLine(result, phases));
  if (result && !result.complete) {
    await note(
      context,
      'the output is not complete: the guest announced more than arrived (YAVM_E_OUTPUT_INCOMPLETE)',
    );
  }
  if (end.kind === 'timed-out') {
    report.timedOut = true;
    const limit = formatDuration(options.timeout as number);
    await note(
      context,
      `the command was killed: it ran longer than --timeout ${limit} (YAVM_E_COMMAND_TIMEOUT)`,
    );
    return EXIT.timedOut;
  }
  if (end.kind === 'output-closed') return signalExit('SIGPIPE');
  return result?.exitCode ?? EXIT.failure;
}

/** `command 1.24 s · exit code 0 · CPU 310 ms · memory 12 MiB`. */
function endLine(result: CommandResult, phases: Phases): string {
  const time = phases.done.at(-1)?.milliseconds ?? 0;
  return [
    `command ${formatDuration(time)}`,
    describeEnd(result),
    `CPU ${formatDuration(result.cpu.user + result.cpu.system)}`,
    `memory ${formatSize(result.memoryPeak)}`,
  ].join(' · ');
}

async function emitReport(context: Context, options: RunOptions, report: RunReport): Promise<void> {
  if (options.json) await writeAll(context.stderr, `${JSON.stringify(report)}\n`);
  if (options.report !== undefined) await writeReport(options.report, report);
}
