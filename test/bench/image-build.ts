/** Building an image, beside mksquashfs alone with the same settings on the same tree. */
import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../../host/image/build/build.ts';
import { packArguments } from '../../host/image/build/mksquashfs.ts';
import { DEFAULT_PACKER } from '../../host/image/build/packers.ts';
import { openSource } from '../../host/image/source/source.ts';
import { archiveOf, oldDockerSave } from '../lib/container-archives.ts';
import { Random } from '../lib/random.ts';
import { soak } from '../lib/scale.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const MIB = 1024 * 1024;
/** Bytes of the tree: a gigabyte in a soak. */
const SIZE = soak ? 1024 * MIB : 256 * MIB;
const ROUNDS = 5;
/** Sizes of files, as a distribution has them: most are small, most bytes are in large ones. */
const FILES = [500, 2000, 4096, 9000, 20_000, 100_000, 700_000, 5 * MIB];
/** The figure of the issue: ours ÷ mksquashfs. */
const LIMIT = 1.15;

type Times = Record<'mksquashfs' | 'folder' | 'archive', number[]>;

export const imageBuild: Bench = {
  name: 'image-build',
  what: `a tree of ${SIZE / MIB} MiB packed, ${ROUNDS} times each way`,
  run: ({ say }) =>
    withOwner(async (owner) => {
      // Where images are built, not in memory: /tmp may be a tmpfs.
      const folder = mkdtempSync('/var/tmp/ya-vm-bench-');
      owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const tree = join(folder, 'tree');
      const count = makeTree(tree);
      const archive = join(folder, 'image.tar');
      makeArchive(archive, tree);
      say(`${count} files`);
      const output = join(folder, 'out.gvmi');
      const times: Times = { mksquashfs: [], folder: [], archive: [] };
      for (let round = 0; round < ROUNDS; round++) {
        times.mksquashfs.push(await timed(output, () => mksquashfs(tree, output)));
        times.folder.push(await timed(output, () => build(tree, output)));
        times.archive.push(await timed(output, () => build(archive, output)));
      }
      return figures(times);
    }),
};

async function timed(output: string, work: () => unknown): Promise<number> {
  rmSync(output, { force: true });
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** What it writes is on the disk when it is done, as ours is. */
function mksquashfs(tree: string, output: string): void {
  const words = packArguments({
    source: { folder: tree },
    ...{ output, ...DEFAULT_PACKER, owner: 'keep', time: 0, clampTimes: false },
    signal: new AbortController().signal,
  });
  execFileSync('mksquashfs', words, { stdio: 'ignore' });
  const fd = openSync(output, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

async function build(reference: string, output: string): Promise<void> {
  const { signal } = new AbortController();
  const source = await openSource(reference, { signal, temp: '/var/tmp' });
  try {
    if (source.kind === 'image') throw new Error(`${reference} is an image`);
    await buildImage({ source, output, ...DEFAULT_PACKER, owner: 'keep', signal });
  } finally {
    source.close();
  }
}

/** Text of words between bytes that do not compress: zstd makes about half of it. @returns the number of files */
function makeTree(tree: string): number {
  const random = new Random(5);
  const words = Array.from({ length: 2000 }, () =>
    Buffer.from(random.bytes(3)).toString('hex').slice(0, random.between(3, 7)),
  );
  const pool = Buffer.concat(
    Array.from({ length: 3000 }, () =>
      random.chance(3)
        ? Buffer.from(random.bytes(4000))
        : Buffer.from(Array.from({ length: 1000 }, () => random.pick(words)).join(' ')),
    ),
  );
  let count = 0;
  for (let sum = 0; sum < SIZE; count++) {
    const size = Math.min(random.pick(FILES), SIZE - sum);
    const folder = join(tree, `d${count % 97}`, `e${count % 13}`);
    mkdirSync(folder, { recursive: true });
    const at = random.between(0, pool.length - size);
    writeFileSync(join(folder, `f${count}`), pool.subarray(at, at + size));
    sum += size;
  }
  return count;
}

/** As docker saves it: two layers, not compressed. */
function makeArchive(archive: string, tree: string): void {
  const tar = (...words: string[]) =>
    execFileSync('tar', ['-C', tree, '-cf', '-', ...words], { maxBuffer: 2 ** 32 });
  const layers = [tar('--exclude=./d9*', '.'), tar('--exclude=./d[0-8]*', '.')];
  writeFileSync(archive, archiveOf(oldDockerSave({ tags: ['bench:1'], config: {}, layers })));
}

function figures(times: Times): Figure[] {
  const ratio = (ours: number[]) =>
    median(ours.map((time, round) => time / (times.mksquashfs[round] as number)));
  const seconds = (what: string, of: number[]): Figure => ({ what, value: median(of) / 1000, unit: 's' });
  return [
    seconds('mksquashfs', times.mksquashfs),
    seconds('from the folder', times.folder),
    seconds('from a docker archive', times.archive),
    { what: 'folder ÷ mksquashfs', value: ratio(times.folder), unit: '×', limit: { atMost: LIMIT } },
    { what: 'docker archive ÷ mksquashfs', value: ratio(times.archive), unit: '×', limit: { atMost: LIMIT } },
  ];
}
