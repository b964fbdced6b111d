/** `ya-vm boot-test`: boots images, checks what they do, and tells it as CI systems read it. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { keepEvidence } from '../boot-test/keep.ts';
import { isInitramfs } from '../boot-test/kind.ts';
import { FORMATS, type Format, REPORTERS } from '../boot-test/report.ts';
import type { BootTestResult } from '../boot-test/result.ts';
import { parseDuration } from '../lib/duration.ts';
import { YavmError } from '../lib/errors.ts';
import type { AccelChoice, StartChoice } from '../runtime/types.ts';
import { type BootTestOptions, type BootVm, testImage } from './boot-test-image.ts';
import type { Act } from './commands.ts';
import { type Context, note, writeAll } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { collect, forOption, parseChoice, parseCpus, parseEnv, parseMemory, usageError } from './options.ts';
import { ACCELERATORS, readAssets, STARTS } from './vm-options.ts';

const HELP = `
A FILE is anything that 'run --image' takes, or an initramfs. An image is booted, and passes when its command ends with
exit code 0 and each --expect text is in the command's output, or with --console on the serial console. Without a command the image's own is run,
else 'true'. An initramfs that 'ya-vm initramfs build' made, with its manifest.json beside it, is tried with the demo image.
Any other initramfs has nobody to be asked: it passes when its console has shown every --expect text.

Exit codes: 0 all passed; 1 one did not; 2 the command line makes no sense; 125 ya-vm cannot boot anything here.

Examples:
  ya-vm boot-test task.gvmi
  ya-vm boot-test task.gvmi other.gvmi --accel tcg --expect ready -- /golem/check.sh
  ya-vm boot-test rootfs.cpio.gz --kernel vmlinux --expect 'login:' --timeout 2m
  ya-vm boot-test *.gvmi --report junit.xml --keep boot-test-logs`;

const DEFAULT_MEMORY_MIB = 512;
const DEFAULT_TIMEOUT = 2 * 60_000;

export function define(command: Command, act: Act): void {
  command
    .usage('[options] FILE… [-- command…]')
    .argument('<files...>', 'images, or initramfs; behind -- the command and its arguments')
    .option(
      '--kernel-set <name>',
      'boot images with this kernel set: cloud, generic, gpu (default: YA_VM_KERNEL_SET, else cloud)',
    )
    .option('--kernel <file>', 'boot this kernel: of an initramfs; of images together with --initramfs')
    .option('--initramfs <file>', 'boot images with this initramfs; manifest.json is taken from its folder')
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration',
      forOption('--accel', (text) => parseChoice(text, ACCELERATORS, 'accelerator')),
      'auto',
    )
    .option(
      '--start <auto|cold|template>',
      'boot images, or have them go on from a template (default: cold)',
      forOption('--start', (text) => parseChoice(text, STARTS, 'start')),
    )
    .option('--expect <text>', 'what must be shown; may be repeated', collect(String))
    .option('--console', 'look for it on the serial console, where the kernel then speaks too')
    .option('--append <words>', "more words of the kernel's command line", collect(String))
    .option('-e, --env <K=V>', 'environment variable of the command; may be repeated', collect(String))
    .option('-m, --memory <size>', 'memory of the VM (default: 512M)', forOption('--memory', parseMemory))
    .option('--cpus <n>', 'virtual CPUs', forOption('--cpus', parseCpus), 1)
    .option(
      '--timeout <time>',
      'of each test, boot and command together (default: 2m)',
      forOption('--timeout', parseDuration),
    )
    .option(
      '--format <tap|junit|plain>',
      'of the report (default: tap; junit for a --report that ends with .xml)',
      forOption('--format', (text) => parseChoice(text, FORMATS, 'format')),
    )
    .option('--report <file>', 'write the report to this file; standard output is then for people')
    .option('--keep <folder>', 'keep console, times and output of tests that fail in this folder')
    .addHelpText('after', HELP);
  act(command, (context, options, [words]) =>
    bootTest(context, options, words as string[], behindDashes(command)),
  );
}

/** Words behind the first `--`: commander gives them together with those before, and its types do not have `rawArgs`. */
function behindDashes(command: Command): string[] {
  const program = command.parent as (Command & { rawArgs?: string[] }) | null;
  const words = program?.rawArgs ?? [];
  const at = words.indexOf('--');
  return at < 0 ? [] : words.slice(at + 1);
}

