/** The addon's suite under the pinned Node, which is the reference. `YAVM_CASE=text` runs the cases with that text in their name. */
import t from 'tap';
import { buildAddon } from '../../build/addon.ts';
import { loadNativeAt } from '../../native/load.ts';
import { soak } from '../lib/scale.ts';
import { runCases } from './harness.ts';
import { cases } from './suite.ts';

// Each case has a deadline of its own.
t.setTimeout(0);

t.test('addon under Node', async (t) => {
  t.setTimeout(0);
  const native = loadNativeAt(await buildAddon());
  const wanted = process.env.YAVM_CASE ?? '';
  const chosen = cases.filter(({ name }) => name.includes(wanted));
  await runCases(chosen, native, { soak, engine: false }, ({ name, ok, skip, error, checks }) => {
    if (skip) t.pass(name, { skip });
    else if (ok) t.pass(`${name} (${checks} checks)`);
    else t.fail(name, { diagnostic: true, error });
  });
});
