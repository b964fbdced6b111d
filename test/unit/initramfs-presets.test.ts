/** What a build asks for: presets, modules by device, firmware; and kernels of other distributions, as they lay them out. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { MODULE_SETS, type ModuleSet } from '../../guest/boot/module-sets.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { firmwareEntries, firmwareFolders } from '../../initramfs/firmware.ts';
import { REQUIRED_BUILTINS } from '../../initramfs/kconfig.ts';
import { openKernelFiles } from '../../initramfs/kernel/source.ts';
import { modulesOfGroup } from '../../initramfs/modules/alias-groups.ts';
import { parseIndex } from '../../initramfs/modules/index-files.ts';
import { MODULES } from '../../initramfs/modules/table.ts';
import { isPresetName, PRESETS, type PresetName, presetModules } from '../../initramfs/presets.ts';
import { moduleRequests } from '../../initramfs/requests.ts';
import { type RunTool, runTool } from '../../initramfs/tool.ts';
import { makeBzImage, makeElf, makeVmlinux, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

function temporary(t: { teardown(end: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

const INDEX = parseIndex({
  dep: ['virtio_pci', 'virtio_net', 'e1000', 'usbhid'].map((name) => `k/${name}.ko:\n`).join(''),
  builtin: '',
  softdep: '',
  alias: `alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v00008086d0000100Fsv*sd*bc*sc*i* e1000
alias usb:v*p*d*dc*dsc*dp*ic03isc*ip*in* usbhid
`,
});

t.test('every preset has what no VM can do without, and only optional ones besides', async (t) => {
  const required = MODULES.filter(({ optional }) => !optional).map(({ name }) => name);
  for (const name of Object.keys(PRESETS) as PresetName[]) {
    const rows = presetModules(name);
    const names = rows.map((row) => row.name);
    t.strictSame(
      required.filter((each) => !names.includes(each)),
      [],
      name,
    );
    t.strictSame(
      rows.filter((row) => !row.optional).map((row) => row.name),
      required,
      name,
    );
    t.equal(new Set(names).size, names.length, `${name}: each once`);
    t.ok(rows.every(({ reason }) => reason !== ''));
  }
  t.strictSame(
    presetModules('minimal').map(({ name }) => name),
    required,
  );
  t.match(
    presetModules('gpu').find(({ name }) => name === 'virtio_gpu'),
    { stage: 'configure', reason: /^display: / },
  );
  t.notOk(isPresetName('toString'));
});

t.test('a preset that is not minimal carries all that the agent may ask for', async (t) => {
  const wanted = Object.values<ModuleSet>(MODULE_SETS).flatMap(({ required, optional = [] }) => [
    ...required,
    ...optional,
  ]);
  for (const name of ['generic', 'gpu'] as const) {
    const names = new Set(presetModules(name).map((row) => row.name));
    t.strictSame(
      wanted.filter((each) => !names.has(each)),
      [],
      name,
    );
  }
});

t.test('modules by the devices that they drive', async (t) => {
  t.strictSame(modulesOfGroup(INDEX, 'pci:virtio'), ['virtio_pci', 'virtio_net']);
  t.strictSame(modulesOfGroup(INDEX, 'pci:intel'), ['e1000'], 'each once');
  t.strictSame(modulesOfGroup(INDEX, 'usb'), ['usbhid']);
  t.strictSame(modulesOfGroup(INDEX, 'pci'), ['virtio_pci', 'e1000']);
  t.strictSame(modulesOfGroup(INDEX, 'pci:v00008086d0000100E'), ['e1000']);
  for (const none of ['', 'us', 'hid', 'pci:nvidia', ':'])
    t.throws(
      () => modulesOfGroup(INDEX, none),
      { code: 'YAVM_E_INITRAMFS_MODULE', hint: /pci:virtio/ },
      none,
    );
  const wishes = { modules: [], extraModules: ['usbhid'], allOf: ['pci:intel'] };
  t.strictSame(
    moduleRequests(INDEX, wishes).map(({ name, reason }) => `${name}: ${reason}`),
    ['usbhid: asked for with --module', 'e1000: asked for with --module-all-of pci:intel'],
  );
  t.strictSame(moduleRequests(INDEX, {}), [...MODULES]);
  t.strictSame(moduleRequests(INDEX, { preset: 'minimal' }), presetModules('minimal'));
});

t.test('firmware comes unpacked, from the first folder that has it', async (t) => {
  const folder = temporary(t);
  writeTree(folder, {
    'own/a.bin': 'own a',
    'lib/firmware/a.bin': 'a',
    'lib/firmware/gpu/one_x.bin': 'one',
    'lib/firmware/gpu/two_x.bin.zst': zstdCompressSync(Buffer.from('two')),
    'lib/firmware/gpu/other.bin': 'other',
    'lib/firmware/gpu/below_x.bin/deeper': 'no file',
    'lib/firmware/odd.bin': zstdCompressSync(Buffer.from('looks packed')),
    'lib/firmware/6.1/special.bin': 'for one release',
  });
  symlinkSync('one_x.bin', join(folder, 'lib/firmware/gpu/link_x.bin'));
  const folders = [join(folder, 'own'), ...firmwareFolders(join(folder, 'lib/modules/6.1'), '6.1')];
  const read = async (...names: string[]) =>
    (await firmwareEntries(names, folders)).map((entry) =>
      entry.type === 'file' ? `${entry.path} ${Buffer.from(entry.data).toString('latin1')}` : entry.type,
    );
  t.strictSame(await read('a.bin', 'special.bin'), [
    '/lib/firmware/a.bin own a',
    '/lib/firmware/special.bin for one release',
  ]);
  t.strictSame(await read('gpu/*_x.bin', 'gpu/one_x.bin'), [
    '/lib/firmware/gpu/link_x.bin one',
    '/lib/firmware/gpu/one_x.bin one',
    '/lib/firmware/gpu/two_x.bin two',
  ]);
  t.match(
    await read('odd.bin'),
    [/^\/lib\/firmware\/odd\.bin \x28\xb5/],
    'only what is called so is unpacked',
  );
  for (const bad of ['', '/a.bin', '../a.bin', 'gpu/../a.bin', '*/a.bin', 'gpu/'])
    await t.rejects(read(bad), { code: 'YAVM_E_INITRAMFS_CONTENT', message: /not a name of firmware/ }, bad);
  await t.rejects(read('a?bin'), {
    code: 'YAVM_E_INITRAMFS_CONTENT',
    message: /not in .*own/,
    hint: /firmware-from/,
  });
  writeTree(folder, { 'own/cut.bin.zst': zstdCompressSync(Buffer.alloc(5000, 'cut me')).subarray(0, 12) });
  await t.rejects(read('cut.bin'), {
    code: 'YAVM_E_INITRAMFS_CONTENT',
    message: /cut\.bin\.zst: the firmware cannot be read/,
  });
});

