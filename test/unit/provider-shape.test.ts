/** The shape of a provider's VMs, from the file of its hardware profiles. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { planVm } from '../../host/exe-unit/deployment.ts';
import { providerShape, shapeOf } from '../../host/provider/shape.ts';

const profile = (cpu_threads: unknown, mem_gib: unknown) => ({
  active: 'default',
  profiles: { default: { cpu_threads, mem_gib, storage_gib: 100 }, other: { cpu_threads: 9, mem_gib: 9 } },
});

t.test('the active profile, rounded as the VM of an agreement with its figures', async (t) => {
  const gib = 16.092196479439735;
  const shape = shapeOf(profile(3, gib));
  const { memoryMiB, cpus } = planVm({
    deployment: {
      image: null,
      config: null,
      command: { volumes: {}, hosts: {}, nodes: {}, env: {} } as never,
    },
    limits: { 'mem.gib': gib, 'cpu.threads': 3, 'storage.gib': 10 },
    ...{ assets: {} as never, accel: 'tcg', diskFolder: '/tmp', title: '' },
  });
  t.strictSame(shape, { memoryMiB, cpus });
  t.strictSame(shapeOf(profile(0, 0.1)), { memoryMiB: 102, cpus: 1 });
});

t.test('what is no such file has no shape', async (t) => {
  const wrongs = [
    ...[null, 7, [], {}, { active: 'gone', profiles: {} }, { active: 'toString', profiles: {} }],
    ...[{ active: 'default', profiles: null }, profile('3', 1), profile(3, null), profile(3, -1)],
    ...[profile(1e9, 1), profile(1, 1e12), profile(Number.NaN, 1)],
  ];
  for (const wrong of wrongs) t.equal(shapeOf(wrong), null, JSON.stringify(wrong));
});

t.test('it is looked for where a provider keeps it, seen from where it starts us', async (t) => {
  const data = t.testdir();
  const work = join(data, 'exe-unit', 'work');
  mkdirSync(work, { recursive: true });
  t.equal(providerShape(work), null);
  writeFileSync(join(data, 'hardware.json'), JSON.stringify(profile(2, 4)));
  t.strictSame(providerShape(work), { memoryMiB: 4096, cpus: 2 });
  writeFileSync(join(data, 'hardware.json'), '{');
  t.equal(providerShape(work), null);
});