interface Options extends BootTestOptions {
  format: Format;
  report?: string;
  keep?: string;
}

/**
 * @param words Files, and behind them `command`.
 * @returns the exit code. `boot` is replaced by tests.
 */
export async function bootTest(
  context: Context,
  given: Record<string, unknown>,
  words: readonly string[],
  command: readonly string[],
  boot?: BootVm,
): Promise<number> {
  const files = words.slice(0, words.length - command.length);
  if (files.length === 0) throw usageError('no image is named', 'ya-vm boot-test FILE… [-- command…]');
  const options = readOptions(context, given, command);
  if (given.kernel !== undefined && given.initramfs === undefined && !files.every(isInitramfs)) {
    throw usageError(
      '--kernel and --initramfs belong together, for an image',
      'An initramfs is booted by --kernel alone.',
    );
  }
  const { report, keep } = options;
  const [toFile, toOutput] =
    report === undefined ? [null, REPORTERS[options.format]] : [REPORTERS[options.format], REPORTERS.plain];
  const interrupts = new Interrupts();
  const results: BootTestResult[] = [];
  let text = toFile?.begin(files.length) ?? '';
  try {
    await writeAll(context.stdout, toOutput.begin(files.length));
    for (const [index, file] of files.entries()) {
      const result = await testImage(context, file, options, { signal: interrupts.signal, boot });
      if (keep !== undefined && result.outcome !== 'passed') {
        result.kept = await keepEvidence(keep, result, index + 1);
      }
      results.push(result);
      text += toFile?.result(result, index + 1) ?? '';
      await writeAll(context.stdout, toOutput.result(result, index + 1));
      // What one could not be tried for keeps the others from being tried too.
      if (result.outcome === 'error') break;
    }
    await writeAll(context.stdout, toOutput.end(results));
    if (report !== undefined) await writeReport(report, text + (toFile?.end(results) ?? ''));
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    await note(context, `${error.message}; the VM was ended`);
    return error.exitCode;
  } finally {
    interrupts.close();
  }
  return exitCode(results);
}

function exitCode(results: readonly BootTestResult[]): number {
  if (results.some(({ outcome }) => outcome === 'error')) return EXIT.failure;
  return results.every(({ outcome }) => outcome === 'passed') ? EXIT.ok : EXIT.unhealthy;
}

function readOptions({ env }: Context, given: Record<string, unknown>, command: readonly string[]): Options {
  const options = given as {
    kernel?: string;
    initramfs?: string;
    kernelSet?: string;
    accel: AccelChoice;
    start?: StartChoice;
    expect?: string[];
    console?: boolean;
    append?: string[];
    env?: string[];
    memory?: number;
    cpus: number;
    timeout?: number;
    format?: Format;
    report?: string;
    keep?: string;
  };
  const { kernel, initramfs, report } = options;
  const parse = forOption('--env', (text) => parseEnv(text, env));
  return {
    // A kernel alone is an initramfs's; images then have ya-vm's own.
    assets: readAssets(initramfs === undefined ? undefined : kernel, initramfs, env, options.kernelSet),
    kernel,
    accel: options.accel,
    start: options.start,
    expect: options.expect ?? [],
    console: options.console === true,
    kernelWords: options.append ?? [],
    env: (options.env ?? []).map(parse).filter((entry) => entry !== undefined),
    memoryMiB: options.memory ?? DEFAULT_MEMORY_MIB,
    cpus: options.cpus,
    timeout: options.timeout ?? DEFAULT_TIMEOUT,
    command: [...command],
    format: options.format ?? (report?.endsWith('.xml') ? 'junit' : 'tap'),
    report,
    keep: options.keep,
  };
}

/** @throws {YavmError} YAVM_E_REPORT */
async function writeReport(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (cause) {
    throw new YavmError('YAVM_E_REPORT', `${file}: the report cannot be written`, { cause });
  }
}
