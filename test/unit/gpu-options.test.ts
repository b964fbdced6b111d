/** Which cards a VM gets, by the command line, upstream's words and the environment. */

import { resolve } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { addGpuOptions, readGpuOptions } from '../../host/cli/gpu-option.ts';
import { pciDevices, providerGpu } from '../../host/gpu/options.ts';

const pci = (...slots: string[]) => ({ gpu: { kind: 'pci' as const, slots } });

t.test("a provider's: our option, then upstream's words, then the environment", async (t) => {
  const env = { YA_RUNTIME_VM_PCI_DEVICE: '03:00.0' };
  t.strictSame(providerGpu({}, {}), {});
  t.strictSame(providerGpu({}, { YA_RUNTIME_VM_PCI_DEVICE: '' }), {});
  t.strictSame(providerGpu({}, env), pci('0000:03:00.0'));
  t.strictSame(providerGpu({ runtimeArg: ['--pci-device', '02:00.0'] }, env), pci('0000:02:00.0'));
  t.strictSame(
    providerGpu(
      { pciDevice: ['01:00.0', '0001:01:00.0', '0000:01:00.0'], runtimeArg: ['--pci-device=x'] },
      env,
    ),
    pci('0000:01:00.0', '0001:01:00.0'),
  );
  t.strictSame(providerGpu({}, { ...env, YA_VM_DRIVER_LAYER: '/d' }), {
    ...pci('0000:03:00.0'),
    driverLayer: '/d',
  });
  t.strictSame(providerGpu({}, { YA_VM_DRIVER_LAYER: '/d' }), {}, 'without a card no driver');
  const pages = { YA_VM_HUGEPAGES: '1G' };
  t.strictSame(providerGpu({}, pages), { hugepages: '1G' }, 'huge pages are for VMs without cards too');
  t.strictSame(providerGpu({}, { ...env, ...pages }), { ...pci('0000:03:00.0'), hugepages: '1G' });
  t.strictSame(providerGpu({ hugepages: 'off' }, pages), {}, 'the option counts');
  t.strictSame(providerGpu({ hugepages: '2M' }, pages), { hugepages: '2M' });
  for (const [given, variables] of [
    [{ hugepages: '4K' }, {}],
    [{}, { YA_VM_HUGEPAGES: 'yes' }],
  ])
    t.throws(() => providerGpu(given as Record<string, unknown>, variables as Record<string, string>), {
      code: 'YAVM_E_USAGE',
      message: /is no size of huge pages/,
    });
  t.throws(() => providerGpu({}, { YA_RUNTIME_VM_PCI_DEVICE: 'gpu' }), { code: 'YAVM_E_USAGE' });
  t.strictSame(pciDevices(['a', '--pci-device=x', '--pci-device', 'y', 'b']), {
    slots: ['x', 'y'],
    others: 2,
  });
  t.throws(() => pciDevices(['--pci-device']), { code: 'YAVM_E_USAGE', message: /address is missing/ });
});

t.test('--gpu of run and shell', async (t) => {
  const read = (...words: string[]) => {
    const command = new Command().exitOverride();
    addGpuOptions(command);
    return readGpuOptions(command.parse(words, { from: 'user' }).opts());
  };
  t.strictSame(read(), {});
  t.strictSame(read('--gpu', 'virtio'), { gpu: { kind: 'virtio' } });
  t.strictSame(read('--hugepages', '2M', '--gpu', 'virtio'), { hugepages: '2M', gpu: { kind: 'virtio' } });
  t.strictSame(readGpuOptions({}, { YA_VM_HUGEPAGES: '2M' }), { hugepages: '2M' });
  t.strictSame(read('--gpu=bochs', '--driver-layer', 'd'), {
    gpu: { kind: 'bochs' },
    driverLayer: resolve('d'),
  });
  t.strictSame(
    read('--gpu', '01:00.0', '--gpu', '02:00.0', '--gpu', '0000:01:00.0'),
    pci('0000:01:00.0', '0000:02:00.0'),
  );
  for (const words of [
    ['--gpu', 'all'],
    ['--gpu', 'virtio', '--gpu', '01:00.0'],
    ['--gpu', 'virtio', '--gpu', 'virtio'],
  ]) {
    t.throws(() => read(...words), { code: 'YAVM_E_USAGE' }, words.join(' '));
  }
});
