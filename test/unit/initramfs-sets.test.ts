/** Kernel sets: which folder a name stands for, and that one is built once, whole, and by this ya-vm's own agent. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { buildKernelSet } from '../../host/kernel-sets/build.ts';
import { readWhole } from '../../host/kernel-sets/verify.ts';
import {
  bootFiles,
  builtSets,
  findKernelSet,
  KERNEL_SETS,
  setFolderName,
  setKey,
} from '../../host/lib/kernel-set.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { inspect } from '../../initramfs/inspect.ts';
import { openKernelFiles } from '../../initramfs/kernel/source.ts';
import { digest } from '../../initramfs/manifest.ts';
import { MODULES } from '../../initramfs/modules/table.ts';
import { isPresetName } from '../../initramfs/presets.ts';
import { loadNative } from '../../native/load.ts';
import { makeBzImage, makeElf, makeVmlinux, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

const GENERIC = findKernelSet('generic');

/** Assets with an agent, a kernel to build sets of, and an empty cache. */
async function setUp(t: { teardown(end: () => void): void }, agent = 'agent') {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const modules = join('root/lib/modules', RELEASE);
  writeTree(folder, {
    'root/boot/vmlinuz': makeBzImage(gzipSync(makeVmlinux())),
    [join(modules, 'modules.dep')]: MODULES.map(({ name }) => `k/${name}.ko:\n`).join(''),
    [join(modules, 'modules.builtin')]: '',
    ...Object.fromEntries(
      MODULES.map(({ name }) => [join(modules, `k/${name}.ko`), makeElf({ load: Buffer.from(name) })]),
    ),
  });
  const files = await openKernelFiles({
    kernel: join(folder, 'root/boot/vmlinuz'),
    modules: join(folder, 'root'),
  });
  const env = { YAVM_ASSETS: join(folder, 'assets'), XDG_CACHE_HOME: join(folder, 'cache') };
  const kernel = { ...files, package: { name: 'linux-image', version: '6.1.9-1', sha256: '' } };
  const makeAssets = (text: string) =>
    buildInitramfs({
      kernel,
      init: makeElf({ load: Buffer.from(text) }),
      outputs: {
        vmlinux: join(env.YAVM_ASSETS, 'vmlinux'),
        initramfs: join(env.YAVM_ASSETS, 'initramfs.cpio.zst'),
        manifest: join(env.YAVM_ASSETS, 'manifest.json'),
      },
      version: '1.2.3',
      mtime: 0,
    });
  await makeAssets(agent);
  let fetched = 0;
  const options = {
    env,
    native: loadNative(),
    signal: new AbortController().signal,
    version: '1.2.3',
    fetch: async () => {
      fetched++;
      return kernel;
    },
  };
  return {
    env,
    kernel,
    options,
    makeAssets,
    kernels: join(env.XDG_CACHE_HOME, 'ya-vm/kernels'),
    fetched: () => fetched,
  };
}

t.test('names', async (t) => {
  const { env } = await setUp(t);
  t.strictSame(
    KERNEL_SETS.map(({ name }) => name),
    ['cloud', 'generic', 'gpu'],
  );
  for (const { preset } of KERNEL_SETS) t.ok(preset === null || isPresetName(preset));
  t.equal(bootFiles(env).kernel, join(env.YAVM_ASSETS, 'vmlinux'));
  t.strictSame(bootFiles({ ...env, YA_VM_KERNEL_SET: '' }), bootFiles(env, 'cloud'));
  for (const bad of ['none', '../x', 'toString'])
    t.throws(() => bootFiles(env, bad), { code: 'YAVM_E_KERNEL_SET', hint: /cloud, generic, gpu/ }, bad);
  t.throws(() => bootFiles({ ...env, YA_VM_KERNEL_SET: 'gpu' }), {
    code: 'YAVM_E_KERNEL_SET',
    message: /gpu is not built/,
    hint: 'ya-vm initramfs sets gpu',
  });
  t.equal(setFolderName(GENERIC, '1:6.1/9~bpo12+1-1', 'abc'), 'generic-1_6.1_9~bpo12+1-1-abc');
  writeFileSync(join(env.YAVM_ASSETS, 'manifest.json'), '{}');
  t.throws(() => bootFiles(env, 'gpu'), { code: 'YAVM_E_ASSETS' });
});

