/** The two processes that a stock exe-unit makes of its runtime, with its command lines, over pipes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { withDeadline } from '../../host/lib/deadline.ts';
import { ApiClient } from './api-client.ts';
import { DEMO_IMAGE, type Owner, privateEnvironment } from './vm.ts';
import { LAUNCHER } from './ya-vm.ts';

/** For a start under TCG on a busy machine, milliseconds. */
export const DEADLINE = 120_000;

export interface RuntimeActivity {
  work: string;
  /** Options before the command, as the supervisor gives them. */
  head: string[];
  env: Record<string, string | undefined>;
}

/** Limits as the supervisor prints them. */
const LIMITS = ['--cpu-cores', '1', '--mem-gib', '0.25', '--storage-gib', '0.25'];

/** One with a folder of its own. */
export function runtimeActivity(t: Owner, image = DEMO_IMAGE): RuntimeActivity {
  const env: RuntimeActivity['env'] = {
    ...privateEnvironment(t),
    YA_VM_ACCEL: process.env.YAVM_TEST_ACCEL ?? 'tcg',
  };
  const work = join(env.XDG_RUNTIME_DIR as string, 'work');
  mkdirSync(work);
  return { work, env, head: ['--workdir', work, '--task-package', image, ...LIMITS] };
}

export interface RuntimeEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface Launched {
  child: ChildProcess;
  ended: Promise<RuntimeEnd>;
}

/** Starts the program in the work folder; killed with its test. */
export function launch(
  t: Owner,
  { work, env }: RuntimeActivity,
  words: string[],
  stdin: 'ignore' | 'pipe',
): Launched {
  const child = spawn(LAUNCHER, words, { cwd: work, env, stdio: [stdin, 'pipe', 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  child.stderr?.on('data', (chunk) => {
    texts.stderr += chunk;
  });
  if (stdin === 'ignore') {
    child.stdout?.on('data', (chunk) => {
      texts.stdout += chunk;
    });
  }
  const ended = new Promise<RuntimeEnd>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal, ...texts }));
  });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, ended: withDeadline(ended, DEADLINE, words.join(' ')) };
}

export async function deploy(t: Owner, at: RuntimeActivity, ...options: string[]): Promise<RuntimeEnd> {
  return await launch(t, at, [...at.head, ...options, 'deploy', '--'], 'ignore').ended;
}

/** `options` stand before `start`, `args` behind it. */
export function start(
  t: Owner,
  at: RuntimeActivity,
  options: string[],
  ...args: string[]
): Launched & { api: ApiClient } {
  const { child, ended } = launch(t, at, [...at.head, ...options, 'start', ...args], 'pipe');
  if (!child.stdin || !child.stdout) throw new Error('no pipes');
  return { child, ended, api: new ApiClient(child.stdin, child.stdout) };
}
