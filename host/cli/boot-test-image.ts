/**
 * One boot test. Its VM is host/runtime's own, not an activity as `run` has it: of one that does not come up the console
 * must be read, which is known from QEMU's start on.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ConsoleFile, type ConsoleOwner } from '../boot-test/console-file.ts';
import { ExpectedTexts } from '../boot-test/expected.ts';
import { isInitramfs } from '../boot-test/kind.ts';
import { judgeError } from '../boot-test/outcome.ts';
import { bootRaw, LOUD } from '../boot-test/raw.ts';
import { type BootTestResult, KEPT, QUOTED } from '../boot-test/result.ts';
import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { formatDuration } from '../lib/duration.ts';
import { assetsFolder, cacheFolder } from '../lib/paths.ts';
import { TextTail } from '../lib/text-tail.ts';
import type { Sink } from '../runtime/output-stream.ts';
import type {
  AccelChoice,
  BootAssets,
  CommandResult,
  CommandSpec,
  Phase,
  StartChoice,
  VmSpec,
} from '../runtime/types.ts';
import type { Context } from './context.ts';
import { describeEnd } from './exit.ts';
import { resolveImages } from './image-store.ts';
import { openImages } from './images.ts';
import { planCommand } from './plan.ts';
import { DEMO_IMAGE } from './vm-options.ts';

export interface BootTestOptions {
  /** Kernel and initramfs of images. */
  assets: BootAssets;
  /** Of an initramfs; default the one beside it, else ya-vm's own. */
  kernel?: string;
  accel: AccelChoice;
  /** Default: it boots, which is what is tried. */
  start?: StartChoice;
  expect: string[];
  /** Expected texts are looked for on the serial console, and the kernel speaks there. */
  console: boolean;
  kernelWords: string[];
  env: string[];
  memoryMiB: number;
  cpus: number;
  /** Milliseconds, of one test. */
  timeout: number;
  /** None: the image's own, or `true`. */
  command: string[];
}

/** What a boot test needs of a VM. */
export interface BootedVm {
  readonly accel: 'kvm' | 'tcg';
  run(
    spec: CommandSpec,
    sinks: { stdout: Sink; stderr: Sink },
  ): Promise<{ readonly result: Promise<CommandResult> }>;
  /** Ends it in order; `kill` at once. */
  stop(): Promise<void>;
  kill(): Promise<void>;
}

export interface BootHooks {
  signal: AbortSignal;
  onPhase(phase: Phase): void;
  /** QEMU runs. */
  onVm(vm: ConsoleOwner): void;
}

export type BootVm = (context: Context, spec: VmSpec, hooks: BootHooks) => Promise<BootedVm>;

export const bootVm: BootVm = async ({ log, env }, spec, hooks) => {
  const { startVm } = await import('../runtime/start-vm.ts');
  return await startVm(spec, { ...hooks, logger: log, env });
};

/** What is found out as the test goes on. */
class Evidence {
  accel: BootTestResult['accel'] = null;
  phases: Phase[] = [];
  command: string[] | null = null;
  exitCode: number | null = null;
  readonly stdout = new TextTail(KEPT);
  readonly stderr = new TextTail(KEPT);
  console = '';
}

/** Boots one image, or one initramfs, and judges it. @throws the signal's reason only */
export async function testImage(
  context: Context,
  name: string,
  options: BootTestOptions,
  { signal, boot = bootVm }: { signal: AbortSignal; boot?: BootVm },
): Promise<BootTestResult> {
  const began = performance.now();
  const evidence = new Evidence();
  let judged: Pick<BootTestResult, 'outcome' | 'failures'>;
  try {
    const failures = await tryIt(context, name, options, { evidence, signal, boot });
    judged = { outcome: failures.length === 0 ? 'passed' : 'failed', failures };
  } catch (error) {
    signal.throwIfAborted();
    judged = judgeError(error);
  }
  const { accel, phases, command, exitCode, stdout, stderr, console: console_ } = evidence;
  const passed = judged.outcome === 'passed';
  const consoleTail = new TextTail(KEPT);
  consoleTail.push(Buffer.from(console_));
  return {
    ...{ name, ...judged, accel, phases, command, exitCode, console: console_, kept: null },
    milliseconds: Math.round(performance.now() - began),
    output: { stdout: stdout.text, stderr: stderr.text },
    quoted: passed
      ? { console: [], output: [] }
      : {
          console: consoleTail.lines(QUOTED),
          output: [...stdout.lines(QUOTED), ...stderr.lines(QUOTED)],
        },
  };
}

