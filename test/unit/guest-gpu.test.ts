import t from 'tap';
import { GuestError } from '../../guest/errors.ts';
import { findCards } from '../../guest/gpu/cards.ts';
import { DrmWait } from '../../guest/gpu/drm-wait.ts';
import { setUpWith } from '../../guest/gpu/set-up.ts';
import { addFile, type FakeOptions, fakeGpu, pciDevice } from '../lib/fake-gpu.ts';
import { systemError } from '../lib/fake-native.ts';

const SLOT = '0000:00:02.0';
const FOLDER = `/sys/bus/pci/devices/${SLOT}`;

t.test('cards of the kernel’s own drivers', async (t) => {
  const CASES = [
    { kind: ['030000', '1002', '73bf'], module: 'amdgpu', nodes: ['card0', 'renderD128'] },
    { kind: ['030000', '8086', '56a0'], module: 'i915', nodes: ['card0', 'renderD128'] },
    { kind: ['038000', '1234', '1111'], module: 'bochs', nodes: ['card0'] },
  ] as const;
  for (const { kind, module, nodes } of CASES) {
    const { context, done, fake } = fakeGpu({
      kernel: pciDevice(SLOT, [...kind]),
      aliases: { [`pci:v0000${kind[1].toUpperCase()}d0000${kind[2].toUpperCase()}`]: [module] },
      onLoad: (_name, files) => {
        for (const node of [...nodes, 'version']) addFile(files, `${FOLDER}/drm/${node}/dev`, '');
      },
      links: { [`${FOLDER}/driver`]: `../../bus/pci/drivers/${module}` },
    });
    const gpus = await setUpWith(context, {}, null);
    t.strictSame(gpus, [
      {
        ...{ slot: SLOT, vendor: Number.parseInt(kind[1], 16), device: Number.parseInt(kind[2], 16) },
        ...{ driver: module, nodes: nodes.map((node) => `/dev/dri/${node}`) },
      },
    ]);
    t.strictSame(done(), [`load ${module}`, ...nodes.map((node) => `chmod dri/${node} 666`)]);
    t.equal(fake.open.size, 0);
  }
});

t.test('virtio-gpu: the driver by name, nodes on the bus behind, groups that have members', async (t) => {
  const { context, done } = fakeGpu({
    kernel: pciDevice(SLOT, ['038000', '1af4', '1050']),
    root: { 'etc/group': 'video:x:44:ann\nrender:x:105:\n' },
    onLoad: (_name, files) => {
      for (const node of ['card0', 'renderD128']) addFile(files, `${FOLDER}/virtio3/drm/${node}/dev`, '');
    },
    links: {
      [`${FOLDER}/driver`]: '../../bus/pci/drivers/virtio-pci',
      [`${FOLDER}/virtio3/driver`]: '../../../bus/virtio/drivers/virtio_gpu',
    },
  });
  const [gpu] = await setUpWith(context, {}, null);
  t.match(gpu, { driver: 'virtio_gpu', nodes: ['/dev/dri/card0', '/dev/dri/renderD128'] });
  t.strictSame(done(), [
    'load virtio_gpu',
    'chown dri/card0 0:44',
    'chmod dri/card0 660',
    'chown dri/renderD128 0:105',
    'chmod dri/renderD128 666',
  ]);
});

t.test('no card, one without a driver, and one beside it that works', async (t) => {
  const none = fakeGpu({ kernel: pciDevice('0000:00:01.0', ['060100', '8086', '7000']) });
  await t.rejects(setUpWith(none.context, {}, null), { code: 'gpu-failed', message: /no graphics card/ });
  const unknown = fakeGpu({ kernel: pciDevice(SLOT, ['030000', '1013', '00b8']) });
  await t.rejects(setUpWith(unknown.context, {}, null), {
    code: 'gpu-failed',
    message: /^0000:00:02\.0 \(1013:00b8\): no driver works$/,
  });
  const other = '0000:00:03.0';
  const both = fakeGpu({
    kernel: {
      ...pciDevice(SLOT, ['030000', '1002', '73bf']),
      ...pciDevice(other, ['038000', '1234', '1111']),
    },
    onLoad: (name, files) => {
      if (name === 'amdgpu') throw new GuestError('module-failed', 'no firmware', { errno: 'ENOENT' });
      addFile(files, `/sys/bus/pci/devices/${other}/drm/card0/dev`, '');
    },
  });
  const gpus = await setUpWith(both.context, {}, null);
  t.strictSame(
    gpus.map(({ slot }) => slot),
    [other],
  );
  t.match(both.warnings, [/0000:00:02\.0 \(1002:73bf\): no driver works: no firmware/]);
});

