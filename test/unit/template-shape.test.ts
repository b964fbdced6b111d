/** What names a template, and which VMs can have none. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  type ColdFacts,
  cpuOf,
  roomFor,
  type TemplateShape,
  templateKey,
  templateKeyOf,
  whyCold,
} from '../../host/runtime/template/shape.ts';

const ASSETS = { kernel: '/k', initramfs: '/i', manifest: '/m' };
const SHAPE: TemplateShape = { accel: 'tcg', cpuModel: 'max', cpus: 1, memoryMiB: 256, assets: ASSETS };
const FACTS = { qemu: '/usr/bin/qemu:1', assets: '/k:1 /i:1', cpu: 'model: 1' };

t.test('each part of a shape, and of the host, makes another key', async (t) => {
  const keys = new Map([[templateKeyOf(SHAPE, FACTS), 'the first']]);
  const changes: [string, Partial<TemplateShape>, Partial<typeof FACTS>][] = [
    ['memory', { memoryMiB: 257 }, {}],
    ['CPUs', { cpus: 2 }, {}],
    ['the accelerator', { accel: 'kvm' }, {}],
    ['the CPU model', { cpuModel: 'max,-erms' }, {}],
    ["a word of the kernel's", { tscKhz: 2_000_000 }, {}],
    ['QEMU', {}, { qemu: '/usr/bin/qemu:2' }],
    ['kernel or initramfs', {}, { assets: '/k:1 /i:2' }],
    ["the host's CPU", {}, { cpu: 'model: 2' }],
  ];
  for (const [what, shape, facts] of changes) {
    const key = templateKeyOf({ ...SHAPE, ...shape }, { ...FACTS, ...facts });
    t.match(key, /^[0-9a-f]{32}$/);
    t.equal(keys.get(key), undefined, what);
    keys.set(key, what);
  }
  t.equal(templateKeyOf({ ...SHAPE }, FACTS), [...keys.keys()][0], 'the same again');
});

t.test('what a VM is called, and all else that is its own, makes none', async (t) => {
  const own = { hostname: 'a', title: 'b', layers: ['/x'], disks: [{}], network: {}, env: {} };
  t.equal(templateKeyOf({ ...SHAPE, ...own }, FACTS), templateKeyOf(SHAPE, FACTS));
});

t.test('files are told apart by what stat says of them', async (t) => {
  const folder = t.testdir({ qemu: 'q', kernel: 'k', initramfs: 'i' });
  const path = (name: string) => join(folder, name);
  const shape = {
    ...SHAPE,
    assets: { kernel: path('kernel'), initramfs: path('initramfs'), manifest: '/m' },
  };
  const keys = new Set([templateKey(shape, path('qemu'))]);
  t.equal(templateKey(shape, path('qemu')), [...keys][0]);
  for (const name of ['qemu', 'kernel', 'initramfs']) {
    writeFileSync(path(name), 'another');
    keys.add(templateKey(shape, path('qemu')));
  }
  t.equal(keys.size, 4);
});

t.test("the host's CPU: model and features of the first, not how fast it is just now", async (t) => {
  const cpu = (mhz: number, flags: string, model = 85) =>
    `processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: ${model}\nmodel name\t: x\nstepping\t: 7\ncpu MHz\t\t: ${mhz}\nflags\t\t: ${flags}\n\n`;
  t.equal(cpuOf(cpu(1000, 'fpu') + cpu(1, 'none')), cpuOf(cpu(3000, 'fpu')));
  t.not(cpuOf(cpu(1000, 'fpu')), cpuOf(cpu(1000, 'fpu avx')));
  t.not(cpuOf(cpu(1000, 'fpu')), cpuOf(cpu(1000, 'fpu', 86)));
  t.equal(cpuOf(''), '');
});

t.test('VMs without a template, and why', async (t) => {
  const rows: [ColdFacts, RegExp | null][] = [
    [{}, null],
    [{ shares: [], kernelWords: [], modules: {} }, null],
    [{ modules: { load: ['btrfs'] } }, null],
    [{ shares: [{ hostPath: '/x', path: '/y' }] }, /folders/],
    [{ gpu: { kind: 'bochs' } }, /graphics/],
    [{ hugepages: '2M' }, /huge pages/],
    [{ userNetwork: {} }, /user network/],
    [{ kernelWords: ['a=b'] }, /words/],
    [{ modules: { blacklist: ['e1000'] } }, /modules/],
    [{ modules: { options: { loop: 'max_loop=1' } } }, /modules/],
  ];
  for (const [facts, why] of rows) {
    if (why === null) t.equal(whyCold(facts), null, JSON.stringify(facts));
    else t.match(whyCold(facts), why, JSON.stringify(facts));
  }
});

t.test('the room that one may take: never more than its memory, and far less of much', async (t) => {
  const MIB = 1024 ** 2;
  t.equal(roomFor(128), 128 * MIB);
  // Measured: 85, 109, 119 and 297 MiB.
  for (const [memory, taken] of [
    [256, 85],
    [1536, 109],
    [2048, 119],
    [8192, 297],
  ] as const)
    t.ok(roomFor(memory) > 1.5 * taken * MIB, String(memory));
  t.ok(roomFor(64 * 1024) < (64 * 1024 * MIB) / 16);
});