interface TestParts {
  evidence: Evidence;
  signal: AbortSignal;
  boot: BootVm;
}

/** @returns why it did not pass. */
async function tryIt(
  context: Context,
  name: string,
  options: BootTestOptions,
  parts: TestParts,
): Promise<string[]> {
  if (!isInitramfs(name)) return await tryWithAgent(context, name, options, parts);
  const beside = join(dirname(name), 'vmlinux');
  const assets: BootAssets = {
    kernel: options.kernel ?? (existsSync(beside) ? beside : options.assets.kernel),
    initramfs: name,
    manifest: join(dirname(name), 'manifest.json'),
  };
  if (await hasAgent(assets)) {
    const image = join(assetsFolder(context.env), DEMO_IMAGE);
    return await tryWithAgent(context, image, { ...options, assets }, parts);
  }
  return await tryRaw(context, assets, options, parts);
}

/** Whether it is the initramfs that the manifest beside it is about, with an agent in it. */
async function hasAgent(assets: BootAssets): Promise<boolean> {
  const { readManifest } = await import('./images.ts');
  const { createHash } = await import('node:crypto');
  const { readFile } = await import('node:fs/promises');
  try {
    const manifest = await readManifest(assets.manifest);
    if (manifest.agent === null) return false;
    const bytes = await readFile(assets.initramfs);
    return createHash('sha256').update(bytes).digest('hex') === manifest.initramfs.sha256;
  } catch {
    return false;
  }
}

async function tryWithAgent(
  context: Context,
  image: string,
  options: BootTestOptions,
  { evidence, signal, boot }: TestParts,
): Promise<string[]> {
  const consoleFile = new ConsoleFile();
  const limit = new AbortController();
  const both = AbortSignal.any([signal, limit.signal]);
  let vm: BootedVm | null = null;
  const outputs = [new ExpectedTexts(options.expect), new ExpectedTexts(options.expect)] as const;
  const work = async (): Promise<CommandResult> => {
    const { paths } = await resolveImages(context, [image], { signal: both, progress: false });
    const { layers, defaults } = await openImages(paths, options.assets);
    const bare = options.command.length + defaults.entrypoint.length + defaults.cmd.length === 0;
    const command = planCommand(defaults, {
      ...{ command: bare ? ['true'] : options.command, env: options.env, rlimits: [], stdin: false },
    });
    evidence.command = command.argv;
    vm = await boot(context, specOf(layers, image, options), {
      signal: both,
      onPhase: (phase) => void evidence.phases.push(phase),
      onVm: (owner) => consoleFile.open(owner),
    });
    evidence.accel = vm.accel;
    const began = performance.now();
    const running = await vm.run(command, {
      stdout: taker(evidence.stdout, outputs[0]),
      stderr: taker(evidence.stderr, outputs[1]),
    });
    const result = await running.result;
    evidence.phases.push({ name: 'command', milliseconds: Math.round(performance.now() - began) });
    return result;
  };
  const working = work();
  try {
    const failures: string[] = [];
    const result = await inTime(working, options.timeout, signal);
    if (result === null) {
      failures.push(`it did not end within ${formatDuration(options.timeout)}`);
      limit.abort(new Error('the test has timed out'));
    } else {
      evidence.exitCode = result.exitCode;
      if (result.exitCode !== 0) failures.push(`the command failed: ${describeEnd(result)}`);
      if (!result.complete) failures.push('the output is not complete');
    }
    // Not before the VM's end: the console may be behind.
    await end(vm, result !== null);
    evidence.console = consoleFile.read();
    return [...failures, ...missing(options, evidence, outputs)];
  } finally {
    limit.abort(new Error('the test is over'));
    await end(vm, false);
    // One that was just coming up is not left behind.
    await withDeadline(working, GIVEN_UP, 'the test').catch(() => {});
    await end(vm, false);
    evidence.console = consoleFile.read();
    consoleFile.close();
  }
}

