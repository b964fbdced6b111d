import t from 'tap';
import { MODULE_SETS } from '../../guest/boot/module-sets.ts';
import { findModuleLine, findSoftDependencies, moduleName } from '../../guest/boot/module-source.ts';
import { loadEarlyModules, ModuleLoader } from '../../guest/boot/modules.ts';
import { type Fake, fakeNative, systemError } from '../lib/fake-native.ts';

const FOLDER = 'lib/modules/6.1.0';
const DEP = `kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/a.ko:
kernel/fs/b-generic.ko:
kernel/fs/ring1.ko:
kernel/fs/ring2.ko:
`;
const BUILTIN = 'kernel/fs/ext4/ext4.ko\nkernel/net/ipv6/ipv6.ko\n';
const ALIAS = `# Aliases
alias virtio:d00000003v* virtio_console
alias virtio:d00000004v* virtio_rng
alias b b-generic
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias pci:v00001AF4d*sv*sd*bc*sc*i* a
`;

interface Setting {
  loadModule?: (fake: Fake, fd: number) => void;
  files?: Record<string, string | Uint8Array | string[]>;
}

function loaderWith({ loadModule = () => {}, files: more = {} }: Setting = {}) {
  const files: Record<string, string | Uint8Array | string[]> = {
    [`${FOLDER}/modules.dep`]: DEP,
    [`${FOLDER}/modules.builtin`]: BUILTIN,
    [`${FOLDER}/modules.alias`]: ALIAS,
    '/proc/cmdline': 'quiet\n',
    ...more,
  };
  for (const line of DEP.split('\n')) files[`${FOLDER}/${line.split(':', 1)[0]}`] ??= '';
  const fake: Fake = fakeNative(files, { loadModule: (fd) => loadModule(fake, fd) });
  return { fake, loader: new ModuleLoader(fake.native, 3, '6.1.0') };
}

/** Modules that were loaded, with the parameters and flags of the call. */
function loaded(fake: Fake): string[] {
  const paths = fake.only('openBeneath').map(([, , path]) => path as string);
  const modules = paths.filter((path) => path.includes('.ko'));
  return fake.only('loadModule').map(([, , parameters, flags], index) => {
    return `${moduleName(modules[index] as string)}:${flags}${parameters === '' ? '' : ` ${parameters}`}`;
  });
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
  const reads = () => fake.only('readText').filter(([, , path]) => `${path}`.endsWith('modules.dep')).length;
  t.equal(reads(), 1, 'the list is read once');
  loader.rest();
  t.equal(fake.open.size, 0, 'every descriptor is closed');
  loader.load('virtio-rng');
  t.equal(reads(), 2, 'and again after a rest');
  t.end();
});

t.test('compressed modules are left to the kernel; dashes are underscores', (t) => {
  const { fake, loader } = loaderWith();
  loader.load('virtio_rng');
  t.strictSame(loaded(fake).pop(), 'virtio_rng:4');
  const refused = loaderWith({
    loadModule: (fake, fd) => {
      if (fake.open.get(fd)?.endsWith('.xz')) throw systemError('EOPNOTSUPP', 'finit_module');
    },
  });
  t.throws(() => refused.loader.load('virtio_rng'), {
    code: 'module-failed',
    errno: 'EOPNOTSUPP',
    message: /virtio_rng.*is compressed, and this kernel does not unpack it/,
  });
  t.end();
});

