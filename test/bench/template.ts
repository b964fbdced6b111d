/**
 * Starts from a template beside boots, by turns: until the agent answers, until a first command has ended, and all of
 * `ya-vm run`; and what idle VMs take of the host's memory.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '../../host/lib/logger.ts';
import { GuestClient } from '../../host/runtime/index.ts';
import { Qmp } from '../../host/runtime/qmp.ts';
import { makeTemplate } from '../../host/runtime/template/ahead.ts';
import { loadState } from '../../host/runtime/template/monitor.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import type { Phase } from '../../host/runtime/types.ts';
import { loadNative } from '../../native/load.ts';
import { bootAssets, commandSpec, privateEnvironment, startTestVm } from '../lib/vm.ts';
import { bootFloor } from './boot.ts';
import { type Bench, type BenchContext, OUT } from './context.ts';
import { timeOf } from './dist-start.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';
import { byTurns, pairsOr } from './pairs.ts';
import { launchGuest, type Shape } from './raw-guest.ts';
import { runTimeline, type Timeline } from './run-timeline.ts';
import { measureMemory } from './template-memory.ts';

const PAIRS = pairsOr(20);
const YA_VM = join(OUT, 'ya-vm');
/** Milliseconds for QEMU to answer, and for the guest. */
const DEADLINE = 15_000;
/** The share of the floor's boot that a restore may take; under emulation, so many milliseconds are good as well. */
const RESTORE_SHARE = 0.06;
const RESTORE_TCG = 150;

type Start = 'cold' | 'template';

export const template: Bench = {
  name: 'template',
  what: `starts from a template and boots, ${PAIRS} pairs of each, medians`,
  run: (context) =>
    withOwner(async (owner) => {
      const env = privateEnvironment(owner);
      // Tests' templates are not in the way, nor dropped by them.
      env.YA_VM_TEMPLATES = join(env.XDG_RUNTIME_DIR as string, 'templates');
      return [
        { what: 'pairs', value: PAIRS, unit: '' },
        ...(await measureReply(context, env)),
        ...(await measureCommand(context, env)),
        ...(await measureRun(context, env)),
        ...(await measureMemory(context, env)),
      ];
    }),
};

// ------------------------------------------------------------------ QEMU's spawn to the first answer

/** Milliseconds of one restore. */
interface Restore {
  whole: number;
  qemu: number;
  state: number;
  answer: number;
}

async function measureReply({ accel, say }: BenchContext, env: NodeJS.ProcessEnv): Promise<Figure[]> {
  const shape: Shape = { accel, cpus: 1, memoryMiB: 256 };
  const { key } = await makeTemplate(
    { ...shape, assets: bootAssets() },
    { env, native: loadNative(), logger: silentLogger },
  );
  const store = new TemplateStore(env);
  const pairs = await warmed(
    () => restoreAgent(shape, store, key),
    () => bootFloor(shape),
    (pair, restore, floor) =>
      say(`pair ${pair}: first answer after ${ms(restore.whole)}; the floor's after ${ms(floor)}`),
  );
  const restores = pairs.map(({ a }) => a);
  const floor = median(pairs.map(({ b }) => b));
  const group = 'QEMU’s start → first answer of the guest';
  const bar = 'template';
  const part = (phase: string, key: keyof Restore): Figure => ({
    what: `first answer: template: ${phase}`,
    value: median(restores.map((restore) => restore[key])),
    unit: 'ms',
    plot: { group, bar, phase },
  });
  return [
    {
      what: 'first answer: template / floor',
      value: median(pairs.map(({ a, b }) => a.whole / b)),
      unit: '×',
      limit: { atMost: Math.max(RESTORE_SHARE, accel === 'tcg' ? RESTORE_TCG / floor : 0) },
    },
    {
      what: 'first answer: floor, cold',
      value: floor,
      unit: 'ms',
      plot: { group, bar: 'the smallest init, cold' },
    },
    {
      what: 'first answer: template',
      value: median(restores.map(({ whole }) => whole)),
      unit: 'ms',
      plot: { group, bar },
    },
    part('QEMU', 'qemu'),
    part('restore', 'state'),
    part('answer', 'answer'),
  ];
}

async function restoreAgent(shape: Shape, store: TemplateStore, key: string): Promise<Restore> {
  const saved = store.open(key);
  if (saved === null) throw new Error('the template is gone');
  const { hello, cpuModel } = saved.record;
  const started = performance.now();
  const qemu = launchGuest({ ...shape, cpuModel }, bootAssets().initramfs, saved);
  const client = new GuestClient(qemu.ports, { logger: silentLogger, onEnd: () => {} });
  const monitor = new Qmp(qemu.qmp);
  try {
    client.greeted(hello);
    await monitor.negotiate(DEADLINE);
    const up = performance.now();
    await loadState(monitor, qemu.state ?? -1, { deadline: DEADLINE });
    const loaded = performance.now();
    await client.request({ op: 'ping' }, { deadline: DEADLINE });
    const answered = performance.now();
    return {
      whole: answered - started,
      qemu: up - started,
      state: loaded - up,
      answer: answered - loaded,
    };
  } finally {
    qemu.kill();
    await qemu.exited;
    client.close(new Error('measured'));
    monitor.close();
  }
}

