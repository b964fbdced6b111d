/**
 * A command that does nothing, as a requestor sees it: Exec, the answer to it, then its result. Against the same command
 * asked of a VM directly, and with a stand-in for the VM, which leaves what the bus and the exe-unit cost.
 */
import type { Flex } from '../../host/gsb/types.ts';
import type { Requestor } from '../../host/node/index.ts';
import { startTestVm } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { BRING_UP, buildStandIn, perform, runCommand, startProvider, YA_VM } from './exe-unit-provider.ts';
import { type Figure, percentile } from './figure.ts';
import { withOwner } from './owner.ts';

const RUNS = 300;
const WARM_UP = 20;
/** Seconds that a result is waited for. */
const PATIENCE = 60;
const PROGRAM = '/bin/true';
const ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];

export const exeUnitExec: Bench = {
  name: 'exec',
  what: `Exec of true, ${RUNS} times in one VM with 1 vCPU, alternating with a VM of this process`,
  run: ({ accel }) =>
    withOwner(async (owner) => {
      const standIn = await startProvider(owner, await buildStandIn(owner), accel);
      const alone = await rounds((await ready(standIn)).requestor, runCommand('exit', ['0'], { stream: {} }));

      const provider = await startProvider(owner, YA_VM, accel);
      const { requestor } = await ready(provider);
      const vm = await startTestVm(owner, { accel });
      const guest: number[] = [];
      const ownRound = async (counts: boolean) => {
        const began = performance.now();
        const spec = { argv: [PROGRAM], env: ENV };
        const command = await vm.run(spec, { stdout: () => {}, stderr: () => {} });
        const { exitCode } = await command.result;
        if (exitCode !== 0) throw new Error(`${PROGRAM} ended with ${exitCode}`);
        if (counts) guest.push(performance.now() - began);
      };
      const whole = await rounds(requestor, runCommand(PROGRAM, [], { stream: {} }), ownRound);
      return figures({ alone, whole, guest });
    }),
};

async function ready(provider: Awaited<ReturnType<typeof startProvider>>) {
  const started = await provider.begin();
  await perform(started.requestor, BRING_UP);
  return started;
}

/** Milliseconds from the sending of Exec. */
interface Rounds {
  /** Until Exec was answered. */
  acknowledged: number[];
  /** Until the result was there, asked for with GetExecBatchResults and a time-out. */
  results: number[];
  /** Until the stream, subscribed to after the answer, told of the command's end. */
  streamed: number[];
}

/** Each way in turn; `between` comes before each round of them. */
async function rounds(
  requestor: Requestor,
  command: Flex,
  between: (counts: boolean) => Promise<void> = async () => {},
): Promise<Rounds> {
  const rounds: Rounds = { acknowledged: [], results: [], streamed: [] };
  for (let round = -WARM_UP; round < RUNS; round++) {
    await between(round >= 0);
    const results = await byResults(requestor, command);
    const streamed = await byStream(requestor, command);
    if (round < 0) continue;
    rounds.acknowledged.push(results.acknowledged);
    rounds.results.push(results.whole);
    rounds.streamed.push(streamed);
  }
  return rounds;
}

async function byResults(
  requestor: Requestor,
  command: Flex,
): Promise<{ acknowledged: number; whole: number }> {
  const began = performance.now();
  const batch = await requestor.exec([command]);
  const acknowledged = performance.now() - began;
  const [result] = await requestor.results(batch, { timeout: PATIENCE });
  const whole = performance.now() - began;
  if (!result?.ok) throw new Error(`the command failed: ${result?.message}`);
  return { acknowledged, whole };
}

async function byStream(requestor: Requestor, command: Flex): Promise<number> {
  const began = performance.now();
  const batch = await requestor.exec([command]);
  for await (const event of requestor.stream(batch)) {
    if (event.kind !== 'finished') continue;
    if (event.returnCode !== 0) throw new Error(`the command failed: ${event.message}`);
    return performance.now() - began;
  }
  throw new Error('the stream ended before the command');
}

function figures({ alone, whole, guest }: { alone: Rounds; whole: Rounds; guest: number[] }): Figure[] {
  const [inVm, own] = [percentile(whole.results, 0.5), percentile(guest, 0.5)];
  return [
    { what: 'over the guest’s own, p50', value: inVm - own, unit: 'ms', limit: { atMost: 5 } },
    { what: 'Exec → result p50', value: inVm, unit: 'ms' },
    { what: 'Exec → result p95', value: percentile(whole.results, 0.95), unit: 'ms' },
    { what: 'Exec → end in the stream p50', value: percentile(whole.streamed, 0.5), unit: 'ms' },
    { what: 'Exec acknowledged p50', value: percentile(whole.acknowledged, 0.5), unit: 'ms' },
    { what: 'guest’s own p50', value: own, unit: 'ms' },
    { what: 'guest’s own p95', value: percentile(guest, 0.95), unit: 'ms' },
    {
      what: 'stand-in: Exec → result p50',
      value: percentile(alone.results, 0.5),
      unit: 'ms',
      aim: { atMost: 2.75 },
    },
    { what: 'stand-in: Exec → end in the stream p50', value: percentile(alone.streamed, 0.5), unit: 'ms' },
    {
      what: 'stand-in: Exec acknowledged p50',
      value: percentile(alone.acknowledged, 0.5),
      unit: 'ms',
      aim: { atMost: 0.6 },
    },
  ];
}
