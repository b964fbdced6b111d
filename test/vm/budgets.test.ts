import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { type Budget, budgetTable, LIMITS } from '../../build/budgets.ts';
import { run, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(300_000);

/** Fails with the table that the build would print. */
function within(t: { ok: (value: unknown, what: string) => unknown }, budget: Budget): void {
  t.ok((budget.measured ?? Number.POSITIVE_INFINITY) <= budget.limit, budgetTable([budget])[0]!);
}

t.test('the agent keeps to its memory', async (t) => {
  const vm = await startTestVm(t);
  const agent = async () => (await vm.stats()).memory.agent;

  within(t, { what: 'agent, idle after the start', limit: LIMITS.agentIdle, measured: await agent() });

  for (let round = 0; round < 50; round++) await run(vm, ['true']);
  await shell(vm, 'for i in $(seq 40); do sleep 0.2 & done; wait');
  await delay(500);
  within(t, { what: 'agent, idle after 50 commands', limit: LIMITS.agentIdle, measured: await agent() });

  let bytes = 0;
  const busy = await vm.run(
    { argv: ['dd', 'if=/dev/zero', 'bs=64k', 'count=1000'], env: ['PATH=/bin'] },
    {
      stdout: async (piece) => {
        bytes += piece.length;
        if (bytes % (1 << 22) < piece.length) await delay(5);
      },
      stderr: () => {},
    },
  );
  const peak = { measured: 0 };
  const watching = setInterval(() => {
    agent().then(
      (now) => {
        peak.measured = Math.max(peak.measured, now);
      },
      () => {},
    );
  }, 200);
  const { complete } = await busy.result;
  clearInterval(watching);
  t.ok(complete && bytes === 1000 * 65536, 'all of the output came');
  t.ok(peak.measured > 0, 'it was asked meanwhile');
  within(t, { what: 'agent, while output passes', limit: LIMITS.agentBusy, measured: peak.measured });
});
