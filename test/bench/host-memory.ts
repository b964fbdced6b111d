/**
 * What a VM costs the host beside QEMU: memory of the `ya-vm run` process, idle and while output passes through it to
 * a slow reader, and the agent's in the guest meanwhile. It is the product that is measured, started by its launcher.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { LIMITS } from '../../build/budgets.ts';
import { type Owner, privateEnvironment } from '../lib/vm.ts';
import { type Bench, type BenchContext, OUT } from './context.ts';
import type { Figure } from './figure.ts';
import { type Memory, memoryOf } from './memory.ts';
import { withOwner } from './owner.ts';

const YA_VM = join(OUT, 'ya-vm');
/** What the launcher runs. */
const MAIN = join(OUT, 'lib/main.mjs');
/** Output that passes while memory is looked at, bytes. */
const BYTES = 1_000_000_000;
/** The reader takes this many bytes a second: less than any guest can send. */
const PACE = 25_000_000;
const TICK = 40;
const SAMPLE = 250;
const STARTED_DEADLINE = 120_000;
/** From a VM's first byte until its process has come to rest. */
const SETTLE = 3000;
const MB = 1e6;

type Environment = Record<string, string | undefined>;

export const hostMemory: Bench = {
  name: 'memory',
  what: `ya-vm run: idle, and with ${BYTES / 1e9} GB of output to a reader of ${PACE / MB} MB/s`,
  run: (context) =>
    withOwner(async (owner) => {
      const env = privateEnvironment(owner);
      const idle = await measureIdle(context, env);
      const alone = await measureIdle(context, env, copyOfNode(owner));
      const busy = await measureBusy(context, env);
      return [
        ...memoryFigures('idle', idle.host, 50),
        // Node's own code counts as private when no other process runs the same Node.
        {
          what: 'idle: private, if no other Node ran',
          value: alone.host.private / MB,
          unit: 'MB',
          limit: { atMost: 50 },
        },
        {
          what: 'idle: agent in the guest',
          value: idle.agent / MB,
          unit: 'MB',
          limit: { atMost: LIMITS.agentIdle / MB },
        },
        ...memoryFigures('1 GB output', busy.host, 65),
        {
          what: '1 GB output: agent in the guest',
          value: busy.agent / MB,
          unit: 'MB',
          limit: { atMost: LIMITS.agentBusy / MB },
        },
      ];
    }),
};

function memoryFigures(when: string, memory: Memory, limit: number): Figure[] {
  return [
    { what: `${when}: private`, value: memory.private / MB, unit: 'MB', limit: { atMost: limit } },
    { what: `${when}: of it written (dirty)`, value: memory.dirty / MB, unit: 'MB' },
    { what: `${when}: RSS`, value: memory.rss / MB, unit: 'MB' },
  ];
}

interface Usage {
  host: Memory;
  /** Bytes. */
  agent: number;
}

async function measureIdle(context: BenchContext, env: Environment, node?: string): Promise<Usage> {
  const child = start(context, env, ['sh', '-c', 'echo up; exec cat'], node);
  try {
    await once(child.stdout, 'data', { signal: AbortSignal.timeout(STARTED_DEADLINE) });
    await delay(SETTLE);
    return { host: memoryOf(hostProcess(child.pid!)), agent: await agentMemory(env) };
  } finally {
    await end(child);
  }
}

async function measureBusy(context: BenchContext, env: Environment): Promise<Usage> {
  const count = Math.round(BYTES / 65536);
  const child = start(context, env, ['sh', '-c', `dd if=/dev/zero bs=64k count=${count} 2>/dev/null`]);
  try {
    const peak: Usage = { host: { rss: 0, pss: 0, private: 0, clean: 0, dirty: 0 }, agent: 0 };
    let done = false;
    const read = readSlowly(child.stdout).finally(() => {
      done = true;
    });
    await once(child.stdout, 'readable', { signal: AbortSignal.timeout(STARTED_DEADLINE) });
    const pid = hostProcess(child.pid!);
    let agentAt = 0;
    while (!done) {
      const now = memoryOf(pid);
      for (const key of Object.keys(now) as (keyof Memory)[])
        peak.host[key] = Math.max(peak.host[key], now[key]);
      // A process of its own each time: seldom.
      if (performance.now() - agentAt > 5000) {
        peak.agent = Math.max(peak.agent, await agentMemory(env).catch(() => 0));
        agentAt = performance.now();
      }
      await Promise.race([delay(SAMPLE), read]);
      if (!existsSync(`/proc/${pid}`)) break;
    }
    const bytes = await read;
    if (bytes !== count * 65536) throw new Error(`${bytes} bytes came, not ${count * 65536}`);
    if (peak.agent === 0) throw new Error('the guest never said what its agent takes');
    return peak;
  } finally {
    await end(child);
  }
}

/** Takes PACE bytes a second, and returns how many there were. */
async function readSlowly(stream: NodeJS.ReadableStream): Promise<number> {
  const portion = (PACE * TICK) / 1000;
  let bytes = 0;
  let allowance = 0;
  for await (const chunk of stream) {
    bytes += chunk.length;
    allowance += chunk.length;
    for (; allowance > portion; allowance -= portion) await delay(TICK);
  }
  return bytes;
}

/** Starts `ya-vm run`, by its launcher or on another Node. */
function start({ accel }: BenchContext, env: Environment, command: string[], node?: string) {
  const args = ['run', '--accel', accel, '--stdin', '--', ...command];
  const [program, ...before] = node ? [node, '--disable-warning=ExperimentalWarning', MAIN] : [YA_VM];
  return spawn(program!, [...before, ...args], { env, stdio: ['pipe', 'pipe', 'inherit'] });
}

/** A file of its own: its pages are shared with nobody. */
function copyOfNode(owner: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-node-'));
  owner.teardown(() => rmSync(folder, { recursive: true }));
  const copy = join(folder, 'node');
  copyFileSync(join(OUT, 'lib/node'), copy);
  chmodSync(copy, 0o755);
  return copy;
}

async function end(child: ReturnType<typeof start>): Promise<void> {
  child.stdin.end();
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

/** The launcher's shell has become the Node that runs ya-vm: same pid. */
function hostProcess(pid: number): number {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  if (!words.some((word) => word.endsWith('main.mjs')))
    throw new Error(`process ${pid} is "${words[0]}", not ya-vm`);
  return pid;
}

/** The agent's resident memory, bytes, asked through the VM's attach socket as `ya-vm stats` does. */
async function agentMemory(env: Environment): Promise<number> {
  const { stdout } = await promisify(execFile)(YA_VM, ['stats', '--json'], { env, timeout: 30_000 });
  return JSON.parse(stdout).memory.agent;
}
