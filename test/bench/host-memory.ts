/**
 * What a VM costs the host beside QEMU: memory of its supervisor, which is ya-vm under a provider, idle and while output
 * passes through it to a slow reader, and the agent's in the guest meanwhile. It is the product that is measured, started
 * by `ya-vm run`, whose own process (node, bus and requestor) is shown beside.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { LIMITS } from '../../build/budgets.ts';
import { argumentsOf } from '../lib/processes.ts';
import { type Owner, privateEnvironment } from '../lib/vm.ts';
import { type Bench, type BenchContext, OUT } from './context.ts';
import { BRING_UP, perform, runCommand, startProvider } from './exe-unit-provider.ts';
import type { Figure } from './figure.ts';
import { type Memory, memoryOf } from './memory.ts';
import { withOwner } from './owner.ts';

const YA_VM = join(OUT, 'ya-vm');
/** What the launcher runs, and how. */
const MAIN = join(OUT, 'lib/main.cjs');
const NO_WARNING = '--disable-warning=ExperimentalWarning';
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
  what: `a VM’s supervisor: idle, and with ${BYTES / 1e9} GB of output to a reader of ${PACE / MB} MB/s`,
  run: (context) =>
    withOwner(async (owner) => {
      const env = privateEnvironment(owner);
      const idle = await measureIdle(context, env);
      const alone = await measureAlone(context, owner);
      const busy = await measureBusy(context, env);
      return [
        ...memoryFigures('idle', idle, 55),
        // Node's own code counts as private when no other process runs the same Node.
        {
          what: 'idle: private, if no other Node ran',
          value: alone.private / MB,
          unit: 'MB',
          limit: { atMost: 55 },
        },
        {
          what: 'idle: agent in the guest',
          value: idle.agent / MB,
          unit: 'MB',
          limit: { atMost: LIMITS.agentIdle / MB },
        },
        ...memoryFigures('1 GB output', busy, 65),
        {
          what: '1 GB output: agent in the guest',
          value: busy.agent / MB,
          unit: 'MB',
          limit: { atMost: LIMITS.agentBusy / MB },
        },
      ];
    }),
};

function memoryFigures(when: string, { supervisor, run }: Usage, limit: number): Figure[] {
  return [
    { what: `${when}: private`, value: supervisor.private / MB, unit: 'MB', limit: { atMost: limit } },
    { what: `${when}: of it written (dirty)`, value: supervisor.dirty / MB, unit: 'MB' },
    { what: `${when}: RSS`, value: supervisor.rss / MB, unit: 'MB' },
    { what: `${when}: private memory of run`, value: run.private / MB, unit: 'MB' },
  ];
}

interface Usage {
  supervisor: Memory;
  run: Memory;
  /** Bytes. */
  agent: number;
}

/** A supervisor on a Node that no other process runs, as a provider starts it. */
async function measureAlone({ accel }: BenchContext, owner: Owner): Promise<Memory> {
  const provider = await startProvider(owner, [copyOfNode(owner), NO_WARNING, MAIN], accel);
  const { requestor, pid } = await provider.begin();
  await perform(requestor, BRING_UP);
  await requestor.exec([runCommand('/bin/sleep', ['1000'], { stream: {} })]);
  await delay(SETTLE);
  return memoryOf(pid);
}

async function measureIdle(context: BenchContext, env: Environment): Promise<Usage> {
  const child = start(context, env, ['sh', '-c', 'echo up; exec cat']);
  try {
    await once(child.stdout, 'data', { signal: AbortSignal.timeout(STARTED_DEADLINE) });
    await delay(SETTLE);
    return { ...readBoth(processesOf(child.pid!)), agent: await agentMemory(env) };
  } finally {
    await end(child);
  }
}

async function measureBusy(context: BenchContext, env: Environment): Promise<Usage> {
  const count = Math.round(BYTES / 65536);
  const child = start(context, env, ['sh', '-c', `dd if=/dev/zero bs=64k count=${count} 2>/dev/null`]);
  try {
    const peak: Usage = { supervisor: { ...NOTHING }, run: { ...NOTHING }, agent: 0 };
    let done = false;
    const read = readSlowly(child.stdout).finally(() => {
      done = true;
    });
    await once(child.stdout, 'readable', { signal: AbortSignal.timeout(STARTED_DEADLINE) });
    const processes = processesOf(child.pid!);
    let agentAt = 0;
    while (!done) {
      const now = readBoth(processes);
      raise(peak.supervisor, now.supervisor);
      raise(peak.run, now.run);
      // A process of its own each time: seldom.
      if (performance.now() - agentAt > 5000) {
        peak.agent = Math.max(peak.agent, await agentMemory(env).catch(() => 0));
        agentAt = performance.now();
      }
      await Promise.race([delay(SAMPLE), read]);
      if (!Object.values(processes).every((pid) => existsSync(`/proc/${pid}`))) break;
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

function start({ accel }: BenchContext, env: Environment, command: string[]) {
  const args = ['run', '--accel', accel, '--stdin', '--', ...command];
  return spawn(YA_VM, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
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

interface Processes {
  run: number;
  supervisor: number;
}

/** The launcher's shell has become the Node that runs ya-vm: same pid. The supervisor is a child of it. */
function processesOf(pid: number): Processes {
  if (!argumentsOf(pid).some((word) => word.endsWith('main.cjs')))
    throw new Error(`process ${pid} is not ya-vm`);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').map(Number);
  const supervisor = children.find((child) => child > 0 && argumentsOf(child).includes('service-bus'));
  if (supervisor === undefined) throw new Error(`process ${pid} has no supervisor`);
  return { run: pid, supervisor };
}

function readBoth({ run, supervisor }: Processes): { run: Memory; supervisor: Memory } {
  return { run: memoryOf(run), supervisor: memoryOf(supervisor) };
}

const NOTHING: Memory = { rss: 0, pss: 0, private: 0, clean: 0, dirty: 0 };

function raise(peak: Memory, now: Memory): void {
  for (const key of Object.keys(now) as (keyof Memory)[]) peak[key] = Math.max(peak[key], now[key]);
}

/** The agent's resident memory, bytes, asked through the VM's attach socket as `ya-vm stats` does. */
async function agentMemory(env: Environment): Promise<number> {
  const { stdout } = await promisify(execFile)(YA_VM, ['stats', '--json'], { env, timeout: 30_000 });
  return JSON.parse(stdout).memory.agent;
}
