import t from 'tap';
import { GuestError } from '../../guest/errors.ts';
import { mountLayerFrom } from '../../guest/gpu/layer.ts';
import { libraryVersions, moduleVersion } from '../../guest/gpu/nvidia.ts';
import { characterMajors, nodeRules, nvidiaNodes, parseCapability } from '../../guest/gpu/nvidia-nodes.ts';
import { setUpWith } from '../../guest/gpu/set-up.ts';
import {
  type FakeOptions,
  fakeGpu,
  layerFiles,
  layerOf,
  nvidiaCard,
  nvidiaProc,
  pciDevice,
} from '../lib/fake-gpu.ts';

const VERSION = '550.163.01';
const SLOT = '0000:01:00.0';
const H100 = pciDevice(SLOT, ['030200', '10de', '2330']);
const ROOT = { 'sbin/ldconfig': '', 'etc/group': 'root:x:0:\nvideo:x:44:\n' };

t.test("a data centre's card, with a layer: modules, nodes, libraries, in this order", async (t) => {
  const { context, done, warnings, fake } = fakeGpu({
    kernel: {
      ...H100,
      ...nvidiaProc(VERSION),
      ...nvidiaCard(SLOT, 'NVIDIA H100', 0),
      ...layerFiles(VERSION),
    },
    root: { ...ROOT, 'opt/ya-vm/driver/bin/nvidia-smi': '' },
    links: { [`/sys/bus/pci/devices/${SLOT}/driver`]: '../../../bus/pci/drivers/nvidia' },
  });
  const gpus = await setUpWith(context, {}, mountLayerFrom(context, '/dev/vdc'));
  t.strictSame(gpus, [
    {
      ...{ slot: SLOT, vendor: 0x10de, device: 0x2330, driver: 'nvidia' },
      nodes: ['/dev/nvidia0', '/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia-uvm-tools'],
    },
  ]);
  t.strictSame(done(), [
    'mount /dev/vdc squashfs',
    'modules of the layer',
    'write /sys/module/firmware_class/parameters/path /driver/lib/firmware',
    'load nvidia NVreg_NvLinkDisable=1',
    'load nvidia_uvm',
    'mknod /dev/nvidia0 195:0 666',
    'chmod nvidia0 666',
    'mknod /dev/nvidiactl 195:255 666',
    'chmod nvidiactl 666',
    'mknod /dev/nvidia-uvm 511:0 666',
    'chmod nvidia-uvm 666',
    'mknod /dev/nvidia-uvm-tools 511:1 666',
    'chmod nvidia-uvm-tools 666',
    'mount /driver/usr bind',
    'link usr/bin/nvidia-smi /opt/ya-vm/driver/bin/nvidia-smi',
    'link etc/OpenCL/vendors/nvidia.icd /opt/ya-vm/driver/share/OpenCL/vendors/nvidia.icd',
    'text /opt/ya-vm/driver/lib/x86_64-linux-gnu\n',
    'run /sbin/ldconfig -X /opt/ya-vm/driver/lib/x86_64-linux-gnu',
    'run /opt/ya-vm/driver/bin/nvidia-smi -pm 1',
  ]);
  t.strictSame(warnings, []);
  t.strictSame([...fake.open.values()], ['/driver'], 'only the source of modules stays open');
});

t.test('a card of a consumer, before 550, with graphics; its audio is no card', async (t) => {
  const folder = `/sys/bus/pci/devices/${SLOT}`;
  const { context, done } = fakeGpu({
    kernel: {
      ...pciDevice(SLOT, ['030000', '10de', '2684']),
      ...pciDevice('0000:01:00.1', ['040300', '10de', '22ba']),
      ...nvidiaProc('535.183.01', 'nvidia-frontend'),
      ...{ [`${folder}/drm/card0/dev`]: '226:0\n', [`${folder}/drm/renderD128/dev`]: '226:128\n' },
    },
    root: { 'etc/group': 'video:x:44:\nrender:x:105:ann\n' },
  });
  const [gpu, ...others] = await setUpWith(context, { graphics: true }, null);
  t.strictSame(others, []);
  t.strictSame(gpu?.nodes, [
    ...['/dev/nvidia0', '/dev/nvidiactl', '/dev/nvidia-modeset', '/dev/nvidia-uvm', '/dev/nvidia-uvm-tools'],
    ...['/dev/dri/card0', '/dev/dri/renderD128'],
  ]);
  t.strictSame(
    done().filter((step) => !step.includes(' nvidia') || step.startsWith('load')),
    [
      'load nvidia NVreg_NvLinkDisable=1',
      'load nvidia_uvm',
      'load nvidia_modeset',
      'load nvidia_drm modeset=1',
      ...done().filter((step) => step.startsWith('mknod')),
      'chown dri/card0 0:44',
      'chmod dri/card0 666',
      'chown dri/renderD128 0:105',
      'chmod dri/renderD128 660',
    ],
  );
  t.ok(done().includes('mknod /dev/nvidia-modeset 195:254 666'));
});