// ------------------------------------------------------------------ QEMU's spawn to the end of a first command

interface FirstCommand {
  whole: number;
  phases: Record<string, number>;
}

async function measureCommand(context: BenchContext, env: NodeJS.ProcessEnv): Promise<Figure[]> {
  const pairs = await warmed(
    () => firstCommand('template', context, env),
    () => firstCommand('cold', context, env),
    (pair, template, cold) =>
      context.say(
        `pair ${pair}: first command ended after ${ms(template.whole)}; cold, after ${ms(cold.whole)}`,
      ),
  );
  const group = 'QEMU’s start → end of a first command';
  return figures('first command', group, 0.25, pairs);
}

async function firstCommand(
  start: Start,
  { accel }: BenchContext,
  env: NodeJS.ProcessEnv,
): Promise<FirstCommand> {
  const phases: Record<string, number> = {};
  // The disks are the last that is made before QEMU is started.
  let began = 0;
  let last = 0;
  const onPhase = ({ name, milliseconds }: Phase) => {
    const now = performance.now();
    if (name === 'disk') began = now;
    else if (name === 'agent') {
      // Told together with the kernel's: the guest has taken its time.
      phases.agent = milliseconds;
      phases.kernel = (phases.kernel ?? 0) - milliseconds;
    } else if (began > 0) phases[name] = now - last;
    last = now;
  };
  return await withOwner(async (owner) => {
    const vm = await startTestVm(owner, { accel, start }, { env, onPhase });
    const command = await vm.run(commandSpec(['true']), { stdout: () => {}, stderr: () => {} });
    const { exitCode } = await command.result;
    const ended = performance.now();
    if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
    return { whole: ended - began, phases: { ...phases, run: ended - last } };
  });
}

// ------------------------------------------------------------------ all of `ya-vm run`

async function measureRun(context: BenchContext, env: NodeJS.ProcessEnv): Promise<Figure[]> {
  const pairs = await warmed(
    async () => runOnce('template', context, env),
    async () => runOnce('cold', context, env),
    (pair, template, cold) =>
      context.say(`pair ${pair}: ya-vm run took ${ms(template.whole)}; cold, ${ms(cold.whole)}`),
  );
  return figures('ya-vm run -- true', 'ya-vm run -- true, from its start to its exit', 0.3, pairs);
}

function runOnce(start: Start, { accel }: BenchContext, env: NodeJS.ProcessEnv) {
  const logs = join(env.XDG_RUNTIME_DIR as string, 'logs');
  mkdirSync(logs, { recursive: true });
  try {
    const began = performance.timeOrigin + performance.now();
    const words = ['run', '--accel', accel, '--start', start, '--', 'true'];
    const whole = timeOf(YA_VM, words, { ...env, EXE_UNIT_LOG_DIR: logs });
    const log = readdirSync(logs).map((name) => readFileSync(join(logs, name), 'utf8'));
    return { whole, phases: runTimeline(log.join(''), began, began + whole) satisfies Timeline };
  } finally {
    rmSync(logs, { recursive: true, force: true });
  }
}

// ------------------------------------------------------------------

/** Pairs after one of each, which finds everything on the disk and makes the template. */
async function warmed<A, B>(
  measureA: () => Promise<A>,
  measureB: () => Promise<B>,
  say: (pair: number, a: A, b: B) => void,
): Promise<{ a: A; b: B }[]> {
  await measureA();
  await measureB();
  return await byTurns(PAIRS, measureA, measureB, say);
}

interface Measured {
  whole: number;
  phases: Readonly<Record<string, number>>;
}

/** The ratio of the pairs with its limit, and both sides with their phases. */
function figures(
  what: string,
  group: string,
  atMost: number,
  pairs: readonly { a: Measured; b: Measured }[],
): Figure[] {
  const side = (bar: Start, samples: readonly Measured[]): Figure[] => [
    {
      what: `${what}: ${bar}`,
      value: median(samples.map(({ whole }) => whole)),
      unit: 'ms',
      plot: { group, bar },
    },
    ...phaseNames(samples).map(
      (phase): Figure => ({
        what: `${what}: ${bar}: ${phase}`,
        value: median(samples.map(({ phases }) => phases[phase] ?? 0)),
        unit: 'ms',
        plot: { group, bar, phase },
      }),
    ),
  ];
  return [
    {
      what: `${what}: template / cold`,
      value: median(pairs.map(({ a, b }) => a.whole / b.whole)),
      unit: '×',
      limit: { atMost },
    },
    ...side(
      'cold',
      pairs.map(({ b }) => b),
    ),
    ...side(
      'template',
      pairs.map(({ a }) => a),
    ),
  ];
}

/** Those that took any time. */
function phaseNames(samples: readonly Measured[]): string[] {
  const names = Object.keys(samples[0]?.phases ?? {});
  return names.filter((name) => samples.some(({ phases }) => phases[name] !== 0));
}

function ms(milliseconds: number): string {
  return `${milliseconds.toFixed(0)} ms`;
}