t.test('what sysfs may hold besides cards', (t) => {
  const { context } = fakeGpu({
    kernel: {
      ...pciDevice(SLOT, ['030000', '1234', '1111']),
      ...pciDevice('0000:00:04.0', ['0300', 'x', 'y']),
      '/sys/bus/pci/devices/0000:00:05.0/class': 'garbage',
    },
  });
  t.equal(findCards(context.native, '/sys').length, 1);
  t.end();
});

/** A bochs card whose driver loads and makes nothing by itself; what the kernel announces is in the test's hand. */
function silentCard(links: Record<string, string> = {}) {
  const events: (string | Error)[] = [];
  let wake: (() => void) | null = null;
  let files: Parameters<NonNullable<FakeOptions['onLoad']>>[1] = {};
  const gpu = fakeGpu({
    kernel: pciDevice(SLOT, ['038000', '1234', '1111']),
    links,
    onLoad: (_name, all) => {
      files = all;
    },
    replace: {
      ueventOpen: () => {
        gpu.fake.open.set(9, 'uevents');
        return 9;
      },
      ueventRead: () => {
        const next = events.shift() ?? null;
        if (next instanceof Error) throw next;
        return next;
      },
      watch: (_fd, _events, callback) => {
        wake = () => callback(1);
      },
      unwatch: () => {
        wake = null;
      },
    },
  });
  const announce = (...news: (string | Error)[]) => {
    events.push(...news);
    wake?.();
  };
  const node = (name: string) => addFile(files, `${FOLDER}/drm/${name}/dev`, '');
  return { ...gpu, announce, node, listens: () => wake !== null };
}

t.test('nodes that come after the driver has loaded: as they are announced, all of them', async (t) => {
  const { context, fake, announce, node, listens } = silentCard();
  const ready = setUpWith(context, {}, null);
  t.ok(listens());
  announce('add@/devices/pci0000:00/0000:00:07.0/drm/card3\0SUBSYSTEM=drm\0');
  node('renderD128');
  announce(`add@/devices/pci0000:00/${SLOT}/drm/renderD128\0SUBSYSTEM=drm\0`);
  t.ok(listens(), 'the other node is to come');
  node('card0');
  announce(`add@/devices/pci0000:00/${SLOT}/drm/card0\0SUBSYSTEM=drm\0`);
  const [gpu] = await ready;
  t.strictSame(gpu?.nodes, ['/dev/dri/card0', '/dev/dri/renderD128']);
  t.notOk(listens());
  t.equal(fake.open.size, 0);
});

t.test('announcements that were lost, and a socket that fails', async (t) => {
  const lost = silentCard();
  const ready = setUpWith(lost.context, {}, null);
  lost.node('card0');
  lost.announce(systemError('ENOBUFS', 'recvmsg'));
  t.match(await ready, [{ nodes: ['/dev/dri/card0'] }]);
  const failing = silentCard();
  const later = setUpWith(failing.context, {}, null);
  failing.announce(systemError('EBADF', 'recvmsg'));
  t.notOk(failing.listens(), 'no busy loop');
  failing.node('card0');
  t.match(await later, [{ nodes: ['/dev/dri/card0'] }], 'at the deadline');
});

t.test(
  'a driver that makes no node: which one, whether it took the card, and what the kernel said',
  async (t) => {
    const CASES: [links: Record<string, string>, message: RegExp][] = [
      [{}, /^0000:00:02\.0 \(1234:1111\): no driver works: bochs has loaded and did not take the card/],
      [
        { [`${FOLDER}/driver`]: '../../bus/pci/drivers/bochs-drm' },
        /no driver works: bochs-drm has the card and made no node in \/dev\/dri/,
      ],
    ];
    for (const [links, message] of CASES) {
      const { context, fake } = silentCard(links);
      await t.rejects(setUpWith(context, {}, null), { code: 'gpu-failed', message });
      t.equal(fake.open.size, 0);
    }
    const { context } = fakeGpu({
      kernel: pciDevice(SLOT, ['030000', '1234', '1111']),
      replace: {
        ueventOpen: () => {
          throw systemError('EPROTONOSUPPORT', 'socket');
        },
      },
    });
    const [card] = findCards(context.native, '/sys');
    if (card) t.strictSame(await new DrmWait(context.native, card).nodes(5), [], 'without netlink');
  },
);
