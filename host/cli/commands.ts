/**
 * The commands, as a table. A command's module is imported only when that command is asked for: the help of all and
 * the start of one need neither QEMU's, nor the image's, nor the serial port's code in memory.
 */
import type { Command } from 'commander';
import type { Context } from './context.ts';

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
  load(): Promise<CommandModule>;
}

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
  { name: 'stop', summary: 'stop running VMs', load: () => import('./stop.ts') },
  {
    name: 'console',
    summary: "attach to a VM's serial console, or to a serial port",
    load: () => import('./console.ts'),
  },
  { name: 'image', summary: 'look into task images', load: () => import('./image.ts') },
  {
    name: 'initramfs',
    summary: 'build or inspect what VMs boot: kernel and initramfs',
    load: () => import('./initramfs.ts'),
  },
  {
    name: 'doctor',
    summary: 'check this host, and say how to fix what is missing',
    load: () => import('./doctor.ts'),
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
  { name: 'version', summary: 'print the versions of all parts', load: () => import('./version.ts') },
];
