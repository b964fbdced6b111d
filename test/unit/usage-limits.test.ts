import t from 'tap';
import { Meter, type MeterOptions, UsageLimitError } from '../../host/exe-unit/meter.ts';
import type { UsageReading } from '../../host/usage/counters.ts';

const GIB = 1024 ** 3;
const NAMES = ['golem.usage.storage_gib', 'golem.usage.duration_sec', 'golem.usage.gib'];

function meter(options: Partial<MeterOptions> = {}) {
  const reading: UsageReading = { cpuSeconds: 2, memory: 0, storage: 0, networkIn: 0, networkOut: 0 };
  let folder = 0;
  const made = new Meter({
    names: NAMES,
    limits: { 'mem.gib': 1, 'storage.gib': 2 },
    read: () => ({ ...reading }),
    folder: () => folder,
    now: () => 7,
    ...options,
  });
  const use = (memory: number, storage: number, inFolder = 0) => {
    Object.assign(reading, { memory, storage });
    folder = inFolder;
  };
  return { meter: made, use };
}

t.test('storage is the disks’ and the folder’s together', async (t) => {
  const { meter: made, use } = meter();
  use(GIB / 2, GIB, GIB / 2);
  t.same(made.values(), [1.5, 7, 0.5]);
  t.same(made.current(), {
    duration: 7,
    cpu: 2,
    memory: GIB / 2,
    shared: 0,
    storage: 1.5 * GIB,
    networkIn: 0,
    networkOut: 0,
  });
});

t.test('at the limit is not beyond it; beyond it the measured value is told, and stays told', async (t) => {
  const { meter: made, use } = meter();
  use(GIB, 2 * GIB);
  t.same(made.values(), [2, 7, 1]);
  use(1.25 * GIB, 0);
  const text = '"golem.usage.gib" exceeded the value of 1.25';
  t.throws(() => made.values(), { name: 'UsageLimitError', message: text });
  use(0, 0);
  t.throws(() => made.values(), { message: text }, 'the peak counts');
  t.same(made.finalValues(), [2, 7, 1.25], 'the last report has it all the same');
});

t.test('storage, by disk or by folder', async (t) => {
  const { meter: made, use } = meter();
  use(0, GIB, 1.5 * GIB);
  t.throws(() => made.values(), new UsageLimitError('"golem.usage.storage_gib" exceeded the value of 2.5'));
});

t.test(
  'no limit where the machine is the limit, the agreement names none, or the vector lacks the counter',
  async (t) => {
    for (const options of [{ limits: null }, { limits: {} }, { names: ['golem.usage.cpu_sec'] }]) {
      const { meter: made, use } = meter(options);
      use(99 * GIB, 99 * GIB);
      t.ok(made.values().length > 0, JSON.stringify(options));
    }
  },
);
