/** `ya-vm gpu` on trees made from data, with a stand-in for the kernel. */
import t from 'tap';
import { type GpuHost, gpuBind, gpuCheck, gpuList, gpuUnbind } from '../../host/cli/gpu.ts';
import { testContext } from '../lib/cli.ts';
import { AMD, CONSUMER, DATA_CENTRE, type FakeHost, FakeSysfs, INTEL, NO_CARD } from '../lib/fake-sysfs.ts';

function host(
  t: { teardown(work: () => void): unknown },
  description: FakeHost,
  busy = false,
): GpuHost & { fake: FakeSysfs } {
  const fake = new FakeSysfs(description);
  t.teardown(() => fake.remove());
  const user = () => ({ uid: 65534, gid: 65534, groups: [] });
  const facing = { roots: fake.roots, user, locker: { flock: () => !busy } };
  return { fake, facing, effects: fake.effects, gid: 107 };
}

t.test('list', async (t) => {
  const context = testContext();
  t.equal(await gpuList(context, {}, host(t, { functions: [...DATA_CENTRE, ...CONSUMER, ...INTEL] })), 0);
  t.strictSame(
    context
      .out()
      .trimEnd()
      .split('\n')
      .map((line) => line.trimEnd()),
    [
      'SLOT          VENDOR  KIND        IDS        DRIVER    GROUP  FUNCTIONS',
      '0000:00:02.0  intel   integrated  8086:4680  i915      -      1',
      '0000:01:00.0  nvidia  display     10de:1e87  nvidia    1      4',
      '0000:03:00.0  intel   display     8086:56a0  i915      -      1',
      '0000:17:00.0  nvidia  compute     10de:20b5  vfio-pci  12     1',
    ],
  );
  const none = testContext();
  t.equal(await gpuList(none, {}, host(t, { functions: NO_CARD })), 0);
  t.equal(none.out(), 'no graphics card\n');
  const json = testContext();
  await gpuList(json, { json: true }, host(t, { functions: AMD }));
  t.match(JSON.parse(json.out()), [{ slot: '0000:0b:00.0', vendor: 'amd', group: 30, functions: [{}, {}] }]);
});

t.test('check: the exit code, the words, JSON', async (t) => {
  const nodes = { vfio: 0o666, 12: 0o666, 30: 0o666 };
  const good = testContext();
  t.equal(await gpuCheck(good, {}, [], host(t, { functions: [...DATA_CENTRE, ...AMD], nodes })), 0);
  t.equal(good.out(), '✔ 0000:0b:00.0  can be passed to a VM\n✔ 0000:17:00.0  can be passed to a VM\n');
  const bad = testContext();
  t.equal(await gpuCheck(bad, { memory: 1024 }, ['01:00.1'], host(t, { functions: CONSUMER })), 1);
  t.match(bad.out(), /^✘ 0000:01:00\.0 {2}.*\(YAVM_E_GPU_DRIVER\)\n {4}sudo ya-vm gpu bind 0000:01:00\.0\n$/);
  const json = testContext();
  t.equal(await gpuCheck(json, { json: true }, [], host(t, { functions: INTEL.slice(1) })), 1);
  t.match(JSON.parse(json.out()), [{ slot: '0000:03:00.0', findings: [{ code: 'YAVM_E_GPU_IOMMU' }] }]);
  await t.rejects(gpuCheck(testContext(), {}, ['09:00.0'], host(t, { functions: AMD })), {
    code: 'YAVM_E_GPU_MISSING',
  });
});

t.test('bind: all functions, by override; the node for the group of /dev/kvm', async (t) => {
  const functions = CONSUMER.map((each) => ({ ...each, bootVga: false }));
  const { fake, ...rest } = host(t, { functions, vfio: false });
  const context = testContext();
  t.equal(await gpuBind(context, {}, '01:00.0', { ...rest }), 0);
  const device = (index: number) => `bus/pci/devices/0000:01:00.${index}`;
  const moved = (index: number, from: boolean) => [
    `${device(index)}/driver_override = "vfio-pci\\n"`,
    ...(from ? [`${device(index)}/driver/unbind = "0000:01:00.${index}"`] : []),
    `bus/pci/drivers_probe = "0000:01:00.${index}"`,
  ];
  t.strictSame(fake.done, [
    'modprobe vfio-pci',
    ...moved(0, true),
    ...moved(1, true),
    ...moved(2, true),
    ...moved(3, false),
    'vfio/1 to 107',
  ]);
  t.equal(
    context.out(),
    [
      '0000:01:00.0  nvidia → vfio-pci',
      '0000:01:00.1  snd_hda_intel → vfio-pci',
      '0000:01:00.2  xhci_hcd → vfio-pci',
      '0000:01:00.3  no driver → vfio-pci',
      '',
    ].join('\n'),
  );
  const again = testContext();
  await gpuBind(again, { json: true }, '01:00.0', { ...rest });
  t.match(JSON.parse(again.out())[0], { from: 'vfio-pci', to: 'vfio-pci' }, 'a second time changes nothing');
  const back = testContext();
  await gpuUnbind(back, {}, '01:00.0', { ...rest });
  t.equal(fake.driverOf('0000:01:00.0'), 'nvidia');
  t.equal(fake.driverOf('0000:01:00.3'), null, 'one that had no driver has none again');
  t.match(back.out(), /^0000:01:00\.0 {2}vfio-pci → nvidia\n/);
});

t.test('bind: what it refuses', async (t) => {
  const bind = (description: FakeHost, force = false, busy = false) => {
    const slot = description.functions.find((each) => each.class >> 16 === 3)?.slot as string;
    return gpuBind(testContext(), { force }, slot, host(t, description, busy));
  };
  await t.rejects(bind({ functions: CONSUMER }), {
    code: 'YAVM_E_GPU_BIND',
    message: /console/,
    hint: /--force/,
  });
  await t.resolves(bind({ functions: CONSUMER }, true));
  await t.rejects(bind({ functions: INTEL }), { code: 'YAVM_E_GPU_IOMMU' });
  await t.rejects(bind({ functions: AMD }, false, true), {
    code: 'YAVM_E_USAGE',
    message: /a VM has the card/,
  });
  const denied = host(t, { functions: DATA_CENTRE });
  denied.effects = {
    ...denied.effects,
    write: () => {
      throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
    },
  };
  await t.rejects(gpuBind(testContext(), {}, '17:00.0', denied), {
    code: 'YAVM_E_GPU_BIND',
    hint: /takes root/,
  });
  const stuck = host(t, { functions: DATA_CENTRE.map((each) => ({ ...each, driver: 'nvidia' })) });
  const { write } = stuck.effects;
  stuck.effects = { ...stuck.effects, write: (path, text) => path.endsWith('_probe') || write(path, text) };
  await t.rejects(gpuBind(testContext(), {}, '17:00.0', stuck), {
    code: 'YAVM_E_GPU_BIND',
    message: /no driver/,
  });
});
