import t from 'tap';
import { median, percentile, table, verdict } from '../bench/figure.ts';

t.test('medians and percentiles are samples, or the middle of two', async (t) => {
  t.equal(median([3, 1, 2]), 2);
  t.equal(median([4, 1, 2, 3]), 2.5);
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  t.equal(percentile(hundred, 0.5), 50);
  t.equal(percentile(hundred, 0.95), 95);
  t.equal(percentile([7], 0.95), 7);
  t.throws(() => median([]), RangeError);
  t.throws(() => percentile([], 0.5), RangeError);
});

t.test('limits are judged, aims are not', async (t) => {
  t.equal(verdict({ what: 'x', value: 1.2, unit: '×', limit: { atMost: 1.1 } }), 'over');
  t.equal(verdict({ what: 'x', value: 1.1, unit: '×', limit: { atMost: 1.1 } }), 'ok');
  t.equal(verdict({ what: 'x', value: 0.8, unit: '×', limit: { atLeast: 0.9 } }), 'over');
  t.equal(verdict({ what: 'x', value: 9, unit: 'ms', aim: { atMost: 7 } }), '');
});

t.test('the table lines up, and shows a bench that failed', async (t) => {
  const lines = table([
    { bench: 'boot', figures: [{ what: 'agent ÷ floor', value: 1.0412, unit: '×', limit: { atMost: 1.1 } }] },
    { bench: 'latency', figures: [{ what: 'exit p50', value: 12.34, unit: 'ms', aim: { atMost: 7 } }] },
    { bench: 'output', figures: [], failure: 'no VM' },
  ]);
  t.same(lines, [
    'bench    figure           value  limit',
    'boot     agent ÷ floor   1.04 ×  ≤ 1.10 ×         ok',
    'latency  exit p50       12.3 ms  (aim ≤ 7.00 ms)',
    'output   no VM                                    FAILED',
  ]);
});
