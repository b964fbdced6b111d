/** What one initramfs takes to boot, and another: `diff --boot`. */

export interface BootTimes {
  /** Milliseconds, in the order of the boots. */
  boots: number[];
  median: number;
  least: number;
  most: number;
}

export interface BootCost {
  before: BootTimes;
  after: BootTimes;
  /** Of the medians, milliseconds: positive when the second is slower. */
  difference: number;
  /** Whether all boots of one took longer than all boots of the other: else the difference may be chance. */
  apart: boolean;
}

/**
 * Boots both in turn, so that what else the machine does hits both alike. One boot of each comes first and does not count: it
 * brings files into memory.
 */
export async function compareBoots(
  [before, after]: readonly [string, string],
  times: number,
  boot: (path: string) => Promise<number>,
): Promise<BootCost> {
  const taken: [number[], number[]] = [[], []];
  for (let round = 0; round <= times; round++) {
    // Who comes first changes, too.
    for (const which of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const milliseconds = await boot(which === 0 ? before : after);
      if (round > 0) taken[which].push(milliseconds);
    }
  }
  const [first, second] = [timesOf(taken[0]), timesOf(taken[1])];
  return {
    before: first,
    after: second,
    difference: second.median - first.median,
    apart: first.most < second.least || second.most < first.least,
  };
}

export function timesOf(boots: number[]): BootTimes {
  const sorted = boots.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
  return { boots, median, least: sorted[0] ?? Number.NaN, most: sorted.at(-1) ?? Number.NaN };
}

/** For people. */
export function bootCostLine({ before, after, difference, apart }: BootCost): string {
  const told = ({ median, least, most }: BootTimes) =>
    `${Math.round(median)} ms (${Math.round(least)}–${Math.round(most)})`;
  const by = Math.round(difference);
  const doubt = apart ? '' : ', within the spread';
  return `boot       ${told(before)} -> ${told(after)}, medians of ${before.boots.length} (${by > 0 ? '+' : ''}${by} ms${doubt})`;
}
