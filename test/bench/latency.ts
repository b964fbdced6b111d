/** Round trips of a command that does nothing: request → reply (it runs), request → result (it has ended). */
import { commandSpec, startTestVm } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { type Figure, percentile } from './figure.ts';
import { withOwner } from './owner.ts';

const RUNS = 1000;
/** Not counted: the guest's first runs load `true` and warm up what emulates it. */
const WARM_UP = 20;

export const latency: Bench = {
  name: 'latency',
  what: `run true, ${RUNS} times in one VM with 1 vCPU`,
  run: ({ accel }) =>
    withOwner(async (owner) => {
      const vm = await startTestVm(owner, { accel });
      const spec = commandSpec(['true']);
      const replies: number[] = [];
      const exits: number[] = [];
      for (let round = -WARM_UP; round < RUNS; round++) {
        const started = performance.now();
        const command = await vm.run(spec, { stdout: () => {}, stderr: () => {} });
        const replied = performance.now() - started;
        const { exitCode } = await command.result;
        if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
        if (round < 0) continue;
        replies.push(replied);
        exits.push(performance.now() - started);
      }
      return [...figures('reply', replies, 3.4), ...figures('exit', exits, 7)];
    }),
};

/** `aim`: p50 in milliseconds at 1 vCPU under TCG on a machine with 2 cores. */
function figures(what: string, samples: number[], aim: number): Figure[] {
  return [
    { what: `${what} p50`, value: percentile(samples, 0.5), unit: 'ms', aim: { atMost: aim } },
    { what: `${what} p95`, value: percentile(samples, 0.95), unit: 'ms' },
  ];
}
