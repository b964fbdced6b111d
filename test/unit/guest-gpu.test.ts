import t from 'tap';
import { GuestError } from '../../guest/errors.ts';
import { findCards } from '../../guest/gpu/cards.ts';
import { waitForDrmNodes } from '../../guest/gpu/drm.ts';
import { setUpWith } from '../../guest/gpu/set-up.ts';
import { addFile, fakeGpu, pciDevice } from '../lib/fake-gpu.ts';

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
    message: /no driver works for 0000:00:02\.0 \(1013:00b8\)/,
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

t.test('the wait for nodes ends, and sysfs may hold anything', async (t) => {
  const { context } = fakeGpu({
    kernel: {
      ...pciDevice(SLOT, ['030000', '1234', '1111']),
      ...pciDevice('0000:00:04.0', ['0300', 'x', 'y']),
      '/sys/bus/pci/devices/0000:00:05.0/class': 'garbage',
    },
  });
  const cards = findCards(context.native, '/sys');
  t.equal(cards.length, 1);
  const [card] = cards;
  if (card) t.strictSame(await waitForDrmNodes(context.native, card, 5), []);
});
