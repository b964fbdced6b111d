import t from 'tap';
import type { CheckRow } from '../../host/cli/doctor/checks.ts';
import type { Probes } from '../../host/cli/doctor/probes.ts';
import { selfTest } from '../../host/cli/self-test.ts';
import { YavmError } from '../../host/lib/errors.ts';
import type { Verdict } from '../../host/provider/verdict.ts';
import { testContext } from '../lib/cli.ts';

const ROWS: CheckRow[] = [
  { name: 'first', check: () => ({ status: 'ok', detail: 'is there' }) },
  { name: 'second', check: () => ({ status: 'warn', detail: 'is old', fix: 'renew it' }) },
];
const BROKEN: CheckRow = {
  name: 'third',
  check: () => ({ status: 'fail', detail: 'is not', fix: 'make it' }),
};
const VERDICT: Verdict = {
  accel: 'tcg',
  cpu: { vendor: '', brand: '', model: '', capabilities: [] },
  capabilities: [],
};
const works = async (_context: unknown, _accel: unknown, say: (line: string) => void) => {
  for (const line of ['  kernel: 5 ms', 'ok: a VM starts', 'not ok: no frame came back']) say(line);
  return VERDICT;
};
const probes = {} as Probes;

t.test('checks, then a VM, each in a line', async (t) => {
  const context = testContext();
  t.equal(await selfTest(context, { json: false, accel: 'auto' }, probes, { rows: ROWS, tryVm: works }), 0);
  t.match(
    context.out(),
    /^✔ first +is there\n! second +is old\n +→ renew it\n✔ VM +a VM starts\n! VM +no frame came back\n\nok: .* 2 warnings\.\n$/,
  );
});

t.test('what is missing, and a VM that does not start, with what helps', async (t) => {
  const fails = async () => {
    throw new YavmError('YAVM_E_QEMU_MISSING', 'no QEMU', { hint: 'apt install it' });
  };
  const context = testContext();
  const rows = [...ROWS, BROKEN];
  t.equal(await selfTest(context, { json: true, accel: 'tcg' }, probes, { rows, tryVm: fails }), 1);
  const { ok, checks } = JSON.parse(context.out());
  t.equal(ok, false);
  t.match(checks.slice(2), [
    { name: 'third', status: 'fail', fix: 'make it' },
    { name: 'VM', status: 'fail', detail: 'no QEMU (YAVM_E_QEMU_MISSING)', fix: 'apt install it' },
  ]);
  const plain = testContext();
  await selfTest(plain, { json: false, accel: 'tcg' }, probes, { rows, tryVm: fails });
  t.match(plain.out(), /\nfailed: 2 of 4\./);
});
