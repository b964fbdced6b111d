/**
 * What a start-up hook is written against: a TypeScript file that `ya-vm initramfs build --hook FILE.ts` puts into the
 * initramfs. It exports functions by the names of {@link HookPhases}, as many as it wants.
 *
 *     import type { Hook } from './guest/hook/api.ts';
 *     export function afterConfigure(hook: Hook): void {
 *       hook.task?.write('/etc/motd', 'hello\n');
 *     }
 *
 * Each runs in a process of its own, a child of the agent: what it does wrong ends that process, never PID 1. Nothing that one
 * keeps in a variable is there for the next. All are root, in the initramfs.
 */

/** When a hook's functions are called. The VM waits for each. */
export interface HookPhases {
  /** The agent has said hello: /proc, /sys and /dev are there, the VM knows nothing of its task. */
  afterHello(hook: Hook): unknown;
  /** The task is known; nothing of it is mounted. */
  beforeMounts(hook: Hook): unknown;
  /** The task's root, its volumes and network are there; no command has begun. */
  afterConfigure(hook: Hook): unknown;
  /** The VM is to stop; commands still run. A failure is only logged. */
  beforeStop(hook: Hook): unknown;
}

export type HookPhase = keyof HookPhases;

export interface Hook {
  phase: HookPhase;
  /** Lines of the VM's log. `console` does the same. */
  log: Record<'debug' | 'info' | 'warn' | 'error', (text: string) => void>;
  /** Where the agent lives. */
  initramfs: HookFiles;
  /** The task's root, for afterConfigure and beforeStop. No link in it leads out of it. */
  task: HookFiles | null;
  /** Loads a module of the initramfs, with what it depends on; built in or loaded is fine. @throws Error */
  loadModule(name: string, parameters?: string): void;
  /** Runs a program to its end. */
  spawn(argv: [string, ...string[]], options?: HookSpawn): Promise<HookResult>;
}

/** Files below a root. Paths are absolute, text is UTF-8. All throw errors with `code` (`ENOENT`) and `path`. */
export interface HookFiles {
  /** At most 1 MiB of it. */
  read(path: string): string;
  /** Makes a file, or takes the place of one, and the folders that it needs. `mode`: permission bits, 0644 by default. */
  write(path: string, text: string, mode?: number): void;
  /** One write to a file that is there: for /proc and /sys. */
  set(path: string, text: string): void;
}

export interface HookSpawn {
  /** Where it runs: `task` by default once there is one, else `initramfs`. */
  in?: 'initramfs' | 'task';
  /** Default "/". */
  cwd?: string;
  /** The whole environment; default a PATH. */
  env?: Record<string, string>;
}

export interface HookResult {
  /** Null: a signal ended it. */
  code: number | null;
  signal: number | null;
  /** Of stdout and stderr, as they came; at most 256 KiB are kept. */
  output: string;
}
