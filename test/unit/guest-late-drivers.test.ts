/** Drivers that hold back from a snapshot's devices, and take them when these are real. */
import t from 'tap';
import { bindDevices, holdDrivers } from '../../guest/boot/late-drivers.ts';
import { type Fake, fakeNative, systemError } from '../lib/fake-native.ts';

const FILES = {
  '/sys/bus/virtio/devices': ['virtio10', 'virtio2', 'virtio1', 'other'],
  '/sys/bus/pci/devices/0000:00:04.0': ['virtio2', 'config', 'virtio-ish'],
  '/sys/bus/pci/devices/0000:00:08.0': ['virtio10', 'vendor'],
  '/sys/bus/pci/devices/0000:00:1e.0': ['config'],
};

const written = (fake: Fake) => fake.only('writeText').map(([, , path, text]) => [path, text]);
const PROBE = '/sys/bus/virtio/drivers_probe';
const AUTOPROBE = '/sys/bus/virtio/drivers_autoprobe';

t.test('held back, by one word', async (t) => {
  const fake = fakeNative(FILES);
  holdDrivers(fake.native);
  t.strictSame(written(fake), [[AUTOPROBE, '0']]);
  const refused = fakeNative(FILES, {
    writeText: () => {
      throw systemError('EACCES', 'open', AUTOPROBE);
    },
  });
  t.throws(() => holdDrivers(refused.native), {
    code: 'module-failed',
    errno: 'EACCES',
    message: /held back/,
  });
});

t.test('those in the slots of this VM, and then whatever comes', async (t) => {
  const fake = fakeNative(FILES);
  bindDevices(fake.native, [4, 8, 0x1e, 0x1f]);
  t.strictSame(written(fake), [
    [PROBE, 'virtio2'],
    [PROBE, 'virtio10'],
    [AUTOPROBE, '1'],
  ]);
  t.equal(fake.open.size, 0);
  const none = fakeNative(FILES);
  bindDevices(none.native, []);
  t.strictSame(written(none), [[AUTOPROBE, '1']], 'no device is touched that is none of its own');
});

t.test('all of them, by number, where the host names no slots', async (t) => {
  const fake = fakeNative(FILES);
  bindDevices(fake.native, undefined);
  t.strictSame(
    written(fake).map(([, text]) => text),
    ['virtio1', 'virtio2', 'virtio10', '1'],
  );
});

t.test('a device that no driver wants is left; another error has the device in it', async (t) => {
  for (const code of ['EINVAL', 'ENODEV', 'EIO']) {
    const texts: unknown[] = [];
    const fake = fakeNative(FILES, {
      writeText: (_root: number, _path: string, text: string) => {
        texts.push(text);
        if (text === 'virtio2') throw systemError(code, 'write');
      },
    });
    const bind = () => bindDevices(fake.native, [4, 8]);
    if (code === 'EIO')
      t.throws(bind, { code: 'module-failed', errno: 'EIO', message: /'virtio2'/ }, 'EIO is told');
    else {
      bind();
      t.strictSame(texts, ['virtio2', 'virtio10', '1'], code);
    }
  }
  const unreadable = fakeNative(FILES, {
    open: () => {
      throw systemError('EACCES', 'open');
    },
  });
  t.throws(() => bindDevices(unreadable.native, undefined), { code: 'module-failed', message: /listed/ });
});