/** Stands in for xz, which a host may lack: its "packed" form is the magic and the bytes. */
const XZ_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]);
const run: RunTool = async (command, args, options) =>
  command === 'xz'
    ? Buffer.from(options?.input ?? []).subarray(XZ_MAGIC.length)
    : runTool(command, args, options);

interface Layout {
  kernel: string;
  config: string;
  modules: string;
  suffix: string;
  pack(bytes: Buffer): Buffer;
}

/** Where distributions have a kernel's parts, and how they pack modules. */
const LAYOUTS: Record<string, Layout> = {
  debian: {
    ...{ kernel: `boot/vmlinuz-${RELEASE}`, config: `boot/config-${RELEASE}`, modules: 'lib/modules' },
    ...{ suffix: '', pack: (bytes) => bytes },
  },
  'debian trixie': {
    ...{ kernel: `boot/vmlinuz-${RELEASE}`, config: `boot/config-${RELEASE}`, modules: 'usr/lib/modules' },
    ...{ suffix: '.xz', pack: (bytes) => Buffer.concat([XZ_MAGIC, bytes]) },
  },
  ubuntu: {
    ...{ kernel: `boot/vmlinuz-${RELEASE}`, config: `boot/config-${RELEASE}`, modules: 'usr/lib/modules' },
    ...{ suffix: '.zst', pack: (bytes) => zstdCompressSync(bytes) },
  },
  alpine: {
    ...{ kernel: 'boot/vmlinuz-virt', config: `boot/config-${RELEASE}`, modules: 'lib/modules' },
    ...{ suffix: '.gz', pack: (bytes) => gzipSync(bytes) },
  },
  fedora: {
    ...{ kernel: `usr/lib/modules/${RELEASE}/vmlinuz`, config: `usr/lib/modules/${RELEASE}/config` },
    ...{ modules: 'usr/lib/modules', suffix: '.xz', pack: (bytes) => Buffer.concat([XZ_MAGIC, bytes]) },
  },
};

t.test('kernels of other distributions, by where they have their parts and how they pack them', async (t) => {
  const made: Record<string, string> = {};
  for (const [name, layout] of Object.entries(LAYOUTS)) {
    const folder = temporary(t);
    const inModules = join(layout.modules, RELEASE);
    const names = MODULES.map((module) => module.name);
    writeTree(folder, {
      [layout.kernel]: makeBzImage(gzipSync(makeVmlinux())),
      [layout.config]: REQUIRED_BUILTINS.map(({ symbol }) => `${symbol}=y\n`).join(''),
      [join(inModules, 'modules.dep')]: names.map((each) => `kernel/${each}.ko${layout.suffix}:\n`).join(''),
      [join(inModules, 'modules.builtin')]: '',
      ...Object.fromEntries(
        names.map((each) => [
          join(inModules, `kernel/${each}.ko${layout.suffix}`),
          layout.pack(makeElf({ load: Buffer.from(each) })),
        ]),
      ),
    });
    if (layout.modules.startsWith('usr/')) symlinkSync('usr/lib', join(folder, 'lib'));
    const kernel = await openKernelFiles({ kernel: join(folder, layout.kernel), modules: folder }, run);
    t.equal(kernel.modules.release, RELEASE, name);
    t.equal(kernel.config?.get('CONFIG_PVH'), 'y', `${name}: its configuration is found`);
    const outputs = { initramfs: join(folder, 'out/initramfs.cpio.zst') };
    const options = {
      kernel,
      init: makeElf({ load: Buffer.from('init') }),
      outputs,
      version: '1',
      mtime: 0,
      run,
    };
    const manifest = await buildInitramfs({ ...options, preset: 'minimal' });
    t.equal(manifest.preset, 'minimal');
    made[name] = manifest.initramfs.sha256;
  }
  t.equal(
    new Set(Object.values(made)).size,
    1,
    'the same modules make the same initramfs, however they were packed',
  );
});