function specOf(layers: string[], image: string, options: BootTestOptions): VmSpec {
  const { assets, accel, start = 'cold', memoryMiB, cpus, kernelWords } = options;
  return {
    ...{ assets, accel, start, memoryMiB, cpus, layers, hostname: 'golem', title: `boot-test ${image}` },
    root: { disk: ROOT_DISK },
    kernelWords: [...(options.console ? LOUD : []), ...kernelWords],
  };
}

/** For a start that was given up to end, milliseconds. */
const GIVEN_UP = 5000;
/** Bytes; sparse. */
const ROOT_DISK = 2 * 1024 ** 3;

function taker(tail: TextTail, expected: ExpectedTexts): Sink {
  return (bytes) => {
    tail.push(bytes);
    expected.push(bytes);
  };
}

/** @returns null when the time has passed. */
async function inTime<T>(work: Promise<T>, milliseconds: number, signal: AbortSignal): Promise<T | null> {
  let late = false;
  const timeIsUp = deferred<null>();
  const timer = setTimeout(() => {
    late = true;
    timeIsUp.resolve(null);
  }, milliseconds);
  try {
    const all = Promise.race([work, timeIsUp.promise]);
    return await withDeadline(all, Number.POSITIVE_INFINITY, 'the test', { signal });
  } finally {
    clearTimeout(timer);
    if (late) work.catch(() => {});
  }
}

async function end(vm: BootedVm | null, orderly: boolean): Promise<void> {
  if (orderly) await vm?.stop();
  else await vm?.kill();
}

/** Expected texts that came nowhere where they are looked for. */
function missing(
  { expect, console: onConsole }: BootTestOptions,
  { console: text }: Evidence,
  [stdout, stderr]: readonly [ExpectedTexts, ExpectedTexts],
): string[] {
  if (onConsole) {
    return expect
      .filter((each) => !text.includes(each))
      .map((each) => `the console did not say ${JSON.stringify(each)}`);
  }
  return stdout.missing
    .filter((each) => stderr.missing.includes(each))
    .map((each) => `the output does not have ${JSON.stringify(each)}`);
}

async function tryRaw(
  { env, log }: Context,
  assets: BootAssets,
  options: BootTestOptions,
  { evidence, signal }: TestParts,
): Promise<string[]> {
  if (options.expect.length === 0) {
    return ['this initramfs has no agent of ya-vm: give --expect with a text that its console shows'];
  }
  const { loadNative } = await import('../../native/load.ts');
  const { chooseAccelerator } = await import('../runtime/accelerator.ts');
  const { StartCache } = await import('../runtime/start-cache.ts');
  const native = loadNative();
  const caches = cacheFolder(env);
  // Whether KVM works is found out with ya-vm's own kernel: that one answers.
  const probe = { assets: options.assets, native, cache: new StartCache(caches), cacheFolder: caches };
  const accelerator = await chooseAccelerator(options.accel, { ...probe, logger: log, signal });
  evidence.accel = accelerator.accel;
  const raw = await bootRaw({ ...options, ...accelerator, assets, signal }, native);
  evidence.console = raw.console;
  evidence.phases.push({ name: 'kernel', milliseconds: raw.milliseconds });
  return raw.failures;
}
