import t from 'tap';
import { MODULE_SETS } from '../../guest/boot/module-sets.ts';
import { loadEarlyModules, ModuleLoader, moduleName, parseDependencies } from '../../guest/boot/modules.ts';
import { type Fake, fakeNative, systemError } from '../lib/fake-native.ts';

const FOLDER = 'lib/modules/6.1.0';
const DEP = `kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
`;
const BUILTIN = 'kernel/fs/ext4/ext4.ko\nkernel/net/ipv6/ipv6.ko\n';

function loaderWith(loadModule: (fake: Fake, fd: number) => void = () => {}): {
  fake: Fake;
  loader: ModuleLoader;
} {
  const files: Record<string, string> = {
    [`${FOLDER}/modules.dep`]: DEP,
    [`${FOLDER}/modules.builtin`]: BUILTIN,
  };
  for (const { path } of parseDependencies(DEP).values()) files[`${FOLDER}/${path}`] = '';
  const fake: Fake = fakeNative(files, { loadModule: (fd) => loadModule(fake, fd) });
  return { fake, loader: new ModuleLoader(fake.native, 3, '6.1.0') };
}

/** Names of the modules that were loaded, with the flags of the call. */
function loaded(fake: Fake): string[] {
  const paths = fake.only('openBeneath').map(([, , path]) => path as string);
  const modules = paths.filter((path) => path.includes('.ko'));
  return fake
    .only('loadModule')
    .map(([, , , flags], index) => `${moduleName(modules[index] as string)}:${flags}`);
}

t.test('dependencies load first, the deepest first, each module once', (t) => {
  const { fake, loader } = loaderWith();
  loader.loadFor('ports');
  t.strictSame(loaded(fake), [
    'virtio_ring:0',
    'virtio:0',
    'virtio_pci_modern_dev:0',
    'virtio_pci:0',
    'virtio_console:0',
  ]);
  loader.loadFor('ports');
  t.equal(fake.only('loadModule').length, 5, 'a second time costs nothing');
  t.equal(fake.only('readText').filter(([, , path]) => `${path}`.endsWith('modules.dep')).length, 1);
  t.equal(fake.open.size, 0, 'every descriptor is closed');
  t.end();
});

t.test('compressed modules are left to the kernel; dashes are underscores', (t) => {
  const { fake, loader } = loaderWith();
  loader.load('virtio_rng');
  t.strictSame(loaded(fake).pop(), 'virtio_rng:4');
  t.end();
});

t.test('a module that is loaded already, or built in, is fine', (t) => {
  const { loader } = loaderWith(() => {
    throw systemError('EEXIST', 'finit_module');
  });
  loader.load('virtio_pci');
  const plain = loaderWith();
  plain.loader.load('ext4');
  t.strictSame(plain.fake.only('loadModule'), []);
  t.end();
});

t.test('a missing module and a refused one are errors with its name', (t) => {
  const { loader } = loaderWith();
  t.throws(() => loader.load('squashfs'), {
    code: 'module-failed',
    message: /'squashfs' is neither/,
    path: `/${FOLDER}`,
  });
  const refused = loaderWith((fake, fd) => {
    if (fake.open.get(fd)?.endsWith('virtio.ko')) throw systemError('ENOEXEC', 'finit_module');
  });
  t.throws(() => refused.loader.load('virtio_pci'), {
    code: 'module-failed',
    errno: 'ENOEXEC',
    syscall: 'finit_module',
    message: /'virtio' .*needed by 'virtio_pci'/,
  });
  t.equal(refused.fake.open.size, 0);
  t.throws(
    () => refused.loader.load('virtio_pci'),
    { code: 'module-failed', errno: 'ENOEXEC' },
    'a failure is not remembered as success',
  );
  t.end();
});

t.test('optional modules: absent, built in, or without their device', (t) => {
  const { fake, loader } = loaderWith();
  t.equal(loader.loadOptional('pvpanic_pci'), false);
  t.equal(loader.loadOptional('ipv6'), true);
  t.equal(loader.loadOptional('virtio_console'), true);
  t.equal(loaded(fake).pop(), 'virtio_console:0');
  const without = loaderWith(() => {
    throw systemError('ENODEV', 'finit_module');
  });
  t.equal(without.loader.loadOptional('virtio_console'), false);
  t.throws(
    () =>
      loaderWith(() => {
        throw systemError('EPERM', 'finit_module');
      }).loader.loadOptional('virtio_console'),
    { code: 'module-failed', errno: 'EPERM' },
  );
  t.end();
});

t.test('a kernel without any lists has everything built in, or nothing', (t) => {
  const fake = fakeNative({}, { uname: () => ({ release: 'x', version: '', machine: '', nodename: '' }) });
  t.throws(() => loadEarlyModules(fake.native, 3), { code: 'module-failed', message: /virtio_pci/ });
  t.end();
});

t.test('module names and dependency lines', (t) => {
  t.equal(moduleName('kernel/a-b/virtio-rng.ko.zst'), 'virtio_rng');
  t.equal(moduleName('ext4'), 'ext4');
  t.equal(parseDependencies('').size, 0);
  t.equal(
    parseDependencies('no colon\n: x\nk/a.ko:').size,
    1,
    'damaged lines are skipped, a last line may lack its end',
  );
  t.end();
});

t.test('the sets name each module once, with a reason', (t) => {
  for (const [purpose, { required, why }] of Object.entries(MODULE_SETS)) {
    t.ok(why.length > 10, purpose);
    t.equal(new Set(required).size, required.length);
  }
  t.end();
});
