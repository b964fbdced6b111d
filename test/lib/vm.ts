/**
 * Real VMs for tests, through the same interface as the command line. A VM ends with its test, and QEMU with this
 * process (the kernel kills it), so nothing survives a test file, however that ends.
 *
 * `YAVM_TEST_ACCEL` (tcg, kvm, auto) chooses the accelerator; default tcg, so that results do not depend on the machine.
 * VMs start from templates where they can; with `YA_VM_START=cold` all of them boot.
 */
import { createHash, type Hash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { withDeadline } from '../../host/lib/deadline.ts';
import {
  type AccelChoice,
  type BootAssets,
  type Command,
  type CommandResult,
  type CommandSpec,
  type StartOptions,
  startVm,
  type Vm,
  type VmSpec,
} from '../../host/runtime/index.ts';

const OUT = resolve(import.meta.dirname, '../../build/out');
/** Templates are all tests' together, and stay: a boot for each file would be most of what the suite takes. */
const TEMPLATES = resolve(OUT, '../cache/templates');
/** The demo image of the build. */
export const DEMO_IMAGE = join(OUT, 'demo.gvmi');

/** What tests need of tap's `t`. */
export interface Owner {
  teardown(end: () => Promise<void> | void): void;
}

/** A command line, or the whole specification; PATH is added where the environment lacks it. */
export type Run = string[] | (Partial<CommandSpec> & { argv: string[] });

/** Longest that one command of a test may take, milliseconds, unless it says otherwise. */
const COMMAND_DEADLINE = 120_000;
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * What VMs boot. `test`: with the agent that has the requests which only tests make.
 * @throws {Error} when it is not built: a test that needs it has failed, it is not skipped.
 */
export function bootAssets({ test = false } = {}): BootAssets {
  return {
    kernel: builtFile('vmlinux'),
    initramfs: builtFile(test ? 'initramfs-test.cpio.zst' : 'initramfs.cpio.zst'),
    manifest: builtFile('manifest.json'),
  };
}

/** Path of something that the build made. @throws {Error} when it is not there. */
export function builtFile(name: string): string {
  const file = join(OUT, name);
  if (!existsSync(file)) throw new Error(`${file} is not there: build it with "make everything"`);
  return file;
}

/** A specification: the demo image, one CPU, 256 MiB, a root disk of 256 MiB; `changes` replaces any of it. */
export function vmSpec(changes: Partial<VmSpec> = {}): VmSpec {
  return {
    assets: bootAssets(),
    layers: [DEMO_IMAGE],
    root: { disk: 256 * 1024 * 1024 },
    memoryMiB: 256,
    cpus: 1,
    hostname: 'test',
    accel: (process.env.YAVM_TEST_ACCEL ?? 'tcg') as AccelChoice,
    title: 'test',
    ...changes,
  };
}

/** Starts a VM that is stopped (killed, if it does not stop) when the test ends. */
export async function startTestVm(
  t: Owner,
  changes: Partial<VmSpec> = {},
  options: StartOptions = {},
): Promise<Vm> {
  const vm = await startVm(vmSpec(changes), { env: privateEnvironment(t), ...options });
  // Teardowns run in the reverse order: the VM ends before its folders go.
  t.teardown(() => vm.kill());
  return vm;
}

/**
 * An environment whose run folder and cache belong to this test alone. The path is short: sockets lie below it.
 * The test's `t` removes it.
 */
export function privateEnvironment(t: Owner): Record<string, string | undefined> {
  const folder = mkdtempSync('/tmp/yavm-');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return {
    ...process.env,
    XDG_RUNTIME_DIR: folder,
    XDG_CACHE_HOME: join(folder, 'cache'),
    YA_VM_TEMPLATES: process.env.YA_VM_TEMPLATES ?? TEMPLATES,
  };
}

/** What came on a stream. */
export interface Collected {
  bytes: number;
  sha256: string;
  /** The first mebibyte, as text. */
  text: string;
}

export interface Outcome {
  result: CommandResult;
  stdout: Collected;
  stderr: Collected;
}

/** Text kept of a stream, bytes. */
const KEPT = 1024 * 1024;

/** Hashes a stream as it comes, and keeps its beginning. */
export class Collector {
  readonly #hash: Hash = createHash('sha256');
  readonly #head: Buffer[] = [];
  #kept = 0;
  #bytes = 0;

  readonly sink = (piece: Uint8Array): void => {
    this.#bytes += piece.length;
    this.#hash.update(piece);
    if (this.#kept >= KEPT) return;
    const head = Buffer.from(piece.subarray(0, KEPT - this.#kept));
    this.#kept += head.length;
    this.#head.push(head);
  };

  get bytes(): number {
    return this.#bytes;
  }

  /** To be called once, at the end. */
  collected(): Collected {
    const text = Buffer.concat(this.#head).toString('utf8');
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex'), text };
  }
}

/** The whole specification of what a test runs. */
export function commandSpec(run: Run): CommandSpec {
  const spec = Array.isArray(run) ? { argv: run } : run;
  const env = spec.env ?? [];
  return { ...spec, env: env.some((entry) => entry.startsWith('PATH=')) ? env : [PATH, ...env] };
}

export interface RunOptions {
  /** Given to its stdin, which is then closed. */
  input?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Milliseconds until it must have ended. */
  deadline?: number;
}

/**
 * Runs a command to its end and collects what it writes before it.
 * @throws what the start throws; YAVM_E_TIMEOUT at the deadline, after which the command's tree is killed.
 */
export async function run(vm: Vm, what: Run, options: RunOptions = {}): Promise<Outcome> {
  const { input, deadline = COMMAND_DEADLINE } = options;
  const stdout = new Collector();
  const stderr = new Collector();
  const spec = commandSpec(what);
  const command = await vm.run(input ? { ...spec, stdin: true } : spec, {
    stdout: stdout.sink,
    stderr: stderr.sink,
  });
  try {
    const [result] = await withDeadline(
      Promise.all([command.result, input && feed(command, input)]),
      deadline,
      `${spec.argv.join(' ')} in the VM`,
    );
    return { result, stdout: stdout.collected(), stderr: stderr.collected() };
  } catch (error) {
    await command.signal(9, { tree: true }).catch(() => {});
    throw error;
  }
}

/** Runs a shell script; its stdout as text. @throws {Error} with its stderr when it fails. */
export async function shell(vm: Vm, script: string, options: RunOptions = {}): Promise<string> {
  const { result, stdout, stderr } = await run(vm, ['sh', '-c', script], options);
  if (result.exitCode === 0) return stdout.text;
  throw new Error(`"${script}" ended with ${result.exitCode}: ${stderr.text || stdout.text}`);
}

async function feed(command: Command, input: NonNullable<RunOptions['input']>): Promise<void> {
  const pieces = input instanceof Uint8Array ? [input] : input;
  const stdin = command.stdin;
  if (!stdin) throw new Error('the command has no stdin');
  await pipeline(Readable.from(pieces, { objectMode: false }), stdin);
}

/** SHA-256 of bytes, hexadecimal, for comparing with {@link Collected}. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
