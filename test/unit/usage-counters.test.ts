import t from 'tap';
import { DEFAULT_VECTOR, type UsageReading, UsageVector } from '../../host/usage/counters.ts';
import { count } from '../lib/scale.ts';

const GIB = 1024 ** 3;
const NOTHING: UsageReading = { cpuSeconds: 0, memory: 0, storage: 0, networkIn: 0, networkOut: 0 };

t.test('the vector has the order and the length of the agreement; unknown names are 0', async (t) => {
  const names = [
    'golem.usage.cpu_sec',
    'my.counter',
    'golem.usage.duration_sec',
    '__proto__',
    'golem.usage.network.in-mib',
    'golem.usage.network.out-mib',
    'golem.usage.cpu_sec',
  ];
  const vector = new UsageVector(names, () => 12.5);
  vector.update({ ...NOTHING, cpuSeconds: 3.25, networkIn: 3 * 1024 ** 2, networkOut: 512 * 1024 });
  t.same(vector.values(), [3.25, 0, 12.5, 0, 3, 0.5, 3.25]);
  t.same(new UsageVector([]).values(), []);
  t.same(new UsageVector(DEFAULT_VECTOR, () => 1).values(), [1, 0, 0, 0], 'before the first reading');
});

t.test('memory and storage are lifetime peaks, in GiB', async (t) => {
  const vector = new UsageVector(['golem.usage.gib', 'golem.usage.storage_gib'], () => 0);
  vector.update({ ...NOTHING, memory: GIB, storage: 4 * GIB });
  vector.update({ ...NOTHING, memory: GIB / 2, memoryPeak: 2 * GIB, storage: GIB });
  t.same(vector.values(), [2, 4], 'a peak between two samples counts');
  vector.update(NOTHING);
  t.same(vector.values(), [2, 4]);
});

t.test('what is shared is a counter of its own, for who asks for it', async (t) => {
  const vector = new UsageVector(['golem.usage.gib', 'ya-vm.usage.shared_gib'], () => 0);
  vector.update({ ...NOTHING, memory: GIB, shared: GIB / 2 });
  vector.update({ ...NOTHING, memory: GIB, shared: GIB / 4 });
  t.same(vector.values(), [1, 0.5]);
});

t.test('sums go on when a machine is replaced', async (t) => {
  const vector = new UsageVector(['golem.usage.cpu_sec', 'golem.usage.network.in-mib'], () => 0);
  const readings: [number, number, number[]][] = [
    [10, 1, [10, 1]],
    [0, 0, [10, 1]],
    [2, 5, [12, 6]],
    [1, 6, [13, 7]],
  ];
  for (const [cpuSeconds, mebibytes, expected] of readings) {
    vector.update({ ...NOTHING, cpuSeconds, networkIn: mebibytes * 1024 ** 2 });
    t.same(vector.values(), expected);
  }
});

t.test('whatever a runtime says, the vector never falls and holds only numbers', async (t) => {
  const values = [0, 1, 5.5, 1e9, -3, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53];
  let now = 0;
  const vector = new UsageVector([...DEFAULT_VECTOR, 'golem.usage.network.in-mib', 'x'], () => now);
  const pick = (step: number, salt: number) =>
    values[(step * 7 + salt * 3 + step * step) % values.length] as number;
  let before = vector.values();
  let falls = 0;
  for (let step = 0; step < count(20_000); step++) {
    now = pick(step, 9);
    vector.update({
      cpuSeconds: pick(step, 1),
      memory: pick(step, 2),
      memoryPeak: pick(step, 3),
      storage: pick(step, 4),
      networkIn: pick(step, 5),
      networkOut: pick(step, 6),
    });
    const after = vector.values();
    if (after.some((value, index) => !(value >= (before[index] as number)) || !Number.isFinite(value))) {
      falls++;
    }
    before = after;
  }
  t.equal(falls, 0);
});
