/** Ends what a bench has started, in the reverse order, as a test's `t` does. */
import type { Owner } from '../lib/vm.ts';

export async function withOwner<T>(work: (owner: Owner) => Promise<T>): Promise<T> {
  const ends: (() => Promise<void> | void)[] = [];
  try {
    return await work({ teardown: (end) => void ends.push(end) });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}