t.test('a module that is loaded already, or built in, is fine', (t) => {
  const { loader } = loaderWith({
    loadModule: () => {
      throw systemError('EEXIST', 'finit_module');
    },
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
  const refused = loaderWith({
    loadModule: (fake, fd) => {
      if (fake.open.get(fd)?.endsWith('virtio.ko')) throw systemError('ENOEXEC', 'finit_module');
    },
  });
  t.throws(() => refused.loader.load('virtio_pci'), {
    code: 'module-failed',
    errno: 'ENOEXEC',
    syscall: 'finit_module',
    message: /'virtio' .*needed by 'virtio_pci'/,
  });
  t.throws(
    () => refused.loader.load('virtio_pci'),
    { code: 'module-failed', errno: 'ENOEXEC' },
    'a failure is not remembered as success',
  );
  t.end();
});

t.test('a failure has the kernel’s last line about the module', (t) => {
  const records = [
    '4,10,1,-;virtio_pci: another one',
    '4,11,1,-;b_generic: Unknown symbol one (err -2)',
    '4,12,1,-;b_generic: Unknown symbol two (err -2)\n SUBSYSTEM=x',
    '12,13,1,-;b_generic: said by a program',
    '6,14,1,-;eth0: link is up',
  ];
  const fake = fakeNative(
    {
      [`${FOLDER}/modules.dep`]: DEP,
      [`${FOLDER}/kernel/fs/b-generic.ko`]: '',
      '/proc/cmdline': '',
      '/dev/kmsg': '',
    },
    {
      loadModule: () => {
        throw systemError('ENOENT', 'finit_module');
      },
      read: (_fd, buffer) => {
        const record = records.shift();
        if (record === undefined) return -1;
        return new TextEncoder().encodeInto(record, buffer).written;
      },
    },
  );
  const loader = new ModuleLoader(fake.native, 3, '6.1.0');
  t.throws(() => loader.load('b_generic'), {
    errno: 'ENOENT',
    message: /; kernel: b_generic: Unknown symbol two \(err -2\)$/,
  });
  t.strictSame(fake.only('seek')[0]?.slice(2), [0, 2], 'what came before is not its own');
  t.end();
});

t.test('optional modules: absent, built in, or without their device', (t) => {
  const { fake, loader } = loaderWith();
  t.equal(loader.loadOptional('pvpanic_pci'), false);
  t.equal(loader.loadOptional('ipv6'), true);
  t.equal(loader.loadOptional('virtio_console'), true);
  t.equal(loaded(fake).pop(), 'virtio_console:0');
  const failing = (errno: string) =>
    loaderWith({
      loadModule: () => {
        throw systemError(errno, 'finit_module');
      },
    }).loader;
  t.equal(failing('ENODEV').loadOptional('virtio_console'), false);
  t.throws(() => failing('EPERM').loadOptional('virtio_console'), { code: 'module-failed', errno: 'EPERM' });
  t.end();
});

t.test('soft dependencies: before and after, by alias, in a ring, and without harm when they fail', (t) => {
  const { fake, loader } = loaderWith({
    files: {
      [`${FOLDER}/modules.softdep`]:
        'softdep a ignored pre: b nothing ext4 post: virtio-rng\nsoftdep ring1 pre: ring2\nsoftdep ring2 pre: ring1\n',
    },
    loadModule: (fake, fd) => {
      if (fake.open.get(fd)?.includes('virtio-rng')) throw systemError('EINVAL', 'finit_module');
    },
  });
  loader.load('a');
  t.strictSame(loaded(fake), ['b_generic:0', 'a:0', 'virtio_ring:0', 'virtio:0', 'virtio_rng:4']);
  loader.load('ring1');
  t.strictSame(loaded(fake).slice(-2), ['ring2:0', 'ring1:0']);
  t.end();
});

t.test('devices load by alias, all that fit, but for the blacklist', (t) => {
  const failures: unknown[] = [];
  const pci = 'pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00';
  const { fake, loader } = loaderWith({
    files: { 'etc/modprobe.d': ['b.conf', 'x.txt'], 'etc/modprobe.d/b.conf': 'blacklist a\n' },
  });
  t.strictSame(
    loader.loadAlias(pci, (error) => failures.push(error)),
    ['virtio_pci'],
  );
  loader.configure({ blacklist: ['virtio-rng'], options: { 'virtio-console': 'c=3' } });
  t.strictSame(
    loader.loadAlias('virtio:d00000004v00001AF4', (error) => failures.push(error)),
    [],
  );
  loader.loadAlias('virtio:d00000003v00001AF4', (error) => failures.push(error));
  t.strictSame(loaded(fake).pop(), 'virtio_console:0 c=3');
  t.equal(loader.loadOptional('virtio_rng'), false);
  loader.load('a');
  t.strictSame(loaded(fake).pop(), 'a:0', 'by its name it loads');
  t.strictSame([...loader.buses()].sort(), ['pci', 'virtio']);
  t.strictSame(failures, []);
  t.end();
});

t.test('options of modprobe.d, then of the command line, then of the host', (t) => {
  const { fake, loader } = loaderWith({
    files: {
      'etc/modprobe.d': ['2.conf', '1.conf'],
      'etc/modprobe.d/1.conf': 'options a x=1\n',
      'etc/modprobe.d/2.conf': 'options a x=2 \\\n y=1\n',
      '/proc/cmdline': 'quiet a.x=3 modprobe.blacklist=b-generic,c -- a.x=9',
    },
  });
  loader.configure({ options: { a: 'x=4' } });
  loader.load('a');
  t.strictSame(loaded(fake), ['a:0 x=1 x=2 y=1 x=3 x=4']);
  t.equal(loader.loadOptional('b_generic'), false);
  t.end();
});

t.test('a driver layer adds modules, and takes none’s place', (t) => {
  const { fake, loader } = loaderWith({
    files: { [`${FOLDER}/kernel/fs/a.ko`]: '' },
  });
  t.throws(() => loader.load('nvidia'), { code: 'module-failed' });
  const layer: Record<string, string> = {
    [`${FOLDER}/modules.dep`]: 'updates/nvidia.ko: kernel/x/virtio.ko\nupdates/a.ko:\n',
    [`${FOLDER}/updates/nvidia.ko`]: '',
  };
  const both = fakeNative(
    {},
    {
      ...fake.native,
      readText: (root, path, maximum) =>
        root === 9 ? (layer[path] ?? missing(path)) : fake.native.readText(root, path, maximum),
      openBeneath: (root, path, flags, mode) =>
        fake.native.openBeneath(root, root === 9 ? `${FOLDER}/kernel/fs/a.ko` : path, flags, mode),
      loadModule: () => {},
      close: () => {},
    },
  );
  const added = new ModuleLoader(both.native, 3, '6.1.0');
  added.addSource(9);
  added.load('nvidia');
  added.load('a');
  t.strictSame(
    both.only('openBeneath').map(([, root, path]) => [root, path]),
    [
      [3, 'etc/modprobe.d'],
      [3, `${FOLDER}/kernel/drivers/virtio/virtio_ring.ko`],
      [3, `${FOLDER}/kernel/drivers/virtio/virtio.ko`],
      [9, `${FOLDER}/updates/nvidia.ko`],
      [3, `${FOLDER}/kernel/fs/a.ko`],
    ],
  );
  t.end();
});

function missing(path: string): never {
  throw systemError('ENOENT', 'open', path);
}

t.test('a kernel without any lists has everything built in, or nothing', (t) => {
  const fake = fakeNative({}, { uname: () => ({ release: 'x', version: '', machine: '', nodename: '' }) });
  t.throws(() => loadEarlyModules(fake.native, 3), { code: 'module-failed', message: /virtio_pci/ });
  t.end();
});

t.test('module names and lines', (t) => {
  t.equal(moduleName('kernel/a-b/virtio-rng.ko.zst'), 'virtio_rng');
  t.equal(moduleName('ext4'), 'ext4');
  t.equal(findModuleLine('', 'a'), undefined);
  t.equal(findModuleLine(DEP, ''), undefined);
  t.equal(findModuleLine('no colon\n: x\nk/a.ko:', 'a'), 'k/a.ko:', 'a last line may lack its end');
  t.equal(findModuleLine('k/snd-hda_x.ko: a.ko\n', 'snd_hda_x'), 'k/snd-hda_x.ko: a.ko');
  t.equal(
    findModuleLine('k/b.ko: k/a.ko\nk/aa.ko:\n', 'a'),
    undefined,
    'a dependency, or part of a name, is no line',
  );
  t.strictSame(findSoftDependencies('softdep x y\nsoftdep x-y pre: a\nsoftdep x_y post: b pre: c', 'x_y'), {
    before: ['a', 'c'],
    after: ['b'],
  });
  t.end();
});

t.test('the sets name each module once, with a reason', (t) => {
  for (const [purpose, { required, why }] of Object.entries(MODULE_SETS)) {
    t.ok(why.length > 10, purpose);
    t.equal(new Set(required).size, required.length);
  }
  t.end();
});
