import t from 'tap';
import type { ModuleLoader } from '../../guest/boot/modules.ts';
import { coldPlug, hotPlug } from '../../guest/boot/plug.ts';
import { fakeNative } from '../lib/fake-native.ts';

function fakeModules(failing = false) {
  const asked: string[] = [];
  const modules = {
    buses: () => new Set(['pci', 'virtio']),
    loadAlias: (alias: string) => {
      if (failing) throw new Error('unreadable');
      asked.push(alias);
      return [alias];
    },
    rest: () => asked.push('rest'),
  } as unknown as ModuleLoader;
  return { asked, modules };
}

t.test('the walk asks for every device of every bus that has drivers, and then rests', async (t) => {
  const { native } = fakeNative({
    '/sys/bus': ['virtio', 'usb', 'pci'],
    '/sys/bus/pci/devices': ['b', 'a'],
    '/sys/bus/pci/devices/a/modalias': 'pci:a\n',
    '/sys/bus/pci/devices/b/modalias': 'pci:b\n',
    '/sys/bus/virtio/devices': ['virtio0'],
    '/sys/bus/virtio/devices/virtio0/modalias': 'virtio:d1\n',
  });
  const { asked, modules } = fakeModules();
  await coldPlug({ native, modules, onFailure: (error) => t.fail(String(error)) });
  t.strictSame(asked, ['pci:a', 'pci:b', 'virtio:d1', 'rest']);
});

t.test('an announcement asks for its device, and a failure is only told of', (t) => {
  for (const failing of [false, true]) {
    const queue = ['add@/x\0MODALIAS=pci:late\0'];
    let wake = (_events: number): void => {};
    const { native } = fakeNative(
      {},
      {
        ueventOpen: () => 7,
        ueventRead: () => queue.shift() ?? null,
        watch: (_fd, _events, callback) => {
          wake = callback;
        },
      },
    );
    const { asked, modules } = fakeModules(failing);
    const failures: unknown[] = [];
    hotPlug({ native, modules, onFailure: (error) => failures.push(error) });
    wake(1);
    t.strictSame([asked, failures.length], failing ? [[], 1] : [['pci:late', 'rest'], 0]);
  }
  t.end();
});
