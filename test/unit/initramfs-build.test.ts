import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { gzipSync, zstdDecompressSync } from 'node:zlib';
import { Command } from 'commander';
import t from 'tap';
import { buildInitramfs, type InitramfsOptions, sourceDateEpoch } from '../../initramfs/build.ts';
import { registerInitramfs } from '../../initramfs/cli.ts';
import { parseFileSpec } from '../../initramfs/content.ts';
import { unpackCpio } from '../../initramfs/cpio.ts';
import { inspect } from '../../initramfs/inspect.ts';
import { REQUIRED_BUILTINS } from '../../initramfs/kconfig.ts';
import { type KernelSource, openKernelFiles } from '../../initramfs/kernel/source.ts';
import { type Manifest, parseManifest } from '../../initramfs/manifest.ts';
import { MODULES } from '../../initramfs/modules/table.ts';
import { makeBzImage, makeElf, makeVmlinux, PVH_ENTRY, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

const INIT = makeElf({ load: Buffer.from('static program') });
const CONFIG = REQUIRED_BUILTINS.map(({ symbol }) => `${symbol}=y\n`).join('');

function temporary(t: { teardown(end: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A kernel with every module of the table but 9p, and ext4 built in. */
function writeKernel(
  folder: string,
  { vmlinux = makeVmlinux(), config = CONFIG, without = ['9p', '9pnet_virtio'] } = {},
) {
  const modules = `lib/modules/${RELEASE}`;
  const names = MODULES.map(({ name }) => name).filter((name) => name !== 'ext4' && !without.includes(name));
  const dependencies = (name: string) =>
    /^virtio_(?!ring)/.test(name) ? ' k/virtio.ko k/virtio_ring.ko' : '';
  writeTree(folder, {
    'boot/vmlinuz': makeBzImage(gzipSync(vmlinux)),
    [`boot/config-${RELEASE}`]: config,
    [`${modules}/modules.dep`]: names.map((name) => `k/${name}.ko:${dependencies(name)}\n`).join(''),
    [`${modules}/modules.builtin`]: 'k/ext4.ko\n',
    ...Object.fromEntries(
      names.map((name) => [
        `${modules}/k/${name}.ko`,
        makeElf({ load: Buffer.alloc(5000, `module ${name} `) }),
      ]),
    ),
    init: INIT,
  });
  return openKernelFiles({ kernel: join(folder, 'boot/vmlinuz'), modules: join(folder, modules) });
}

function optionsFor(
  folder: string,
  kernel: KernelSource,
  more: Partial<InitramfsOptions> = {},
): InitramfsOptions {
  const outputs = {
    vmlinux: join(folder, 'out/vmlinux'),
    initramfs: join(folder, 'out/initramfs.cpio.zst'),
    manifest: join(folder, 'out/manifest.json'),
    base: join(folder, 'out/base.cpio.zst'),
  };
  return { kernel, init: join(folder, 'init'), outputs, version: '1.2.3', mtime: 0, ...more };
}

const read = (folder: string, name: string) => readFileSync(join(folder, 'out', name));
const FILES = ['vmlinux', 'initramfs.cpio.zst', 'base.cpio.zst', 'manifest.json'];

t.test('a build makes kernel, initramfs and a manifest that describes them', async (t) => {
  const folder = temporary(t);
  const made = await buildInitramfs(optionsFor(folder, await writeKernel(folder), { agent: '1.2.3' }));
  t.ok(read(folder, 'vmlinux').equals(makeVmlinux()));
  const manifest = parseManifest(read(folder, 'manifest.json').toString());
  t.strictSame(manifest, JSON.parse(JSON.stringify(made)) as Manifest);
  t.match(manifest, {
    builder: '1.2.3',
    agent: '1.2.3',
    kernel: { release: RELEASE, package: null, compression: 'gzip', pvhEntry: `0x${PVH_ENTRY.toString(16)}` },
    sizes: { init: INIT.length, base: read(folder, 'base.cpio.zst').length },
    initramfs: { size: read(folder, 'initramfs.cpio.zst').length },
    builtin: ['ext4'],
    absent: ['9pnet_virtio', '9p'],
  });
  t.strictSame(manifest.kernel.squashfs, ['lzo']);
  t.ok(manifest.sizes.base < manifest.initramfs.size);

  const entries = unpackCpio(zstdDecompressSync(read(folder, 'initramfs.cpio.zst')));
  t.strictSame(
    entries.flatMap((entry) =>
      entry.type === 'character' ? `${entry.path} ${entry.major}:${entry.minor}` : [],
    ),
    ['/dev/console 5:1', '/dev/kmsg 1:11', '/dev/null 1:3'],
  );
  const init = entries.find(({ path }) => path === '/init');
  t.match(init, { mode: 0o755, data: INIT });
  const carried = entries.filter(({ path }) => path.endsWith('.ko'));
  t.equal(carried.length, MODULES.length - 3);
  t.strictSame(
    unpackCpio(zstdDecompressSync(read(folder, 'base.cpio.zst'))).filter(({ path }) =>
      path.startsWith('/lib'),
    ),
    [],
    'the base has no modules',
  );
  t.strictSame(readdirSync(join(folder, 'out')).sort(), FILES.toSorted(), 'nothing temporary is left');
});

t.test('two builds are byte-identical, whatever the times, modes and places of their inputs', async (t) => {
  const [one, two] = [temporary(t), temporary(t)];
  await buildInitramfs(optionsFor(one, await writeKernel(one)));
  const kernel = await writeKernel(two);
  for (const name of readdirSync(join(kernel.modules.folder, 'k'))) {
    utimesSync(join(kernel.modules.folder, 'k', name), 1e9, 1e9);
    chmodSync(join(kernel.modules.folder, 'k', name), 0o600);
  }
  chmodSync(join(two, 'init'), 0o600);
  await buildInitramfs(optionsFor(two, kernel));
  await buildInitramfs(optionsFor(two, kernel));
  for (const name of FILES) t.ok(read(one, name).equals(read(two, name)), name);

  await buildInitramfs(optionsFor(two, kernel, { mtime: 1e9 }));
  t.notOk(read(one, FILES[1] as string).equals(read(two, FILES[1] as string)), 'another time, other bytes');
  t.equal(sourceDateEpoch('1000000000'), 1e9);
  t.equal(sourceDateEpoch(undefined), 0);
  for (const bad of ['x', '-1', '1.5', '99999999999'])
    t.throws(() => sourceDateEpoch(bad), /SOURCE_DATE_EPOCH/);
});

t.test('a kernel that does not fit is refused, and nothing is written', async (t) => {
  const cases: [what: string, kernel: Parameters<typeof writeKernel>[1], code: string, message: RegExp][] = [
    ['no virtio_blk', { without: ['virtio_blk'] }, 'CONFIG', /virtio_blk \(CONFIG_VIRTIO_BLK: /],
    ['no PVH in the configuration', { config: CONFIG.replace('CONFIG_PVH=y', '') }, 'CONFIG', /CONFIG_PVH/],
    ['no PVH note', { vmlinux: makeVmlinux({ pvh: false }) }, 'CONFIG', /Xen note 18.*CONFIG_PVH/],
    [
      'no PVH note, no configuration',
      { vmlinux: makeVmlinux({ pvh: false }), config: '' },
      'CONFIG',
      /CONFIG_PVH/,
    ],
    ['no kernel', { vmlinux: Buffer.alloc(5000) }, 'KERNEL', /boot\/vmlinuz: not a usable kernel/],
  ];
  for (const [what, kernel, code, message] of cases) {
    const folder = temporary(t);
    const options = optionsFor(folder, await writeKernel(folder, kernel));
    await t.rejects(buildInitramfs(options), { code: `YAVM_E_INITRAMFS_${code}`, message }, what);
    t.notOk(existsSync(join(folder, 'out')));
  }
});

t.test('kernel and modules of different releases are refused', async (t) => {
  const folder = temporary(t);
  const kernel = await writeKernel(folder);
  const image = join(folder, 'vmlinux');
  writeFileSync(image, makeVmlinux({ release: '5.0.0-other' }));
  await t.rejects(buildInitramfs(optionsFor(folder, { ...kernel, image })), {
    code: 'YAVM_E_INITRAMFS_MODULE',
    message: `the kernel is 5.0.0-other, but the modules are for ${RELEASE}`,
  });
  await t.rejects(buildInitramfs(optionsFor(folder, { ...kernel, image: join(folder, 'none') })), {
    code: 'YAVM_E_INITRAMFS_KERNEL',
    message: /none: the kernel cannot be read/,
  });
});

t.test('the configuration embedded in the kernel counts when there is no other', async (t) => {
  const folder = temporary(t);
  const embedded = (text: string) =>
    Buffer.concat([Buffer.from('IKCFG_ST'), gzipSync(text), Buffer.from('IKCFG_ED')]);
  const options = async (text: string) => {
    const kernel = await writeKernel(folder, { vmlinux: makeVmlinux({ extra: embedded(text) }) });
    return optionsFor(folder, { ...kernel, config: null });
  };
  await t.rejects(buildInitramfs(await options('CONFIG_PVH=y\n')), { message: /CONFIG_RD_ZSTD/ });
  const manifest = await buildInitramfs(await options(`${CONFIG}CONFIG_SQUASHFS_ZSTD=y\n`));
  t.strictSame(manifest.kernel.squashfs, ['lzo', 'zstd']);
  const unknown = { ...(await writeKernel(folder)), config: null };
  t.equal((await buildInitramfs(optionsFor(folder, unknown))).kernel.squashfs, null);
});

t.test('more files and modules go in as asked', async (t) => {
  const folder = temporary(t);
  const kernel = await writeKernel(folder);
  writeTree(folder, { tool: 'tool', 'text.txt': 'text' });
  chmodSync(join(folder, 'tool'), 0o700);
  const files = [
    `${folder}/tool:/bin/tool`,
    `${folder}/text.txt:/etc/text`,
    `${folder}/tool:/sbin/tool:4755`,
  ];
  const more = {
    files: files.map(parseFileSpec),
    extraModules: ['tun', 'ext4'],
    modules: MODULES.slice(0, 6),
  };
  const manifest = await buildInitramfs(optionsFor(folder, kernel, more));
  const modes = Object.fromEntries(manifest.files.map(({ path, mode }) => [path, mode]));
  t.match(modes, { '/bin/tool': '0755', '/etc/text': '0644', '/sbin/tool': '4755' });
  t.match(manifest.modules.at(-1), { name: 'tun', reason: 'asked for with --module' });
  t.strictSame(manifest.builtin, ['ext4']);

  const refuse = (options: Partial<InitramfsOptions>, code: string, message: RegExp) =>
    t.rejects(buildInitramfs(optionsFor(folder, kernel, options)), {
      code: `YAVM_E_INITRAMFS_${code}`,
      message,
    });
  await refuse({ extraModules: ['nosuch'] }, 'MODULE', /nosuch \(asked for with --module\)/);
  await refuse({ files: [{ source: join(folder, 'none'), path: '/x' }] }, 'CONTENT', /none: cannot be put/);
  await refuse({ files: [{ source: folder, path: '/x' }] }, 'CONTENT', /not a regular file/);
  await refuse(
    { files: [{ source: join(folder, 'tool'), path: '/init' }] },
    'CONTENT',
    /\/init: is in the .* twice/,
  );
  await refuse({ files: [{ source: join(folder, 'tool'), path: '/init/x' }] }, 'CONTENT', /\/init is a file/);
  for (const bad of ['', 'a', 'a:b', ':/b', 'a:/b:9', 'a:/b:1:2'])
    t.throws(() => parseFileSpec(bad), { code: 'YAVM_E_INITRAMFS_CONTENT' }, bad);
});

t.test('an /init that the kernel could not start is refused', async (t) => {
  const folder = temporary(t);
  const kernel = await writeKernel(folder);
  const loader = '/lib64/ld-linux-x86-64.so.2';
  const dynamic = makeElf({ interpreter: loader, load: Buffer.from('x') });
  const refuse = (init: string | Uint8Array, message: RegExp) =>
    t.rejects(buildInitramfs(optionsFor(folder, kernel, { init })), {
      code: 'YAVM_E_INITRAMFS_CONTENT',
      message,
    });
  await refuse(join(folder, 'none'), /none: cannot be put/);
  await refuse(Buffer.alloc(0), /neither an ELF program nor/);
  await refuse(Buffer.from('echo'), /neither an ELF program nor/);
  await refuse(Buffer.from('#! \n'), /names no interpreter/);
  await refuse(Buffer.from('#!/bin/sh -e\n'), /needs \/bin\/sh, which is not/);
  await refuse(makeElf({ machine: 183 }), /cannot be started/);
  await refuse(dynamic, /needs \/lib64\/ld-linux-x86-64\.so\.2/);
  const entries = [{ type: 'file', path: loader, mode: 0o755, data: Buffer.from('x') }] as const;
  await t.resolves(buildInitramfs(optionsFor(folder, kernel, { init: dynamic, entries })));
});

t.test('inspect reads back what was built', async (t) => {
  const folder = temporary(t);
  const made = await buildInitramfs(optionsFor(folder, await writeKernel(folder)));
  const out = join(folder, 'out');
  const found = await inspect(out);
  t.strictSame(await inspect(join(out, 'initramfs.cpio.zst')), found, 'by folder or by file');
  t.match(found, {
    compression: 'zstd',
    release: RELEASE,
    sha256: made.initramfs.sha256,
    unpacked: made.initramfs.unpacked,
  });
  t.strictSame(
    found.entries.filter(({ type }) => type !== 'directory'),
    JSON.parse(JSON.stringify(made.files.filter(({ type }) => type !== 'directory'))),
  );
  t.strictSame(
    found.modules.map(({ name }) => name),
    made.modules.map(({ name }) => name),
  );
  t.strictSame(found.manifest, JSON.parse(JSON.stringify(made)));

  t.match(await inspect(join(out, 'base.cpio.zst')), {
    release: null,
    modules: [],
    manifest: null,
    manifestProblem: /another/,
  });
  writeFileSync(join(out, 'bare.cpio'), zstdDecompressSync(read(folder, 'initramfs.cpio.zst')));
  t.match(await inspect(join(out, 'bare.cpio')), { compression: null, release: RELEASE });
  for (const [bad, problem] of [
    ['{', /not JSON/],
    ['{"format":9}', /format 9/],
    ['{"format":1}', /does not describe/],
  ] as const) {
    writeFileSync(join(out, 'manifest.json'), bad);
    t.match(await inspect(out), { manifest: null, manifestProblem: problem });
  }
});

t.test('inspect refuses what is no whole initramfs', async (t) => {
  const folder = temporary(t);
  await buildInitramfs(optionsFor(folder, await writeKernel(folder)));
  const good = read(folder, 'initramfs.cpio.zst');
  writeTree(folder, {
    text: 'text',
    cut: good.subarray(0, good.length - 100),
    'cut.cpio': zstdDecompressSync(good).subarray(0, 5000),
  });
  for (const name of ['none', 'text', 'cut', 'cut.cpio', '.'])
    await t.rejects(inspect(join(folder, name)), { code: 'YAVM_E_INITRAMFS_ARCHIVE' }, name);
});

t.test('the command line', async (t) => {
  const folder = temporary(t);
  await writeKernel(folder);
  const run = async (...words: string[]) => {
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    let code = -1;
    const program = new Command('ya-vm')
      .exitOverride()
      .configureOutput({ writeOut: (text) => stdout.write(text) });
    registerInitramfs(
      program,
      (command, handler) => {
        command.action(async () => {
          code = await handler({ stdout, stderr }, command.opts(), command.processedArgs);
        });
      },
      { folder, cache: join(folder, 'cache'), version: '1.2.3' },
    );
    await program.parseAsync(words, { from: 'user' }).catch((error) => {
      if (error.code !== 'commander.helpDisplayed') throw error;
    });
    return { code, out: String(stdout.read() ?? '') };
  };
  const kernel = [
    '--kernel',
    join(folder, 'boot/vmlinuz'),
    '--modules',
    join(folder, 'lib/modules', RELEASE),
  ];

  t.test('builds, for people and for programs', async (t) => {
    const { code, out } = await run('build', ...kernel);
    t.equal(code, 0);
    t.match(
      out,
      new RegExp(`^kernel +${RELEASE}\nvmlinux .*\ninitramfs .*without modules.*\nmodules +\\d+, 6 of`),
    );
    t.match(out, /built in +ext4\nabsent +9pnet_virtio, 9p/);
    const json = JSON.parse((await run('build', ...kernel, '--json', '--init', join(folder, 'init'))).out);
    t.match(json, { builder: '1.2.3', agent: null, kernel: { release: RELEASE } });
    t.equal(parseManifest(readFileSync(join(folder, 'manifest.json'), 'utf8')).agent, null);
  });

  t.test('inspects, for people and for programs', async (t) => {
    await run('build', ...kernel);
    t.match(
      (await run('inspect')).out,
      new RegExp(`sha256 [0-9a-f]{64}\nkernel ${RELEASE}\nagent 1\\.2\\.3[^]*- 0755 +${INIT.length} /init\n`),
    );
    t.match(JSON.parse((await run('inspect', folder, '--json')).out), {
      release: RELEASE,
      compression: 'zstd',
    });
  });

  t.test('takes --kernel and --modules together only', async (t) => {
    for (const words of [
      kernel.slice(0, 2),
      kernel.slice(2),
      [...kernel, '--kernel-package', 'x'],
      ['--config', 'x'],
    ])
      await t.rejects(
        run('build', ...words),
        { code: 'YAVM_E_USAGE', message: /belong together/ },
        words.join(' '),
      );
  });

  t.test('shows examples in its help', async (t) => {
    t.match((await run('build', '--help')).out, /Examples:\n {2}ya-vm initramfs build /);
    t.match((await run('inspect', '--help')).out, /Examples:\n {2}ya-vm initramfs inspect /);
  });
});
