/**
 * Output of a command in a VM, by StreamExecBatchResults, against what carries it: the same stream with a stand-in for
 * the VM, and the same output of a VM of this process. The slower of the two is the limit.
 */

import type { Vm } from '../../host/runtime/index.ts';
import { readProcessUsage } from '../../host/usage/process.ts';
import { commandSpec, startTestVm } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { streamSpeed } from './exe-unit-events.ts';
import { BRING_UP, buildStandIn, perform, runCommand, startProvider, YA_VM } from './exe-unit-provider.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const BLOCK = 64 * 1024;
const BLOCKS = 1600;
const BYTES = BLOCK * BLOCKS;
const ROUNDS = 7;
const FORMATS = { text: 'str', blob: 'blob' } as const;
const DD = ['if=/dev/zero', 'bs=64k', `count=${BLOCKS}`];

export const exeUnitOutput: Bench = {
  name: 'output',
  what: `${Math.round(BYTES / 1e6)} MB from a VM with 1 vCPU by the stream; ${ROUNDS} rounds, medians`,
  run: ({ accel }) =>
    withOwner(async (owner) => {
      const standIn = await (await startProvider(owner, await buildStandIn(owner), accel)).begin();
      const whole = await (await startProvider(owner, YA_VM, accel)).begin();
      const vm = await startTestVm(owner, { accel });
      for (const { requestor } of [standIn, whole]) await perform(requestor, BRING_UP);
      const figures: Figure[] = [];
      for (const [name, format] of Object.entries(FORMATS)) {
        const produce = runCommand('bytes', [String(BYTES)], { stream: { format } });
        const dd = runCommand('/bin/dd', DD, { stream: { format } });
        const speeds: Speeds[] = [];
        for (let round = -1; round < ROUNDS; round++) {
          const bus = await streamSpeed(standIn.requestor, produce, BYTES);
          const port = await portSpeed(vm);
          const before = cpuOf(whole.pid);
          const speed = await streamSpeed(whole.requestor, dd, BYTES);
          const now = { bus, port, whole: speed, cpu: ((cpuOf(whole.pid) - before) * 1000) / (BYTES / 1e8) };
          // The first round warms up.
          if (round >= 0) speeds.push(now);
        }
        figures.push(...figuresOf(name, speeds));
      }
      return figures;
    }),
};

/** Of one round; MB/s, unless it says otherwise. */
interface Speeds {
  /** Stand-in, bus, requestor. */
  bus: number;
  /** VM, and a sink in this process. */
  port: number;
  /** VM, bus, requestor. */
  whole: number;
  /** CPU time of its supervisor for 100 MB, milliseconds: what a busy machine does not change much. */
  cpu: number;
}

function cpuOf(pid: number): number {
  return readProcessUsage(pid)?.cpuSeconds ?? 0;
}

function figuresOf(format: string, speeds: Speeds[]): Figure[] {
  const speed = (key: keyof Speeds) => median(speeds.map((each) => each[key]));
  // What is compared was measured within seconds: what disturbs the machine for longer disturbs all of it.
  const ratio = median(speeds.map(({ bus, port, whole }) => whole / Math.min(bus, port)));
  return [
    { what: `${format}: stream ÷ the slower of both`, value: ratio, unit: '×', limit: { atLeast: 0.7 } },
    { what: `${format}: stream from the VM`, value: speed('whole'), unit: 'MB/s' },
    { what: `${format}: data port, directly`, value: speed('port'), unit: 'MB/s' },
    { what: `${format}: stream from a stand-in`, value: speed('bus'), unit: 'MB/s' },
    { what: `${format}: the supervisor’s CPU for 100 MB`, value: speed('cpu'), unit: 'ms' },
  ];
}

/** From the first byte to the last, as {@link streamSpeed} measures. */
async function portSpeed(vm: Vm): Promise<number> {
  let bytes = 0;
  let first = 0;
  const sink = (piece: Uint8Array) => {
    if (bytes === 0) first = performance.now();
    bytes += piece.length;
  };
  const command = await vm.run(commandSpec(['/bin/dd', ...DD]), { stdout: sink, stderr: () => {} });
  const { complete } = await command.result;
  if (!complete || bytes !== BYTES) throw new Error(`${bytes} bytes came, not ${BYTES}`);
  return BYTES / 1e6 / ((performance.now() - first) / 1000);
}
