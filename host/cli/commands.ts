/**
 * The commands, as a table. A command's module is imported only when that command is asked for: the help of all and
 * the start of one need neither QEMU's, nor the image's, nor the serial port's code in memory.
 */
import type { Command } from 'commander';
import type { Context } from './context.ts';
import type { LeadingOption } from './leading.ts';

/** What a command does once its words are parsed. @returns the exit code. */
export type Handler = (
  context: Context,
  options: Record<string, unknown>,
  operands: unknown[],
) => Promise<number>;

/** Ties a handler to a (sub)command. */
export type Act = (command: Command, handler: Handler) => void;

export interface CommandModule {
  /** Adds arguments, options and the handler to `command`. */
  define(command: Command, act: Act): void | Promise<void>;
}

export interface CommandRow {
  name: string;
  summary: string;
  /** Standard error is a command's of the VM: the log stays away from it, unless it is asked for. */
  passesOutput?: true;
  /** Options that it takes before its name too. */
  leading?: readonly LeadingOption[];
  /** Exit code when ya-vm fails, instead of 125 and the codes of a command that cannot be started. */
  failure?: number;
  /** Exit code when the command line makes no sense; default as any failure. */
  misuse?: number;
  load(): Promise<CommandModule>;
  /** What its arguments may be, for completions. */
  words?(): Promise<readonly string[]>;
}

/** Options of the exe-unit that stand before or after its subcommand (the spec's exe-unit.md, 3.1). */
const EXE_UNIT_OPTIONS: readonly LeadingOption[] = [
  { flags: ['-b', '--binary', '-r', '--runtime-arg'], takesValue: true },
  { flags: ['--sec-key', '--requestor-pub-key', '--accel'], takesValue: true },
  { flags: ['--cap-handoff', '--runtime-managed-hardware', '--runtime-managed-image'], takesValue: false },
];

/** Options of upstream's runtime, which stand before its subcommand (the spec's runtime-vm.md, 1.2). */
const RUNTIME_OPTIONS: readonly LeadingOption[] = [
  ...EXE_UNIT_OPTIONS,
  {
    flags: [
      ...['-w', '--workdir', '-t', '--task-package', '--cpu-cores', '--mem-gib', '--storage-gib'],
      ...['--volume-override', '--hostname', '--vpn-endpoint', '--inet-endpoint', '--pci-device'],
      ...['--test-timeout', '--test-cpu-cores', '--test-mem-gib'],
    ],
    takesValue: true,
  },
];

export const COMMANDS: readonly CommandRow[] = [
  {
    name: 'run',
    summary: 'boot a VM, run a command in it, exit with its code',
    passesOutput: true,
    load: () => import('./run.ts'),
  },
  {
    name: 'shell',
    summary: 'open a shell in a running VM, or in a new one',
    passesOutput: true,
    load: () => import('./shell.ts'),
  },
  { name: 'ps', summary: 'list the running VMs', load: () => import('./ps.ts') },
  { name: 'stats', summary: 'show what a running VM uses', load: () => import('./stats.ts') },
  { name: 'net', summary: "what a running VM's network does", load: () => import('./net.ts') },
  { name: 'stop', summary: 'stop running VMs', load: () => import('./stop.ts') },
  {
    name: 'console',
    summary: "attach to a VM's serial console, or to a serial port",
    load: () => import('./console.ts'),
  },
  { name: 'image', summary: 'build, check and look into task images', load: () => import('./image.ts') },
  {
    name: 'initramfs',
    summary: 'build or inspect what VMs boot: kernel and initramfs',
    load: () => import('./initramfs.ts'),
  },
  {
    name: 'template',
    summary: 'snapshots that VMs start from: list, build, drop, verify',
    load: () => import('./template.ts'),
  },
  {
    name: 'boot-test',
    summary: 'boot images and check them, for CI: prints TAP or JUnit',
    misuse: 2,
    load: () => import('./boot-test.ts'),
  },
  {
    name: 'gpu',
    summary: 'graphics cards of this host: list, check, bind, unbind',
    load: () => import('./gpu.ts'),
  },
  {
    name: 'driver-layer',
    summary: 'build or inspect what passed-through cards need in VMs',
    load: () => import('./driver-layer.ts'),
  },
  {
    name: 'doctor',
    summary: 'check this host, and say how to fix what is missing',
    load: () => import('./doctor.ts'),
  },
  {
    name: 'self-test',
    summary: 'after an installation: check this host, boot a VM, run commands in it',
    load: () => import('./self-test.ts'),
  },
  {
    name: 'explain',
    summary: 'say what the code of an error means, and what helps',
    load: () => import('./explain.ts'),
    words: async () => {
      const { allExplanations, typedForm } = await import('../errors/lookup.ts');
      return allExplanations().flatMap(({ code }) => [code, typedForm(code)]);
    },
  },
  {
    name: 'service-bus',
    summary: 'run an activity for a provider, over its bus',
    leading: EXE_UNIT_OPTIONS,
    failure: 1,
    load: () => import('./service-bus.ts'),
  },
  {
    name: 'from-file',
    summary: 'run an activity whose script is a file',
    leading: EXE_UNIT_OPTIONS,
    failure: 1,
    load: () => import('./from-file.ts'),
  },
  {
    name: 'deploy',
    summary: "as a stock exe-unit's runtime: prepare an activity",
    leading: RUNTIME_OPTIONS,
    failure: 1,
    load: () => import('./deploy.ts'),
  },
  {
    name: 'start',
    summary: "as a stock exe-unit's runtime: boot a VM and serve its requests",
    leading: RUNTIME_OPTIONS,
    failure: 1,
    load: () => import('./start.ts'),
  },
  {
    name: 'offer-template',
    summary: 'print what a provider offers, as JSON',
    leading: RUNTIME_OPTIONS,
    failure: 1,
    load: () => import('./offer-template.ts'),
  },
  {
    name: 'test',
    summary: 'boot a VM and try what an offer promises',
    leading: RUNTIME_OPTIONS,
    failure: 1,
    load: () => import('./test.ts'),
  },
  {
    name: 'provider',
    summary: 'make a provider use ya-vm, undo that, check it',
    load: () => import('./provider.ts'),
  },
  {
    name: 'exec-script',
    summary: 'send a script to an activity, show its events and results',
    load: () => import('./exec-script.ts'),
  },
  {
    name: 'node',
    summary: "run a node for development: a bus, and who listens to activities' reports",
    load: () => import('./node.ts'),
  },
  {
    name: 'completion',
    summary: 'print a script by which bash, zsh or fish completes commands',
    load: () => import('./completion.ts'),
    words: async () => (await import('./completion.ts')).SHELLS,
  },
  { name: 'man', summary: 'print manual pages, or write them all', load: () => import('./man.ts') },
  { name: 'version', summary: 'print the versions of all parts', load: () => import('./version.ts') },
];
