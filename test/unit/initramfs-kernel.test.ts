import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { isPackageSpec, kernelDependency, parsePrintedUri } from '../../initramfs/kernel/apt.ts';
import { fetchPackage, type PackageCache } from '../../initramfs/kernel/package-cache.ts';
import { fetchKernelPackage, openKernelFiles } from '../../initramfs/kernel/source.ts';
import { type RunTool, runTool } from '../../initramfs/tool.ts';
import { makeBzImage, makeElf, makeVmlinux, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

const NAME = `linux-image-${RELEASE}`;

function temporary(t: { teardown(end: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Makes a Debian package with these files. */
function makeDeb(
  folder: string,
  files: Record<string, string | Uint8Array>,
  name = NAME,
  version = '1:6.1-1',
): string {
  const tree = join(folder, `${name}-${version}`.replaceAll(':', '_'));
  const control = `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nMaintainer: t <t@t>\nDescription: test\n`;
  writeTree(tree, { 'DEBIAN/control': control, ...files });
  execFileSync('dpkg-deb', ['--root-owner-group', '-b', tree, `${tree}.deb`], { stdio: 'ignore' });
  return `${tree}.deb`;
}

const KERNEL_FILES = {
  [`boot/vmlinuz-${RELEASE}`]: makeBzImage(gzipSync(makeVmlinux())),
  [`boot/config-${RELEASE}`]: 'CONFIG_PVH=y\n',
  [`lib/modules/${RELEASE}/modules.dep`]: 'kernel/a.ko:\n',
  [`lib/modules/${RELEASE}/kernel/a.ko`]: makeElf({ load: Buffer.from('a') }),
};

/** An apt that has one package, and counts what it is asked. `lists`: whether it knows anything. */
class FakeApt {
  readonly asked: string[] = [];
  lists = true;
  deb: string;
  hash: string | null = null;
  control = `Package: linux-image-cloud-amd64\nDepends: ${NAME} (= 1:6.1-1)\n`;

  constructor(deb: string) {
    this.deb = deb;
  }

  readonly run: RunTool = async (command, args, options) => {
    if (!command.startsWith('apt')) return runTool(command, args, options);
    const printing = args.includes('--print-uris');
    this.asked.push(command === 'apt-cache' ? 'show' : printing ? 'print' : 'download');
    if (!this.lists) throw new Error('Unable to locate package');
    if (command === 'apt-cache') return Buffer.from(this.control);
    if (!printing) {
      copyFileSync(this.deb, join(options?.cwd as string, basename(this.deb)));
      return Buffer.alloc(0);
    }
    const hash = this.hash ?? createHash('sha256').update(readFileSync(this.deb)).digest('hex');
    return Buffer.from(`'https://mirror/a.deb' a.deb 1234 SHA256:${hash}\n`);
  };
}

t.test('the concrete kernel behind a metapackage is found in its dependencies', async (t) => {
  const cases: [control: string, spec: string | null][] = [
    [
      'Package: m\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n',
      'linux-image-6.1.0-56-cloud-amd64=6.1.192-2',
    ],
    ['Package: m\nDepends: a (>= 1), linux-image-6.8.0-45-generic, b\n', 'linux-image-6.8.0-45-generic'],
    [
      'Package: m\nPre-Depends: x\nDepends: a,\n linux-image-6.1.0-1-amd64 (= 1)\nSuggests: y\n',
      'linux-image-6.1.0-1-amd64=1',
    ],
    ['Package: m\nDepends: libc6\nSuggests: linux-image-6.1.0-1-amd64\n', null],
    ['Package: m\n', null],
  ];
  for (const [control, spec] of cases) t.equal(kernelDependency(control), spec);
});

t.test('apt’s answer is parsed; nothing that could be an option passes as a name', async (t) => {
  const sha256 = 'a'.repeat(64);
  t.strictSame(parsePrintedUri(`'http://x/y_1%3a2.deb' y_1%3a2.deb 928188 SHA256:${sha256}\n`), {
    size: 928188,
    hash: { algorithm: 'sha256', hex: sha256 },
  });
  t.equal(parsePrintedUri(`W: note\n'http://x/y' y 1 SHA512:${'b'.repeat(128)}`)?.hash.algorithm, 'sha512');
  t.equal(parsePrintedUri(`'http://x/y' y 1 MD5Sum:${'a'.repeat(32)}`), null);
  t.equal(parsePrintedUri(''), null);
  for (const good of ['linux-image-amd64', 'g++', 'a=1:2.3~rc1+b-1']) t.ok(isPackageSpec(good), good);
  for (const bad of ['', '-o', '--help', 'a b', 'A', 'a=', 'a/b', '$(x)', 'a\nb'])
    t.notOk(isPackageSpec(bad), bad);
});

t.test('a kernel package is fetched, checked, unpacked, and then taken from the cache', async (t) => {
  const folder = temporary(t);
  const apt = new FakeApt(makeDeb(folder, KERNEL_FILES));
  let state = 'lists of Monday';
  const lines: string[] = [];
  const onProgress = (line: string) => lines.push(line);
  const cache: PackageCache = {
    folder: join(folder, 'cache'),
    run: apt.run,
    state: async () => state,
    onProgress,
  };
  const kernel = await fetchKernelPackage(cache);
  t.match(kernel.package, { name: NAME, version: '1:6.1-1', sha256: /^[0-9a-f]{64}$/ });
  t.equal(kernel.modules.release, RELEASE);
  t.equal(kernel.config?.get('CONFIG_PVH'), 'y');
  t.ok(readFileSync(kernel.image).equals(KERNEL_FILES[`boot/vmlinuz-${RELEASE}`] as Buffer));
  t.strictSame(apt.asked.splice(0), ['show', 'print', 'download']);
  t.match(lines, [/^downloading /, /^unpacking /]);

  t.strictSame((await fetchKernelPackage(cache)).image, kernel.image);
  t.strictSame(apt.asked.splice(0), [], 'apt is not even asked while its lists are the same');

  state = 'lists of Tuesday';
  await fetchKernelPackage(cache);
  t.strictSame(apt.asked.splice(0), ['show', 'print'], 'new lists, same package');

  apt.lists = false;
  state = 'no lists';
  t.equal((await fetchKernelPackage(cache)).image, kernel.image);
  t.match(lines.at(-1), /using linux-image-.* from the cache/);

  apt.lists = true;
  apt.deb = makeDeb(folder, KERNEL_FILES, NAME, '1:6.1-2');
  state = 'lists of Wednesday';
  t.equal((await fetchKernelPackage(cache)).package?.version, '1:6.1-2', 'a new version is taken');
  const left = readdirSync(cache.folder).filter((name) => name.startsWith('.tmp'));
  t.strictSame(left, [], 'nothing temporary is left');
});

t.test('two builds at once unpack one package', async (t) => {
  const folder = temporary(t);
  const apt = new FakeApt(makeDeb(folder, KERNEL_FILES));
  const cache: PackageCache = { folder: join(folder, 'cache'), run: apt.run, state: async () => 'x' };
  const [one, two] = await Promise.all([fetchKernelPackage(cache), fetchKernelPackage(cache)]);
  t.equal(one?.image, two?.image);
  t.ok(existsSync(one?.image as string));
});

t.test('what apt cannot give is an error that says what to do', async (t) => {
  const folder = temporary(t);
  const apt = new FakeApt(makeDeb(folder, KERNEL_FILES));
  const cache: PackageCache = { folder: join(folder, 'cache'), run: apt.run, state: async () => 'x' };
  const refuse = (spec: string, message: RegExp, hint?: RegExp) =>
    t.rejects(fetchKernelPackage(cache, spec), {
      code: 'YAVM_E_INITRAMFS_PACKAGE',
      message,
      ...(hint ? { hint } : {}),
    });
  await refuse('--simulate', /not a package name/);
  apt.hash = 'f'.repeat(64);
  await refuse('linux-image-cloud-amd64', /sha256 is [0-9a-f]{64}, but apt's index says f{64}/);
  apt.control = 'Package: x\nDepends: libc6\n';
  await refuse('linux-image-cloud-amd64', /depends on no linux-image package/);
  apt.lists = false;
  await refuse('linux-image-cloud-amd64', /apt knows no such package/, /apt-get update/);
  await t.rejects(fetchPackage(cache, 'busybox-static'), {
    message: /busybox-static/,
    hint: /apt-get update/,
  });
});

t.test('a .deb file does as well; one without a kernel does not', async (t) => {
  const folder = temporary(t);
  const cache: PackageCache = { folder: join(folder, 'cache') };
  const kernel = await fetchKernelPackage(cache, makeDeb(folder, KERNEL_FILES));
  t.equal(kernel.modules.release, RELEASE);
  const refuse = (file: string, message: RegExp) =>
    t.rejects(fetchKernelPackage(cache, file), { code: 'YAVM_E_INITRAMFS_PACKAGE', message });
  await refuse(makeDeb(folder, { 'etc/x': 'x' }, 'other'), /^other: has 0 kernels/);
  writeTree(folder, { 'text.deb': 'no package' });
  await refuse(join(folder, 'text.deb'), /cannot be unpacked/);
  await refuse(join(folder, 'none.deb'), /cannot be unpacked/);
});

t.test('a kernel of any distribution is opened from its files', async (t) => {
  const folder = temporary(t);
  writeTree(folder, KERNEL_FILES);
  const kernel = join(folder, `boot/vmlinuz-${RELEASE}`);
  const modules = join(folder, `lib/modules/${RELEASE}`);
  t.equal((await openKernelFiles({ kernel, modules })).config?.get('CONFIG_PVH'), 'y', 'beside the kernel');
  rmSync(join(folder, `boot/config-${RELEASE}`));
  t.equal((await openKernelFiles({ kernel, modules })).config, null);
  writeTree(modules, { config: 'CONFIG_PVH=m\n' });
  t.equal(
    (await openKernelFiles({ kernel, modules })).config?.get('CONFIG_PVH'),
    'm',
    'in the modules folder',
  );
  writeTree(folder, { '.config': 'CONFIG_X=y\n' });
  const config = join(folder, '.config');
  t.equal((await openKernelFiles({ kernel, modules, config })).config?.get('CONFIG_X'), 'y', 'as told');
  await t.rejects(openKernelFiles({ kernel, modules, config: join(folder, 'none') }), {
    code: 'YAVM_E_INITRAMFS_KERNEL',
  });
});
