/**
 * The program that runs the addon's suite under the engine. Arguments: `soak` or `ci`, then a text that names of cases must
 * have. Writes one JSON line a case on descriptor 1, then `{"done":N}`.
 */
import { native } from '../../native/native.ts';
import { runCases } from './harness.ts';
import { cases } from './suite.ts';

declare const yavmEngine: { args: string[]; exit(code: number): never };

const encoder = new TextEncoder();

function print(line: object): void {
  let rest = encoder.encode(`${JSON.stringify(line)}\n`);
  while (rest.length > 0) rest = rest.subarray(native().write(1, rest));
}

async function main(): Promise<void> {
  const [mode, wanted] = yavmEngine.args.slice(-2) as [string, string];
  const chosen = cases.filter(({ name }) => name.includes(wanted));
  await runCases(chosen, native(), { soak: mode === 'soak', engine: true }, print);
  print({ done: chosen.length });
  yavmEngine.exit(0);
}

main();
