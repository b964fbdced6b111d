/** Two kinds of one thing, measured by turns: what disturbs one side disturbs the other. */

/** How many pairs, where somebody only wants to see whether a bench works. */
const PAIRS_VARIABLE = 'YAVM_BENCH_PAIRS';

/** @returns `usual`, or fewer as the environment says. */
export function pairsOr(usual: number, env: NodeJS.ProcessEnv = process.env): number {
  const asked = env[PAIRS_VARIABLE];
  if (!asked) return usual;
  if (!/^[1-9]\d{0,2}$/.test(asked)) throw new Error(`${PAIRS_VARIABLE}=${asked}: not a number of pairs`);
  return Number(asked);
}

/** Whoever comes second may profit from the first: each is first half of the time. */
export async function byTurns<A, B>(
  pairs: number,
  measureA: () => Promise<A>,
  measureB: () => Promise<B>,
  say: (pair: number, a: A, b: B) => void,
): Promise<{ a: A; b: B }[]> {
  const measured: { a: A; b: B }[] = [];
  for (let pair = 1; pair <= pairs; pair++) {
    const first = pair % 2 === 0 ? undefined : await measureA();
    const b = await measureB();
    const a = first ?? (await measureA());
    measured.push({ a, b });
    say(pair, a, b);
  }
  return measured;
}
