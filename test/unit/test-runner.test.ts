import t from 'tap';
import { LAYERS } from '../lib/layers.ts';
import { bytesWith, countWith } from '../lib/scale.ts';
import { selectJobsWith } from '../lib/select.ts';
import { TapReader } from '../lib/tap-results.ts';

function read(...lines: string[]) {
  const reader = new TapReader();
  reader.write(Buffer.from(`TAP version 14\n${lines.join('\n')}\n`));
  return reader.finish();
}

t.test('assertions are counted, the tests around them are not', async (t) => {
  const results = read(
    '# Subtest: a',
    '    ok 1 - x',
    '    ok 2 - y',
    '    1..2',
    'ok 1 - a',
    'ok 2 - z',
    '1..2',
  );
  t.equal(results.passed, 3);
  t.same(results.failures, []);
  t.same(results.skips, []);
});

t.test('a failed assertion is one failure, named by the tests around it', async (t) => {
  const results = read(
    '# Subtest: a',
    '    ok 1 - x',
    '    not ok 2 - y',
    '      ---',
    '      found: 1',
    '      ...',
    '    1..2',
    'not ok 1 - a',
    '1..1',
  );
  t.equal(results.passed, 1);
  t.match(results.failures, [{ name: 'a > y', details: { found: 1 } }]);
});

t.test('a test that failed by itself is a failure too', async (t) => {
  const results = read('# Subtest: a', '    ok 1 - x', '    1..1', 'not ok 1 - a', '1..1');
  t.equal(results.passed, 1);
  t.match(results.failures, [{ name: 'a' }]);
});

t.test('what was skipped or asserts nothing is a skip, with its reason', async (t) => {
  const results = read('ok 1 - x # SKIP no tool', '# Subtest: hollow', '    1..0', 'ok 2 - hollow', '1..2');
  t.equal(results.passed, 0);
  t.same(results.skips, [
    { name: 'x', reason: 'no tool' },
    { name: 'hollow', reason: 'asserts nothing' },
  ]);
});

t.test('output that stops in the middle is a failure', async (t) => {
  const results = read('ok 1 - x');
  t.equal(results.passed, 1);
  t.equal(results.failures.length, 1);
});

t.test('a plan that is not kept is a failure', async (t) => {
  t.equal(read('ok 1 - x', '1..3').failures.length, 1);
});

t.test('words choose layers and files; anything else is an error', async (t) => {
  const filesOf = (layer: string) => [`test/${layer}/one.test.ts`, `test/${layer}/two.test.ts`];
  t.equal(selectJobsWith([], filesOf).length, 2 * LAYERS.length);
  t.same(
    selectJobsWith(['unit'], filesOf).map((job) => job.file),
    filesOf('unit'),
  );
  t.match(selectJobsWith(['./test/vm/two.test.ts'], filesOf), [
    { file: 'test/vm/two.test.ts', layer: { name: 'vm' } },
  ]);
  t.throws(() => selectJobsWith(['unti'], filesOf), /neither a layer/);
});

t.test('counts: a twentieth and at least two, all in a soak', async (t) => {
  t.equal(countWith(1000, true), 1000);
  t.equal(countWith(1000, false), 50);
  t.equal(countWith(20, false), 2);
  t.equal(countWith(1, false), 1);
  t.equal(bytesWith(1e8, true), 1e8);
  t.equal(bytesWith(1e8, false), 64 * 1024 * 1024);
  t.equal(bytesWith(4096, false), 4096);
});
