/**
 * Kernels as other distributions lay them out, made from Debian's own: the same modules, moved and packed as they have them. Each is built
 * from, all must give the same initramfs as Debian's, and one boots.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { fetchKernel } from '../../build/kernel.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { openKernelFiles } from '../../initramfs/kernel/source.ts';
import type { Manifest } from '../../initramfs/manifest.ts';
import { runTool } from '../../initramfs/tool.ts';
import { builtFile, privateEnvironment, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(600_000);
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;
const debian = await fetchKernel();
const { release } = debian.modules;

async function build(name: string, kernel: typeof debian) {
  const at = join(folder, name);
  const assets = {
    kernel: join(at, 'vmlinux'),
    initramfs: join(at, 'initramfs.cpio.zst'),
    manifest: join(at, 'manifest.json'),
  };
  const made = await buildInitramfs({
    kernel,
    init: builtFile('init'),
    outputs: { vmlinux: assets.kernel, initramfs: assets.initramfs, manifest: assets.manifest },
    version: 'test',
  });
  return { assets, made };
}

/** What must not depend on how a distribution packs its modules. */
function essence({ vmlinux, initramfs, builtin, absent, modules, kernel }: Manifest) {
  return {
    vmlinux,
    initramfs,
    builtin,
    absent,
    squashfs: kernel.squashfs,
    modules: modules.map(({ sha256 }) => sha256),
  };
}

const own = await build('debian', debian);

type Pack = (module: Buffer) => Promise<Buffer> | Buffer;

/** Writes a modules folder with what an initramfs needs of Debian's, each packed. */
async function writeModules(at: string, ending: string, pack: Pack): Promise<void> {
  mkdirSync(at, { recursive: true });
  // Not the binary indexes: nothing here reads them.
  for (const name of readdirSync(debian.modules.folder))
    if (/^modules\.(builtin|alias|softdep|order|builtin\.modinfo)$/.test(name))
      cpSync(join(debian.modules.folder, name), join(at, name));
  const paths = new Map([...debian.modules.index.modules].map(([name, { path }]) => [name, path]));
  const lines: string[] = [];
  for (const { name, dependencies } of own.made.modules) {
    const path = paths.get(name) as string;
    const target = join(at, `${path}${ending}`);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, await pack(readFileSync(join(debian.modules.folder, path))));
    lines.push(`${path}${ending}: ${dependencies.map((each) => `${paths.get(each)}${ending}`).join(' ')}\n`);
  }
  writeFileSync(join(at, 'modules.dep'), lines.join(''));
}

/** Where a distribution has what, from its root. `link`: /lib is usr/lib. */
interface Layout {
  name: string;
  kernel: string;
  config: string;
  modules: string;
  link?: boolean;
  ending: string;
  pack: Pack;
}

const xz: Pack = (module) => runTool('xz', ['--check=crc32', '-0', '--stdout'], { input: module });

const LAYOUTS: Layout[] = [
  {
    name: 'Alpine',
    kernel: 'boot/vmlinuz-virt',
    config: `boot/config-${release}`,
    modules: 'lib/modules',
    ending: '.gz',
    pack: (module) => gzipSync(module),
  },
  {
    name: 'Fedora',
    kernel: `usr/lib/modules/${release}/vmlinuz`,
    config: `usr/lib/modules/${release}/config`,
    modules: 'usr/lib/modules',
    link: true,
    ending: '.xz',
    pack: xz,
  },
  {
    name: 'Ubuntu',
    kernel: `boot/vmlinuz-${release}`,
    config: `boot/config-${release}`,
    modules: 'usr/lib/modules',
    link: true,
    ending: '.zst',
    pack: (module) => zstdCompressSync(module),
  },
];

const hasXz = await runTool('xz', ['--version']).then(
  () => true,
  () => false,
);

for (const layout of LAYOUTS)
  t.test(
    layout.name,
    { skip: layout.ending === '.xz' && !hasXz ? 'xz is not installed' : false },
    async (t) => {
      const root = join(folder, layout.name);
      await writeModules(join(root, layout.modules, release), layout.ending, layout.pack);
      if (layout.link) symlinkSync('usr/lib', join(root, 'lib'));
      for (const [path, source] of [
        [layout.kernel, debian.image],
        [layout.config, join(dirname(debian.image), `config-${release}`)],
      ] as const) {
        mkdirSync(dirname(join(root, path)), { recursive: true });
        cpSync(source, join(root, path));
      }
      const kernel = join(root, layout.kernel);
      const from = await build(`${layout.name}-built`, {
        ...(await openKernelFiles({ kernel, modules: join(root, 'lib/modules', release) })),
      });
      t.strictSame(essence(from.made), essence(own.made), 'the same bytes as from Debian’s package');
      t.ok(
        from.made.modules.every(({ path }) => path.endsWith(`.ko${layout.ending}`)),
        'of packed modules',
      );
      const byRoot = await openKernelFiles({ kernel, modules: root });
      t.equal(basename(byRoot.modules.folder), release, 'found by its root, too');
      t.equal(byRoot.modules.index.modules.size, own.made.modules.length);
      t.not(byRoot.config, null, 'its configuration is found');
      if (layout.name !== 'Alpine') return;
      const vm = await startTestVm(t, { assets: from.assets });
      t.equal(await shell(vm, 'uname -r; echo it works >/tmp/x; cat /tmp/x'), `${release}\nit works\n`);
    },
  );
