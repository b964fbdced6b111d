/**
 * `container:` transfers. A file into the VM and out of it, against a command's stdin and stdout, which are the data port
 * at its best; and a tar of many small files, against the guest's own tar that writes the same from a file.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Vm } from '../../host/runtime/index.ts';
import { makeTar } from '../lib/tar.ts';
import { commandSpec, shell, startTestVm } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const BLOCK = 64 * 1024;
const BYTES = 128 * 1024 * 1024;
const ROUNDS = 9;
const FILES = 10_000;
const FILE_SIZE = 4096;
const TREE_ROUNDS = 5;
const GIB = 1024 ** 3;

export const container: Bench = {
  name: 'container',
  what: `a file of ${BYTES / 1024 ** 2} MiB, and ${FILES} of ${FILE_SIZE / 1024} KiB as a tar, into a VM and out; medians`,
  run: ({ accel, say }) =>
    withOwner(async (owner) => {
      // The host has a core of its own, and the guest's disk holds everything twice.
      const vm = await startTestVm(owner, { accel, cpus: 1, memoryMiB: 1024, root: { disk: 2 * GIB } });
      const one = await rounds(ROUNDS, () => oneFile(vm));
      say('a file is done');
      const many = await rounds(TREE_ROUNDS, () => manyFiles(vm));
      return [
        ...fileFigures(one),
        ...treeFigures(many),
        ...endFigures(await rounds(ROUNDS, () => givenUp(vm))),
      ];
    }),
};

type Times = Record<string, number[]>;

/** The first round warms up. */
async function rounds(count: number, work: () => Promise<Record<string, number>>): Promise<Times> {
  const times: Times = {};
  for (let round = -1; round < count; round++) {
    for (const [what, took] of Object.entries(await work())) {
      times[what] ??= [];
      if (round >= 0) times[what].push(took);
    }
  }
  return times;
}

/** What is dirty is written out before each, so that nobody pays for what another has written. */
async function timed(vm: Vm, work: () => Promise<unknown>): Promise<number> {
  await shell(vm, 'sync');
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function* blocks(): Generator<Buffer> {
  const block = Buffer.alloc(BLOCK, 'not zeros, which would make holes ');
  for (let left = BYTES; left > 0; left -= BLOCK) yield block;
}

async function oneFile(vm: Vm): Promise<Record<string, number>> {
  const dd = `bs=64k count=${BYTES / BLOCK}`;
  await shell(vm, 'rm -f /in /disk');
  const taken = await timed(vm, () => vm.writeFiles('/in', blocks()));
  return {
    in: taken,
    out: await timed(vm, () => vm.readFiles('/in', () => {})),
    stdin: await timed(vm, () => stdin(vm)),
    stdout: await timed(vm, () => output(vm, `dd if=/dev/zero ${dd} 2>/dev/null`)),
    // What the guest's file system takes: no transfer can be faster.
    disk: await timed(vm, () => shell(vm, `dd if=/dev/zero of=/disk ${dd} 2>/dev/null`)),
  };
}

async function stdin(vm: Vm): Promise<void> {
  const spec = { ...commandSpec(['dd', 'of=/dev/null', 'bs=64k']), stdin: true };
  const command = await vm.run(spec, { stdout: () => {}, stderr: () => {} });
  await Promise.all([
    pipeline(Readable.from(blocks(), { objectMode: false }), command.stdin!),
    command.result,
  ]);
}

async function output(vm: Vm, script: string): Promise<void> {
  const command = await vm.run(commandSpec(['sh', '-c', script]), { stdout: () => {}, stderr: () => {} });
  const { exitCode, complete } = await command.result;
  if (exitCode !== 0 || !complete) throw new Error(`"${script}" ended with ${exitCode}`);
}

async function manyFiles(vm: Vm): Promise<Record<string, number>> {
  const content = Buffer.alloc(FILE_SIZE, 'a small file ');
  const tar = makeTar(
    Array.from({ length: FILES }, (_, number) => ({ name: `d${number % 100}/file-${number}`, content })).sort(
      (a, b) => (a.name < b.name ? -1 : 1),
    ),
  );
  await vm.writeFiles('/tar', [tar]);
  await shell(vm, 'rm -rf /tree /theirs; mkdir /theirs');
  const written = await timed(vm, () => vm.writeFiles('/tree', [tar], { format: 'tar' }));
  const theirs = await timed(vm, () => shell(vm, 'tar -x -f /tar -C /theirs'));
  const read = await timed(vm, () => vm.readFiles('/tree/.', () => {}, { format: 'tar' }));
  const packed = await timed(vm, () => output(vm, 'tar -c -C /theirs .'));
  return { written, theirs, read, packed };
}

/** From the abort of a write to its error, and to the moment at which nothing of it is left in the VM. */
async function givenUp(vm: Vm): Promise<Record<string, number>> {
  await shell(vm, 'mkdir -p /given');
  const stop = new AbortController();
  let aborted = 0;
  async function* endless() {
    for (const block of blocks()) yield block;
    aborted = performance.now();
    stop.abort(new Error('enough'));
    await new Promise(() => {});
  }
  const refused = await vm
    .writeFiles('/given/up', endless(), { signal: stop.signal })
    .catch(() => performance.now());
  while ((await shell(vm, 'ls -A /given 2>&1; true')) !== '');
  return { told: Number(refused) - aborted, gone: performance.now() - aborted };
}

function fileFigures(times: Times): Figure[] {
  const rate = (what: string, key: string): Figure => ({
    what,
    value: BYTES / 1e3 / median(times[key] as number[]),
    unit: 'MB/s',
  });
  return [
    { what: 'a file in ÷ stdin', value: ratio(times, 'stdin', 'in'), unit: '×', limit: { atLeast: 0.6 } },
    { what: 'a file out ÷ stdout', value: ratio(times, 'stdout', 'out'), unit: '×', limit: { atLeast: 0.6 } },
    { what: 'a file in ÷ dd to the disk', value: ratio(times, 'disk', 'in'), unit: '×' },
    rate('a file in', 'in'),
    rate('a file out', 'out'),
    rate('stdin of a command', 'stdin'),
    rate('output of a command', 'stdout'),
    rate('dd to the disk', 'disk'),
  ];
}

function treeFigures(times: Times): Figure[] {
  const seconds = (what: string, key: string): Figure => ({
    what,
    value: median(times[key] as number[]) / 1000,
    unit: 's',
  });
  return [
    {
      what: 'small files in ÷ tar -x',
      value: ratio(times, 'written', 'theirs'),
      unit: '×',
      limit: { atMost: 3 },
    },
    { what: 'small files out ÷ tar -c', value: ratio(times, 'read', 'packed'), unit: '×' },
    seconds('small files in', 'written'),
    seconds('tar -x in the guest', 'theirs'),
    seconds('small files out', 'read'),
    seconds('tar -c in the guest, to stdout', 'packed'),
  ];
}

function endFigures(times: Times): Figure[] {
  const slowest = (what: string, key: string): Figure => ({
    what,
    value: Math.max(...(times[key] as number[])) / 1000,
    unit: 's',
    limit: { atMost: 1 },
  });
  return [slowest('given up: told, slowest', 'told'), slowest('given up: nothing left, slowest', 'gone')];
}

/** Of times measured one after the other: what disturbs the machine for longer disturbs both. */
function ratio(times: Times, over: string, under: string): number {
  const below = times[under] as number[];
  return median((times[over] as number[]).map((time, round) => time / (below[round] as number)));
}
