/** `make build`: brings build/out up to date. With `--tests`, also what tests and the bench need; with `--dist`, the packages. */
import { mkdirSync } from 'node:fs';
import { runSteps } from './step.ts';
import { OUT, packageSteps, productSteps, testSteps } from './steps.ts';

const say = (line: string) => console.error(`build: ${line}`);

mkdirSync(OUT, { recursive: true });
const steps = [
  ...productSteps(say),
  ...(process.argv.includes('--tests') ? testSteps(say) : []),
  ...(process.argv.includes('--dist') ? packageSteps() : []),
];
try {
  await runSteps(steps, say);
} catch (error) {
  console.error(`build: ${error instanceof Error ? error.message : error}`);
  if (process.env.YAVM_BUILD_DEBUG) console.error(error);
  process.exitCode = 1;
}
