/**
 * How long the single program takes to start, beside the Node that is in it. Runs are in pairs: what disturbs one side
 * disturbs the other. Standard output and error are pipes, as for a provider.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Bench, OUT } from './context.ts';
import { type Figure, median } from './figure.ts';

const PROGRAM = join(OUT, 'dist', 'ya-vm');
const LAUNCHER = join(OUT, 'ya-vm');
/** Of starts; and of VMs, which take seconds. */
const PAIRS = 24;
const VM_PAIRS = 5;
/** Milliseconds for one run. */
const PATIENCE = 120_000;

export const distStart: Bench = {
  name: 'dist',
  what: 'start of the single program, in pairs with Node and with the checkout',
  async run({ accel, say }) {
    if (!existsSync(PROGRAM)) {
      say(`skipped: ${PROGRAM} is not there; "make dist" builds it`);
      return [];
    }
    const work = mkdtempSync(join(tmpdir(), 'ya-vm-dist-'));
    try {
      return measure(work, accel, say);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  },
};

function measure(work: string, accel: string, say: (line: string) => void): Figure[] {
  const env = { ...process.env, XDG_CACHE_HOME: join(work, 'cache') };
  const time = (program: string, ...words: string[]) => timeOf(program, words, env);
  const node = join(work, 'node');
  time('strip', '-o', node, process.execPath);
  const bare = () => time(node, '-e', '0');

  const figures = ['--help', 'version'].flatMap((command) => {
    say(command);
    return inPairs(command, 'bare Node', () => time(PROGRAM, command), bare, PAIRS, 1.3);
  });

  say('offer-template, after a self-test');
  const offer = () => time(PROGRAM, 'offer-template', '--accel', accel);
  const [its, , ratio] = inPairs('offer-template', 'bare Node', offer, bare, PAIRS) as [
    Figure,
    Figure,
    Figure,
  ];
  figures.push({ ...its, limit: { atMost: 150 } }, ratio);

  say('run -- true');
  const run = (program: string) => () => time(program, 'run', '--accel', accel, '--', 'true');
  figures.push(...inPairs('run -- true', 'the checkout', run(PROGRAM), run(LAUNCHER), VM_PAIRS, 1.1));
  return figures;
}

/**
 * Runs `subject` and `base` by turns, after one of each that finds everything on the disk.
 * @returns both medians, and the median of the pairs' ratios with its limit
 */
function inPairs(
  what: string,
  baseName: string,
  subject: () => number,
  base: () => number,
  pairs: number,
  atMost?: number,
): Figure[] {
  subject();
  base();
  // Each is first as often as second.
  const samples = Array.from({ length: pairs }, (_, index) => {
    if (index % 2 === 0) return [subject(), base()] as const;
    const second = base();
    return [subject(), second] as const;
  });
  const ratio = median(samples.map(([ours, theirs]) => ours / theirs));
  return [
    { what, value: median(samples.map(([ours]) => ours)), unit: 'ms' },
    { what: `${what}: ${baseName}`, value: median(samples.map(([, theirs]) => theirs)), unit: 'ms' },
    { what: `${what} / ${baseName}`, value: ratio, unit: '×', ...(atMost && { limit: { atMost } }) },
  ];
}

/** Milliseconds from spawn to exit. @throws Error when it fails */
export function timeOf(program: string, words: readonly string[], env: NodeJS.ProcessEnv): number {
  const began = performance.now();
  const { status, error, stderr } = spawnSync(program, words, { env, timeout: PATIENCE });
  const took = performance.now() - began;
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${words.join(' ')}: status ${status}: ${stderr}`);
  return took;
}