t.test('a set is built once, with the agent that ya-vm comes with', async (t) => {
  const { env, options, fetched, kernels } = await setUp(t);
  const { folder, fresh } = await buildKernelSet(GENERIC, options);
  t.ok(fresh);
  t.equal(folder, join(kernels, setFolderName(GENERIC, '6.1.9-1', setKey(GENERIC, env))));
  t.strictSame(bootFiles(env, 'generic'), {
    kernel: join(folder, 'vmlinux'),
    initramfs: join(folder, 'initramfs.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  });
  const [built, own] = [await inspect(folder), await inspect(env.YAVM_ASSETS)];
  const initOf = ({ entries }: typeof built) => entries.find(({ path }) => path === '/init');
  t.strictSame(initOf(built), initOf(own));
  t.match(built.manifest, { preset: 'generic', kernel: { release: RELEASE } });

  t.strictSame(await buildKernelSet(GENERIC, options), { folder, fresh: false });
  t.equal(fetched(), 1);
  t.strictSame(
    await buildKernelSet(GENERIC, { ...options, update: true }),
    { folder, fresh: false },
    'nothing newer',
  );
  t.equal(fetched(), 2);
  t.strictSame(readdirSync(kernels), [folder.slice(kernels.length + 1)], 'nothing else is left');
});

t.test('several that want it at once wait for one', async (t) => {
  const { options, fetched } = await setUp(t);
  const all = await Promise.all([1, 2, 3].map(() => buildKernelSet(GENERIC, options)));
  t.equal(new Set(all.map(({ folder }) => folder)).size, 1);
  t.equal(all.filter(({ fresh }) => fresh).length, 1);
  t.equal(fetched(), 1);
});

t.test('a damaged one is not booted, and built again', async (t) => {
  const { env, options } = await setUp(t);
  const { folder } = await buildKernelSet(GENERIC, options);
  truncateSync(join(folder, 'vmlinux'), 100);
  t.throws(() => bootFiles(env, 'generic'), { code: 'YAVM_E_KERNEL_SET', message: /damaged/ });
  t.equal((await buildKernelSet(GENERIC, options)).fresh, true);
  t.ok(bootFiles(env, 'generic'));

  const { size } = await inspect(folder);
  writeFileSync(join(folder, 'initramfs.cpio.zst'), Buffer.alloc(size));
  t.equal(await readWhole(folder), null, 'of the right size, too');
  t.equal((await buildKernelSet(GENERIC, options)).fresh, true);
  t.not(await readWhole(folder), null);
});

t.test('a set that was tampered with is never booted', async (t) => {
  const { env, options } = await setUp(t);
  const { folder } = await buildKernelSet(GENERIC, options);
  const [initramfs, manifest, checked] = ['initramfs.cpio.zst', 'manifest.json', 'checked.json'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const damaged = { code: 'YAVM_E_KERNEL_SET', message: /damaged/ };
  const good = readFileSync(initramfs);
  const known = readFileSync(checked, 'utf8');
  t.ok(bootFiles(env, 'generic'));
  t.equal(readFileSync(checked, 'utf8'), known, 'nothing has changed: nothing is read again');

  const { atime, mtime } = statSync(initramfs);
  writeFileSync(
    initramfs,
    good.map((byte, at) => (at === good.length >> 1 ? byte ^ 1 : byte)),
  );
  utimesSync(initramfs, atime, mtime);
  t.throws(() => bootFiles(env, 'generic'), damaged, 'one bit, the size and the time of before');
  t.throws(() => bootFiles(env, 'generic'), damaged, 'nor at the second attempt');
  writeFileSync(initramfs, good);
  t.ok(bootFiles(env, 'generic'), 'the same bytes again');
  t.not(readFileSync(checked, 'utf8'), known, 'which were read, and are known now');

  const other = Buffer.concat([good, Buffer.from('more')]);
  const text = readFileSync(manifest, 'utf8');
  writeFileSync(initramfs, other);
  const changed = JSON.parse(text);
  changed.initramfs = { ...changed.initramfs, ...digest(other) };
  writeFileSync(manifest, JSON.stringify(changed));
  t.throws(() => bootFiles(env, 'generic'), damaged, 'together with its manifest');
  t.equal(await readWhole(folder), null);
  t.equal((await buildKernelSet(GENERIC, options)).fresh, true);
  t.ok(bootFiles(env, 'generic'));
});

t.test('another agent has its own, and old ones go', async (t) => {
  const { env, options, makeAssets, kernels } = await setUp(t);
  const folders: string[] = [];
  for (const [index, agent] of ['agent', 'two', 'three', 'four', 'five'].entries()) {
    await makeAssets(agent);
    if (index > 0)
      t.throws(() => bootFiles(env, 'generic'), { code: 'YAVM_E_KERNEL_SET' }, `not built for ${agent}`);
    const { folder } = await buildKernelSet(GENERIC, options);
    utimesSync(join(folder, 'manifest.json'), index, index);
    folders.push(folder);
  }
  t.strictSame(builtSets(env, GENERIC), folders.slice(-3));
  await makeAssets('four');
  t.equal(bootFiles(env, 'generic').kernel, join(folders[3] as string, 'vmlinux'));
  mkdirSync(join(kernels, '.generic-left'));
  await makeAssets('six');
  await buildKernelSet(GENERIC, options);
  t.notOk(existsSync(join(kernels, '.generic-left')), 'what a killed build left');
});

t.test('nothing is left of a build that fails', async (t) => {
  const { options, kernels, env } = await setUp(t);
  const fetch = async () => {
    throw new Error('no network');
  };
  await t.rejects(buildKernelSet(GENERIC, { ...options, fetch }), /no network/);
  t.strictSame(readdirSync(kernels), []);
  writeFileSync(join(env.YAVM_ASSETS, 'initramfs.cpio.zst'), 'no initramfs');
  await t.rejects(buildKernelSet(GENERIC, options), { code: 'YAVM_E_INITRAMFS_ARCHIVE' });
  t.strictSame(readdirSync(kernels), []);
  const blocked = { ...env, XDG_CACHE_HOME: join(env.YAVM_ASSETS, 'vmlinux') };
  await t.rejects(buildKernelSet(GENERIC, { ...options, env: blocked }), { code: 'YAVM_E_KERNEL_SET' });
});