t.test('two cards: NVLink stays, and minors are the driver’s, not the order of slots', async (t) => {
  const second = '0000:02:00.0';
  const { context, done } = fakeGpu({
    kernel: {
      ...{ ...H100, ...pciDevice(second, ['030200', '10de', '2330']), ...nvidiaProc(VERSION) },
      ...{ ...nvidiaCard(SLOT, 'NVIDIA H100', 1), ...nvidiaCard(second, 'NVIDIA H100', 0) },
    },
  });
  const gpus = await setUpWith(context, {}, null);
  t.strictSame(
    gpus.map(({ slot, nodes }) => [slot, nodes[0]]),
    [
      [SLOT, '/dev/nvidia1'],
      [second, '/dev/nvidia0'],
    ],
  );
  t.equal(done()[0], 'load nvidia');
});

t.test("MIG: nodes of capabilities, with each one's own mode", async (t) => {
  const top = '/proc/driver/nvidia/capabilities';
  const capability = (minor: number, mode: number) =>
    `DeviceFileMinor: ${minor}\nDeviceFileMode: ${mode}\nDeviceFileModify: 1\n`;
  const { context, done } = fakeGpu({
    kernel: {
      ...{ ...H100, ...nvidiaProc(VERSION) },
      [`${top}/mig/config`]: capability(1, 256),
      [`${top}/mig/monitor`]: capability(2, 256),
      [`${top}/gpu0/mig/gi1/access`]: capability(12, 292),
      [`${top}/gpu0/mig/gi1/ci0/access`]: capability(13, 292),
    },
  });
  const [gpu] = await setUpWith(context, {}, null);
  t.strictSame(
    done().filter((step) => step.startsWith('mknod /dev/nvidia-caps')),
    [
      'mknod /dev/nvidia-caps/nvidia-cap12 234:12 444',
      'mknod /dev/nvidia-caps/nvidia-cap13 234:13 444',
      'mknod /dev/nvidia-caps/nvidia-cap1 234:1 400',
      'mknod /dev/nvidia-caps/nvidia-cap2 234:2 400',
    ],
  );
  t.ok(gpu?.nodes.includes('/dev/nvidia-caps/nvidia-cap13'));
});

t.test("the host's own parameter holds; nodes that the driver keeps to itself are not made", async (t) => {
  const proc = nvidiaProc(VERSION);
  const { context, done, warnings } = fakeGpu({
    kernel: { ...H100, ...proc, '/proc/driver/nvidia/params': 'ModifyDeviceFiles: 0\n' },
  });
  const [gpu] = await setUpWith(context, { nvidiaParameters: 'NVreg_NvLinkDisable=0' }, null);
  t.strictSame(done(), ['load nvidia', 'load nvidia_uvm']);
  t.strictSame(gpu?.nodes, []);
  t.match(warnings, [/NVreg_ModifyDeviceFiles=0/]);
});

t.test('what does not fit is an error that names it', async (t) => {
  const kernel = { ...H100, ...nvidiaProc(VERSION), ...layerFiles('535.183.01') };
  const other = fakeGpu({ kernel });
  await t.rejects(setUpWith(other.context, {}, layerOf('535.183.01')), {
    code: 'gpu-failed',
    message: /modules are of version 550\.163\.01, the driver layer .* 535\.183\.01/,
  });
  t.throws(
    () =>
      mountLayerFrom(
        fakeGpu({
          kernel,
          replace: { uname: () => ({ release: '6.12.0', version: '', machine: '', nodename: '' }) },
        }).context,
        '/dev/vdc',
      ),
    { code: 'gpu-failed', message: /for kernel 6\.1\.0-56-amd64, this VM runs 6\.12\.0/ },
  );
  for (const manifest of ['{', '{}', 'null', '{"driverVersion":"a b","kernelRelease":"x"}']) {
    const broken = fakeGpu({ kernel: { ...kernel, '/driver/manifest.json': manifest } });
    t.throws(() => mountLayerFrom(broken.context, '/dev/vdc'), { code: 'gpu-failed' }, manifest);
  }
  const refused = fakeGpu({
    kernel,
    onLoad: () => {
      throw new GuestError('module-failed', "kernel module 'nvidia' cannot be loaded", { errno: 'ENODEV' });
    },
  });
  await t.rejects(setUpWith(refused.context, {}, null), { code: 'gpu-failed', message: /Turing and newer/ });
  const noCard = (onLoad: FakeOptions['onLoad']) => {
    const { context } = fakeGpu({ kernel: layerFiles(VERSION), onLoad });
    return setUpWith(context, {}, layerOf(VERSION));
  };
  const says = "kernel module 'nvidia' cannot be loaded: NVRM: No NVIDIA GPU found.";
  await t.rejects(
    noCard(() => {
      throw new GuestError('module-failed', says, { errno: 'ENODEV' });
    }),
    {
      code: 'gpu-failed',
      message: `there is no graphics card on this VM's PCI bus: pass one with the driver layer. NVIDIA's driver ${VERSION} says: ${says}`,
    },
  );
  await t.rejects(
    noCard(() => {}),
    { message: /has nothing to drive/ },
  );
  const silent = fakeGpu({ kernel: { ...kernel, '/proc/devices': 'Character devices:\n  1 mem\n' } });
  await t.rejects(setUpWith(silent.context, {}, null), {
    code: 'gpu-failed',
    message: /registered no device/,
  });
});

