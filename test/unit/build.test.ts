import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { assertBudgets, budgetTable, fileBudgets, LIMITS } from '../../build/budgets.ts';
import { digest, runSteps, type Step } from '../../build/step.ts';

const silent = () => {};

/** A workspace: the steps' stamps are kept below the working directory. */
function workspace(t: { testdir: () => string; teardown: (end: () => void) => void }): void {
  const before = process.cwd();
  process.chdir(t.testdir());
  mkdirSync('source');
  writeFileSync('source/a', 'one');
  t.teardown(() => process.chdir(before));
}

function copy(from: string, to: string, more: Partial<Step> = {}): Step {
  const run = async () => writeFileSync(to, readFileSync(join(from, 'a')));
  return { name: to, says: `copy ${to}`, inputs: [from], outputs: [to], after: [], run, ...more };
}

t.test('a step runs once, and again when an input or its output changed', async (t) => {
  workspace(t);
  const steps = [copy('source', 'result')];
  t.same(await runSteps(steps, silent), ['result']);
  t.same(await runSteps(steps, silent), [], 'nothing changed');
  writeFileSync('source/a', 'two');
  t.same(await runSteps(steps, silent), ['result'], 'an input changed');
  writeFileSync('source/b', '');
  t.same(await runSteps(steps, silent), ['result'], 'a file came to an input folder');
  writeFileSync('result', 'meddled with');
  t.same(await runSteps(steps, silent), ['result'], 'the output is another');
  rmSync('result');
  t.same(await runSteps(steps, silent), ['result'], 'the output is gone');
  t.equal(readFileSync('result', 'utf8'), 'two');
});

t.test('steps run in order, and a failure stops those after it', async (t) => {
  workspace(t);
  const order: string[] = [];
  const step = (name: string, after: string[], failing = false): Step => ({
    ...copy('source', name),
    after,
    run: async () => {
      order.push(name);
      if (failing) throw new Error(`${name} failed`);
      writeFileSync(name, '');
    },
  });
  await t.rejects(runSteps([step('a', []), step('b', ['a'], true), step('c', ['b'])], silent), /b failed/);
  t.same(order, ['a', 'b']);
  t.same(await runSteps([step('a', []), step('b', ['a']), step('c', ['b'])], silent), ['b', 'c']);
  await t.rejects(runSteps([step('p', [], true), step('q', [], true)], silent), /p failed\nq failed/);
  await t.rejects(runSteps([step('x', ['later']), step('later', [])], silent), /not among the steps before/);
});

t.test('a step that does not make what it promises fails', async (t) => {
  workspace(t);
  await t.rejects(
    runSteps([copy('source', 'result', { run: async () => {} })], silent),
    /did not make result/,
  );
});

t.test('the digest depends on names and contents, and misses nothing silently', async (t) => {
  workspace(t);
  const first = digest(['source']);
  t.equal(digest(['source']), first);
  writeFileSync('source/a', 'two');
  t.not(digest(['source']), first);
  t.throws(() => digest(['nowhere']), { code: 'ENOENT' });
});

t.test('a budget that is exceeded fails with the whole table', async (t) => {
  const within = { what: 'small', limit: 1_000_000, measured: 999_999 };
  const over = { what: 'larger', limit: LIMITS.init, measured: LIMITS.init + 1 };
  const unknown = { what: 'agent', limit: LIMITS.agentIdle, measured: null };
  t.doesNotThrow(() => assertBudgets([within, unknown]));
  t.throws(() => assertBudgets([within, over]), /small .*ok\n.*larger .*OVER/);
  t.throws(() => assertBudgets(fileBudgets({ init: LIMITS.init, base: LIMITS.initramfsBase + 1 })), /OVER/);
  t.match(budgetTable([unknown]), [/not measured {2}limit 2.000 MB {2}–/]);
});
