/** Streams through the agent against the same bytes by dd alone, in a guest without agent: same kernel, QEMU and host code path up to the socket. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Vm } from '../../host/runtime/index.ts';
import { commandSpec, startTestVm } from '../lib/vm.ts';
import { type Bench, FLOOR } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';
import { launchGuest, RawGuest } from './raw-guest.ts';

const BLOCK = 64 * 1024;
const BLOCKS = 3200;
const BYTES = BLOCK * BLOCKS;
const ROUNDS = 15;
const DEADLINE = 120_000;
const CPUS = [1, 2];

export const throughput: Bench = {
  name: 'stream',
  what: `${Math.round(BYTES / 1e6)} MB through a command's stdout and stdin, and by dd alone; ${ROUNDS} rounds, medians`,
  async run(context) {
    const figures: Figure[] = [];
    for (const cpus of CPUS) figures.push(...(await measure(context.accel, cpus)));
    return figures;
  },
};

/** Both guests are up all the time, one of them idle: so each round compares under the same conditions. */
function measure(accel: 'tcg' | 'kvm', cpus: number): Promise<Figure[]> {
  return withOwner(async (owner) => {
    const vm = await startTestVm(owner, { accel, cpus });
    const raw = new RawGuest(launchGuest({ accel, cpus, memoryMiB: 256 }, FLOOR));
    owner.teardown(() => raw.kill());
    await raw.started();
    const speeds: Record<'output' | 'piped' | 'bare' | 'input' | 'sink', number[]> = {
      output: [],
      piped: [],
      bare: [],
      input: [],
      sink: [],
    };
    for (let round = -1; round < ROUNDS; round++) {
      const now = {
        output: await output(vm),
        piped: await rawOutput(raw, 'piped'),
        bare: await rawOutput(raw, 'bare'),
        input: await input(vm),
        sink: await rawInput(raw),
      };
      // The first round warms up.
      if (round >= 0) for (const key of Object.keys(now) as (keyof typeof now)[]) speeds[key].push(now[key]);
    }
    return figuresOf(`${cpus} vCPU`, speeds);
  });
}

function figuresOf(shape: string, speeds: Record<string, number[]>): Figure[] {
  const speed = (key: string) => median(speeds[key]!);
  // Both of a pair were measured within seconds: what disturbs the machine for longer disturbs both.
  const ratio = (key: string, other: string) =>
    median(speeds[key]!.map((value, round) => value / speeds[other]![round]!));
  return [
    {
      what: `${shape}: output ÷ dd|dd of=PORT`,
      value: ratio('output', 'piped'),
      unit: '×',
      limit: { atLeast: 0.9 },
    },
    {
      what: `${shape}: stdin ÷ dd if=PORT|dd`,
      value: ratio('input', 'sink'),
      unit: '×',
      limit: { atLeast: 0.5 },
    },
    { what: `${shape}: output of a command`, value: speed('output'), unit: 'MB/s' },
    { what: `${shape}: dd | dd of=PORT`, value: speed('piped'), unit: 'MB/s' },
    { what: `${shape}: dd of=PORT, the limit`, value: speed('bare'), unit: 'MB/s' },
    { what: `${shape}: stdin of a command`, value: speed('input'), unit: 'MB/s' },
    { what: `${shape}: dd if=PORT | dd`, value: speed('sink'), unit: 'MB/s' },
  ];
}

const perSecond = (milliseconds: number) => BYTES / 1e6 / (milliseconds / 1000);

/** From the first byte to the last. */
async function output(vm: Vm): Promise<number> {
  let bytes = 0;
  let first = 0;
  const sink = (piece: Uint8Array) => {
    if (bytes === 0) first = performance.now();
    bytes += piece.length;
  };
  const spec = commandSpec(['dd', 'if=/dev/zero', 'bs=64k', `count=${BLOCKS}`]);
  const command = await vm.run(spec, { stdout: sink, stderr: () => {} });
  const { complete } = await command.result;
  const took = performance.now() - first;
  if (!complete || bytes !== BYTES) throw new Error(`${bytes} bytes came, not ${BYTES}`);
  return perSecond(took);
}

async function rawOutput(raw: RawGuest, verb: 'piped' | 'bare'): Promise<number> {
  await raw.send(`${verb} ${BLOCKS}\n`);
  return perSecond(await raw.receive(BYTES, DEADLINE));
}

/** From the first write to the end of the command that has read everything. */
async function input(vm: Vm): Promise<number> {
  const spec = { ...commandSpec(['dd', 'of=/dev/null', 'bs=64k']), stdin: true };
  const command = await vm.run(spec, { stdout: () => {}, stderr: () => {} });
  const started = performance.now();
  await Promise.all([
    pipeline(Readable.from(blocks(), { objectMode: false }), command.stdin!),
    command.result,
  ]);
  return perSecond(performance.now() - started);
}

async function rawInput(raw: RawGuest): Promise<number> {
  await raw.send(`sink ${BLOCKS}\n`);
  const started = performance.now();
  const done = raw.receive(1, DEADLINE);
  for (const block of blocks()) await raw.send(block);
  await done;
  return perSecond(performance.now() - started);
}

function* blocks(): Generator<Buffer> {
  const block = Buffer.alloc(BLOCK);
  for (let index = 0; index < BLOCKS; index++) yield block;
}