t.test('an image without ldconfig, or with one that hangs, gets links where its linker looks', async (t) => {
  for (const [root, exit] of [
    [{}, 0],
    [ROOT, null],
  ] as const) {
    const { context, done, warnings } = fakeGpu({
      kernel: { ...H100, ...nvidiaProc(VERSION), ...layerFiles(VERSION) },
      root,
      exit,
      // A minute a look.
      replace: { monotonic: monotonicBy(60_000) },
    });
    await setUpWith(context, {}, layerOf(VERSION));
    t.ok(done().includes('link usr/lib/libcuda.so.1 /opt/ya-vm/driver/lib/x86_64-linux-gnu/libcuda.so.1'));
    t.equal(done().includes('kill'), exit === null);
    t.equal(warnings.length, exit === null ? 1 : 0);
  }
});

t.test('cards are kept awake: the daemon first, the tool where that is not there or fails', async (t) => {
  const daemon = 'opt/ya-vm/driver/bin/nvidia-persistenced';
  const tool = 'opt/ya-vm/driver/bin/nvidia-smi';
  const kernel = { ...H100, ...nvidiaProc(VERSION), ...layerFiles(VERSION) };
  const keepers = async (root: Record<string, string>, exit?: number) => {
    const { context, done, warnings } = fakeGpu({ kernel, root, exit });
    await setUpWith(context, {}, layerOf(VERSION));
    return { runs: done().filter((step) => step.startsWith('run /opt')), warnings };
  };
  t.strictSame(await keepers({ [daemon]: '', [tool]: '' }), {
    runs: [`run /${daemon} --uvm-persistence-mode`],
    warnings: [],
  });
  t.strictSame((await keepers({ [tool]: '' })).runs, [`run /${tool} -pm 1`]);
  t.strictSame((await keepers({})).runs, []);
  const failing = await keepers({ [daemon]: '', [tool]: '' }, 1);
  t.strictSame(failing.runs, [`run /${daemon} --uvm-persistence-mode`, `run /${tool} -pm 1`]);
  t.match(failing.warnings, [
    /nvidia-persistenced ended with 1: cards start anew/,
    /nvidia-smi ended with 1/,
  ]);
});

t.test('texts of the driver', (t) => {
  t.equal(
    moduleVersion('NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n'),
    '535.183.01',
  );
  t.equal(
    moduleVersion('NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.64  Release'),
    '575.64',
  );
  t.equal(moduleVersion('nothing'), null);
  t.strictSame(libraryVersions(['libcuda.so.1', 'libcuda.so.550.54.14', 'libnvidia-ml.so.550.54.14']), [
    '550.54.14',
  ]);
  t.equal(characterMajors('Character devices:\n195 a\n\nBlock devices:\n259 b\n').get('b'), undefined);
  t.strictSame(nodeRules(null), { mode: 0o666, uid: 0, gid: 0, modify: true });
  t.strictSame(nodeRules('DeviceFileMode: 432\nDeviceFileGID: 44\n'), {
    mode: 0o660,
    uid: 0,
    gid: 44,
    modify: true,
  });
  t.equal(parseCapability('garbage'), null);
  const input = { majors: new Map(), rules: nodeRules(null), minors: [0], capabilities: [], graphics: false };
  t.equal(nvidiaNodes(input), null);
  t.end();
});

function monotonicBy(step: number): () => number {
  let now = 0;
  return () => {
    now += step;
    return now;
  };
}
