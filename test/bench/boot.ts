/** From QEMU's spawn to the first message of the guest: the agent against the floor, alternating, and the split. */
import { silentLogger } from '../../host/lib/logger.ts';
import { GuestClient } from '../../host/runtime/index.ts';
import { bootAssets } from '../lib/vm.ts';
import { type Bench, type BenchContext, FLOOR } from './context.ts';
import { type Figure, median } from './figure.ts';
import { byTurns } from './pairs.ts';
import { launchGuest, RawGuest, type Shape } from './raw-guest.ts';

/** Boots of each kind. */
const PAIRS = 15;
const DEADLINE = 60_000;

/** Milliseconds of one boot of the agent. `kernel` begins with QEMU's own start. */
interface AgentBoot {
  whole: number;
  kernel: number;
  modules: number;
  agent: number;
}

export const boot: Bench = {
  name: 'boot',
  what: `QEMU spawn to the guest's first message, ${PAIRS} pairs, medians`,
  async run(context) {
    const shape: Shape = { accel: context.accel, cpus: 1, memoryMiB: 256 };
    // The first boot of each reads its files from disk.
    await bootAgent(shape);
    await bootFloor(shape);
    const pairs = await byTurns(
      PAIRS,
      () => bootAgent(shape),
      () => bootFloor(shape),
      (pair, agent, floor) => sayPair(context, pair, agent, floor),
    );
    return figures(
      pairs.map(({ a }) => a),
      pairs.map(({ b }) => b),
    );
  },
};

function figures(agents: AgentBoot[], floors: number[]): Figure[] {
  const agent = median(agents.map((boot) => boot.whole));
  const floor = median(floors);
  const part = (what: string, key: keyof AgentBoot): Figure => ({
    what,
    value: median(agents.map((boot) => boot[key])),
    unit: 'ms',
  });
  return [
    { what: 'agent ÷ floor', value: agent / floor, unit: '×', limit: { atMost: 1.1 } },
    {
      what: 'the same, fastest of each',
      value: Math.min(...agents.map((boot) => boot.whole)) / Math.min(...floors),
      unit: '×',
    },
    { what: 'agent: spawn → hello', value: agent, unit: 'ms' },
    { what: 'floor: spawn → byte', value: floor, unit: 'ms' },
    part('of the agent: QEMU and kernel, to /init', 'kernel'),
    part('of the agent: file systems and modules', 'modules'),
    part('of the agent: ports, hello', 'agent'),
  ];
}

async function bootAgent(shape: Shape): Promise<AgentBoot> {
  const started = performance.now();
  const qemu = launchGuest(shape, bootAssets().initramfs);
  const client = new GuestClient(qemu.ports, { logger: silentLogger, onEnd: () => {} });
  const drop = qemu.qmp({ buffer: Buffer.alloc(4096), callback: () => true });
  try {
    const { boot } = await client.hello(DEADLINE);
    const whole = performance.now() - started;
    const modules = boot.modules - boot.init;
    const agent = boot.hello - boot.modules;
    return { whole, kernel: whole - modules - agent, modules, agent };
  } finally {
    qemu.kill();
    await qemu.exited;
    client.close(new Error('measured'));
    drop.destroy();
  }
}

/** Milliseconds of one boot of the smallest init. */
export async function bootFloor(shape: Shape): Promise<number> {
  const started = performance.now();
  const guest = new RawGuest(launchGuest(shape, FLOOR));
  try {
    await guest.started();
    return performance.now() - started;
  } finally {
    await guest.kill();
  }
}

function sayPair(context: BenchContext, pair: number, agent: AgentBoot, floor: number): void {
  context.say(`pair ${pair}: agent ${agent.whole.toFixed(0)} ms, floor ${floor.toFixed(0)} ms`);
}
