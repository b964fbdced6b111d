import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { MODULE_SETS, type ModuleSet } from '../../guest/boot/module-sets.ts';
import { findModuleLine } from '../../guest/boot/module-source.ts';
import { moduleEntries } from '../../initramfs/content.ts';
import type { KernelConfig } from '../../initramfs/kconfig.ts';
import { resolveClosure } from '../../initramfs/modules/closure.ts';
import { parseIndex } from '../../initramfs/modules/index-files.ts';
import { MODULES, type ModuleRequest } from '../../initramfs/modules/table.ts';
import { openModuleTree, readModule } from '../../initramfs/modules/tree.ts';
import { type RunTool, runTool } from '../../initramfs/tool.ts';
import { makeElf, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

/** Like Debian's 6.1: names with dashes, transitive dependencies, the deepest last. */
const DEP = `kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/crypto/crc32c_generic.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/fs/unrelated.ko:
`;
const INDEX = parseIndex({
  dep: DEP,
  builtin: 'kernel/fs/squashfs/squashfs.ko\nkernel/drivers/char/hw_random/rng-core.ko\n',
  softdep: '# comment\nsoftdep jbd2 pre: crc32c rng-core nothing post: unrelated\nsoftdep unrelated jbd2\n',
  alias: 'alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias virtio:d00000003v* virtio_console\n',
});

const ask = (name: string, more: Partial<ModuleRequest> = {}): ModuleRequest => {
  return { name, symbol: `CONFIG_${name.toUpperCase()}`, stage: 'configure', reason: 'test', ...more };
};
const names = (requests: ModuleRequest[]) => resolveClosure(INDEX, requests).modules.map(({ name }) => name);

t.test('dependencies come first, virtio_ring before virtio, each once', async (t) => {
  t.strictSame(names([ask('virtio_pci'), ask('virtio_console')]), [
    'virtio_ring',
    'virtio',
    'virtio_pci_modern_dev',
    'virtio_pci',
    'virtio_console',
  ]);
  t.strictSame(names([ask('virtio'), ask('virtio_ring')]), ['virtio_ring', 'virtio']);
  t.strictSame(names([ask('virtio-rng'), ask('virtio_rng')]), ['virtio_ring', 'virtio', 'virtio_rng']);
});

t.test('a dependency belongs to the stage of the first that needs it', async (t) => {
  const { modules } = resolveClosure(INDEX, [ask('virtio_console', { stage: 'hello' }), ask('virtio_rng')]);
  t.strictSame(
    modules.map(({ name, stage }) => `${name} ${stage}`),
    ['virtio_ring hello', 'virtio hello', 'virtio_console hello', 'virtio_rng configure'],
  );
});

t.test('soft dependencies are hard ones, by alias too, without those for certain processors', async (t) => {
  const { modules } = resolveClosure(INDEX, [ask('ext4')]);
  t.strictSame(
    modules.map(({ name }) => name),
    ['crc32c_generic', 'jbd2', 'crc16', 'ext4', 'unrelated'],
    'what is to be loaded after one of them comes at the end',
  );
  t.strictSame(modules[3]?.dependencies, ['crc16', 'jbd2', 'crc32c_generic'], 'from last to first loads');
  t.match(modules[4], { stage: 'configure', via: 'jbd2', reason: 'is to be loaded after jbd2' });
  t.strictSame(
    names([ask('unrelated')]),
    ['crc32c_generic', 'jbd2', 'unrelated'],
    'without a keyword it is pre:',
  );
});

t.test('built in is as good as a module, and optional ones may be absent', async (t) => {
  const closure = resolveClosure(INDEX, [ask('squashfs'), ask('rng_core'), ask('9p', { optional: true })]);
  t.strictSame(closure.modules, []);
  t.strictSame(closure.builtin, ['squashfs', 'rng_core']);
  t.strictSame(
    closure.absent.map(({ name }) => name),
    ['9p'],
  );
  // Not every built-in is listed in modules.builtin; the configuration knows.
  const config: KernelConfig = new Map([['CONFIG_OVERLAY_FS', 'y']]);
  t.strictSame(resolveClosure(INDEX, [ask('overlay', { symbol: 'CONFIG_OVERLAY_FS' })], config).builtin, [
    'overlay',
  ]);
});

t.test('what is missing is an error that names every symbol', async (t) => {
  const requests = [ask('virtio_blk'), ask('overlay', { symbol: 'CONFIG_OVERLAY_FS' }), ask('virtio')];
  t.throws(() => resolveClosure(INDEX, requests), {
    code: 'YAVM_E_INITRAMFS_CONFIG',
    symbols: ['CONFIG_VIRTIO_BLK', 'CONFIG_OVERLAY_FS'],
    message: /virtio_blk \(CONFIG_VIRTIO_BLK: test\), overlay \(CONFIG_OVERLAY_FS: test\)/,
    hint: /CONFIG_OVERLAY_FS=y or =m/,
  });
  const config: KernelConfig = new Map([['CONFIG_VIRTIO_BLK', 'm']]);
  t.throws(() => resolveClosure(INDEX, requests, config), {
    code: 'YAVM_E_INITRAMFS_MODULE',
    message: 'module files are missing: virtio_blk (CONFIG_VIRTIO_BLK=m)',
  });
  t.throws(() => resolveClosure(INDEX, [ask('nosuch', { symbol: null })]), {
    code: 'YAVM_E_INITRAMFS_MODULE',
    message: /neither module nor built-in: nosuch/,
  });
});

t.test('a damaged modules.dep is an error, not a hang', async (t) => {
  const index = (dep: string) => parseIndex({ dep, builtin: '', softdep: '', alias: '' });
  const refuse = (dep: string, message: RegExp) =>
    t.throws(() => resolveClosure(index(dep), [ask('a')]), { code: 'YAVM_E_INITRAMFS_MODULE', message });
  refuse('a.ko: b.ko\nb.ko: a.ko\n', /a depends on itself/);
  refuse('a.ko: a.ko\n', /a depends on itself/);
  refuse('a.ko: b.ko\n', /names b as a dependency/);
});

t.test('the index in the initramfs is what the guest’s loader reads', async (t) => {
  const closure = resolveClosure(INDEX, [
    ask('virtio_pci'),
    ask('ext4'),
    ask('squashfs'),
    ask('virtio_console'),
  ]);
  const loaded = closure.modules.map(({ name }) => ({ name, data: Buffer.from(name) }));
  const entries = moduleEntries(RELEASE, INDEX, closure, loaded);
  const text = (name: string) => {
    const entry = entries.find(({ path }) => path === `/lib/modules/${RELEASE}/${name}`);
    return entry?.type === 'file' ? Buffer.from(entry.data).toString() : '';
  };
  const dep = text('modules.dep');
  t.equal(findModuleLine(dep, 'ext4'), 'ext4.ko: crc16.ko jbd2.ko crc32c_generic.ko');
  for (const { name } of loaded) {
    t.ok(findModuleLine(dep, name), name);
    t.equal(text(`${name}.ko`), name, `${name} is in the archive`);
  }
  t.equal(text('modules.softdep'), 'softdep jbd2 post: unrelated\nsoftdep unrelated pre: jbd2\n');
  t.equal(text('modules.builtin'), 'rng_core.ko\nsquashfs.ko\n');
  t.equal(text('modules.alias'), 'alias crc32c crc32c_generic\nalias virtio:d00000003v* virtio_console\n');
});

t.test('the table carries what the agent loads, at the stage it loads it', async (t) => {
  const rows = new Map(MODULES.map((row) => [row.name, row]));
  for (const [purpose, set] of Object.entries<ModuleSet>(MODULE_SETS))
    for (const name of [...set.required, ...(set.optional ?? [])]) {
      t.ok(rows.has(name), `${purpose}: ${name}`);
      if (purpose === 'ports') t.equal(rows.get(name)?.stage, 'hello');
    }
  t.equal(new Set(MODULES.map(({ name }) => name)).size, MODULES.length, 'no name twice');
  const stages = MODULES.map(({ stage }) => stage).join(' ');
  t.match(stages, /^(hello )+(configure ?)+$/, 'what comes before hello is listed first');
});

t.test('a modules folder', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const object = makeElf({ load: Buffer.from('module') });
  const folder = `lib/modules/${RELEASE}`;
  writeTree(root, {
    [`${folder}/kernel/a.ko`]: object,
    [`${folder}/kernel/b.ko.gz`]: gzipSync(object),
    [`${folder}/kernel/c.ko.zst`]: zstdCompressSync(object),
    [`${folder}/kernel/d.ko.xz`]: execFileSync('xz', ['-c', '--check=crc32'], { input: object }),
    [`${folder}/kernel/text.ko`]: 'not an object',
    [`${folder}/kernel/arm.ko`]: makeElf({ machine: 183 }),
    [`${folder}/kernel/cut.ko.gz`]: gzipSync(object).subarray(0, 30),
    [`${folder}/modules.builtin`]: 'kernel/e.ko\n',
  });

  t.test('is found below a root, and indexed by depmod without being written to', async (t) => {
    const calls: string[] = [];
    const depmod: RunTool = async (command, args) => {
      calls.push(command);
      const made = join(args[1] as string, 'lib/modules', args[2] as string);
      t.ok(readdirSync(join(made, 'kernel')).includes('a.ko'), 'it sees the files');
      writeTree(made, { 'modules.dep': 'kernel/a.ko:\n' });
      return Buffer.alloc(0);
    };
    const tree = await openModuleTree(root, false, depmod);
    t.strictSame(calls, ['depmod']);
    t.equal(tree.release, RELEASE);
    t.strictSame([...tree.index.modules.keys()], ['a']);
    t.ok(tree.index.builtin.has('e'));
    t.notOk(existsSync(join(root, folder, 'modules.dep')));

    await openModuleTree(join(root, folder), true, depmod);
    t.ok(existsSync(join(root, folder, 'modules.dep')), 'kept on request');
    await openModuleTree(root, true, depmod);
    t.equal(calls.length, 2, 'and then not made again');
  });

  t.test('gives modules unpacked, whatever they are packed with', async (t) => {
    const tree = await openModuleTree(join(root, folder));
    for (const name of ['a.ko', 'b.ko.gz', 'c.ko.zst', 'd.ko.xz'])
      t.ok(object.equals(await readModule(tree, `kernel/${name}`)), name);
    for (const name of ['text.ko', 'arm.ko', 'cut.ko.gz', 'none.ko'])
      await t.rejects(readModule(tree, `kernel/${name}`), { code: 'YAVM_E_INITRAMFS_MODULE' }, name);
    const noXz: RunTool = (_command, args, options) => runTool('ya-vm-no-such-xz', args, options);
    await t.rejects(readModule(tree, 'kernel/d.ko.xz', noXz), { code: 'YAVM_E_INITRAMFS_TOOL' });
  });

  t.test('that is none, or several, is refused', async (t) => {
    const refuse = (path: string, message: RegExp) =>
      t.rejects(openModuleTree(path), { code: 'YAVM_E_INITRAMFS_MODULE', message });
    await refuse(join(root, 'none'), /no modules folder/);
    await refuse(join(root, folder, 'modules.builtin'), /not a folder/);
    await refuse(join(root, folder, 'kernel'), /no kernel modules in it/);
    writeTree(root, { 'lib/modules/5.0.0/modules.dep': 'a.ko:\n' });
    await refuse(root, /several kernels: /);
  });
});

t.test('depmod indexes real modules from a folder anywhere', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  // depmod reads names and symbols from sections, which the synthetic module lacks: it lists it without dependencies.
  writeTree(join(root, RELEASE), { 'kernel/a.ko': makeElf({ load: Buffer.from('x') }), 'modules.order': '' });
  const tree = await openModuleTree(join(root, RELEASE));
  t.equal(tree.index.modules.get('a')?.path, 'kernel/a.ko');
});
