import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import { parseManifest } from '../../host/driver-layer/manifest.ts';
import { readModuleInfo } from '../../host/driver-layer/module-info.ts';
import { testContext } from '../lib/cli.ts';
import { driverFiles, fakeModule, VERMAGIC, writeFiles } from '../lib/driver-files.ts';

const VERSION = '550.163.01';
const folder = mkdtempSync(join(tmpdir(), 'yavm-driver-layer-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string) => join(folder, name);
let sources = 0;

async function cli(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const context = testContext();
  context.env = { ...process.env };
  const code = await runProgram(['driver-layer', ...words], context);
  return { code, out: context.out(), err: context.err() };
}

/** Builds of files; `output` relative to the test's folder. */
function buildOf(files: Record<string, Buffer>, output: string, ...words: string[]) {
  const source = file(`source-${sources++}`);
  writeFiles(source, files);
  return cli('build', source, '-o', file(output), ...words);
}

t.test('a layer: what is in it, in its place, and the same bytes each time', async (t) => {
  const made = await buildOf(driverFiles(VERSION), 'a.squashfs', '--kernel-release', '6.1.0-56-amd64');
  t.equal(made.code, 0, made.err);
  const again = await buildOf(driverFiles(VERSION), 'b.squashfs', '--json');
  const manifest = JSON.parse(again.out);
  t.ok(readFileSync(file('a.squashfs')).equals(readFileSync(file('b.squashfs'))), 'reproducible');
  t.match(manifest, { driverVersion: VERSION, kernelRelease: '6.1.0-56-amd64', vermagic: VERMAGIC });
  const library = 'usr/lib/x86_64-linux-gnu';
  t.strictSame(
    manifest.files.map(({ path, link }: { path: string; link?: string }) =>
      link ? `${path} -> ${link}` : path,
    ),
    [
      `lib/firmware/nvidia/${VERSION}/gsp_ga10x.bin`,
      'lib/modules/6.1.0-56-amd64/modules.alias',
      'lib/modules/6.1.0-56-amd64/modules.dep',
      'lib/modules/6.1.0-56-amd64/modules.softdep',
      'lib/modules/6.1.0-56-amd64/updates/nvidia-drm.ko',
      'lib/modules/6.1.0-56-amd64/updates/nvidia-modeset.ko',
      'lib/modules/6.1.0-56-amd64/updates/nvidia-uvm.ko',
      'lib/modules/6.1.0-56-amd64/updates/nvidia.ko',
      'usr/bin/nvidia-smi',
      `${library}/libcuda.so -> libcuda.so.1`,
      `${library}/libcuda.so.1 -> libcuda.so.${VERSION}`,
      `${library}/libcuda.so.${VERSION}`,
      `${library}/libnvidia-gpucomp.so.${VERSION}`,
      `${library}/libnvidia-ml.so -> libnvidia-ml.so.1`,
      `${library}/libnvidia-ml.so.1 -> libnvidia-ml.so.${VERSION}`,
      `${library}/libnvidia-ml.so.${VERSION}`,
      'usr/share/OpenCL/vendors/nvidia.icd',
    ],
  );
  const cat = (path: string) => execFileSync('unsquashfs', ['-cat', file('a.squashfs'), path]).toString();
  t.equal(
    cat('lib/modules/6.1.0-56-amd64/modules.dep'),
    [
      'updates/nvidia-drm.ko: drm_kms_helper.ko updates/nvidia-modeset.ko',
      'updates/nvidia-modeset.ko: updates/nvidia.ko',
      'updates/nvidia-uvm.ko: updates/nvidia.ko',
      'updates/nvidia.ko: drm.ko\n',
    ].join('\n'),
  );
  t.equal(cat('lib/modules/6.1.0-56-amd64/modules.alias'), 'alias pci:v000010DEd* nvidia\n');

  const looked = await cli('inspect', '--verify', file('a.squashfs'));
  t.equal(looked.code, 0, looked.err);
  t.match(looked.out, /driver 550\.163\.01 for kernel 6\.1\.0-56-amd64/);
  t.strictSame(
    readdirSync(folder).filter((name) => name.endsWith('.tmp')),
    [],
  );
});

t.test('compressed modules are unpacked, names with underscores are the same', async (t) => {
  const { 'dkms/nvidia-uvm.ko': uvm, 'dkms/nvidia.ko': nvidia, ...rest } = driverFiles(VERSION);
  const files = {
    ...rest,
    'dkms/nvidia_uvm.ko.xz': execFileSync('xz', ['-c'], { input: uvm }),
    'dkms/nvidia.ko.zst': zstdCompressSync(nvidia as Buffer),
  };
  const made = await buildOf(files, 'packed.squashfs');
  t.equal(made.code, 0, made.err);
  t.match(made.out, /updates\/nvidia-uvm\.ko\n/);
});

t.test(
  'packages, beside a folder',
  { skip: !existsSync('/usr/bin/dpkg-deb') && 'no dpkg-deb' },
  async (t) => {
    const files = Object.entries(driverFiles(VERSION));
    const part = (top: string) => Object.fromEntries(files.filter(([path]) => path.startsWith(`${top}/`)));
    writeFiles(file('modules'), part('dkms'));
    const control =
      'Package: libcuda1\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n';
    writeFiles(file('package'), { ...part('run'), 'DEBIAN/control': Buffer.from(control) });
    execFileSync('dpkg-deb', ['--root-owner-group', '-b', file('package'), file('libcuda1.deb')]);
    const made = await cli('build', file('modules'), file('libcuda1.deb'), '-o', file('deb.squashfs'));
    t.equal(made.code, 0, made.err);
    t.ok(readFileSync(file('deb.squashfs')).equals(readFileSync(file('a.squashfs'))), 'the same layer');
    t.match((await cli('build', file('a.squashfs'), '-o', file('x'))).err, /neither a folder nor a \.deb/);
  },
);

t.test('parts that do not fit together are named, and nothing is left', async (t) => {
  const good = driverFiles(VERSION);
  const other = '6.12.0-amd64 SMP preempt mod_unload modversions ';
  const uvm = (vermagic: string, version: string) =>
    fakeModule({ name: 'nvidia_uvm', version, vermagic, depends: 'nvidia' });
  const CASES: [files: Record<string, Buffer>, message: RegExp, words?: string[]][] = [
    [{ ...good, 'dkms/nvidia-uvm.ko': uvm(other, VERSION) }, /not of one kernel: .*6\.12\.0/],
    [
      { ...good, 'dkms/nvidia-uvm.ko': uvm(VERMAGIC, '550.54.14') },
      /not of one driver version: .*550\.54\.14/,
    ],
    [{ ...good, 'run/libcuda.so.535.183.01': good[`run/libcuda.so.${VERSION}`] as Buffer }, /535\.183\.01/],
    [good, /for kernel 6\.1\.0-56-amd64, not for 6\.1\.0-57-amd64/, ['--kernel-release', '6.1.0-57-amd64']],
    [{ 'run/nvidia-smi': Buffer.from('') }, /no kernel module nvidia, nvidia-uvm/],
    [{ ...good, [`run/libcuda.so.${VERSION}`]: Buffer.from('text') }, /no library libcuda/],
    [{ ...good, 'open/nvidia.ko': good['dkms/nvidia.ko'] as Buffer }, /is for the same place/],
    [
      { ...good, 'dkms/nvidia.ko': (good['dkms/nvidia.ko'] as Buffer).subarray(0, 90) },
      /no whole kernel module/,
    ],
    [{ ...good, 'dkms/nvidia.ko': fakeModule({ name: 'nvidia' }) }, /does not say/],
  ];
  for (const [files, message, words = []] of CASES) {
    const made = await buildOf(files, 'bad.squashfs', ...words);
    t.not(made.code, 0);
    t.match(made.err, message);
    t.match(made.err, /YAVM_E_DRIVER_LAYER/);
  }
  t.notOk(existsSync(file('bad.squashfs')));
  const none = await cli('build', file('nowhere'), '-o', file('bad.squashfs'));
  t.match(none.err, /YAVM_E_DRIVER_LAYER/);
});

t.test('what is no layer, and one that is not what its manifest says', async (t) => {
  writeFileSync(file('text'), 'no squashfs');
  t.match((await cli('inspect', file('text'))).err, /no whole driver layer.*YAVM_E_DRIVER_LAYER/s);
  for (const text of ['{', 'null', '{"format":2}', '{"format":1,"files":[1]}'])
    t.throws(() => parseManifest(text, 'x'), { code: 'YAVM_E_DRIVER_LAYER' }, text);
  const tree = file('tree');
  execFileSync('unsquashfs', ['-q', '-n', '-d', tree, file('a.squashfs')]);
  writeFileSync(join(tree, 'usr/bin/nvidia-smi'), 'another');
  execFileSync('mksquashfs', [tree, file('changed.squashfs'), '-quiet', '-no-progress']);
  t.match((await cli('inspect', '--verify', file('changed.squashfs'))).err, /usr\/bin\/nvidia-smi is not/);
});

t.test('numbers in a module that lead out of it', (t) => {
  const whole = fakeModule({ name: 'nvidia', vermagic: VERMAGIC });
  t.match(readModuleInfo(whole, 'x'), { name: 'nvidia', release: '6.1.0-56-amd64' });
  for (let at = 0; at < whole.length; at++) {
    const broken = Buffer.from(whole);
    broken[at] = 0xff;
    try {
      readModuleInfo(broken, 'x');
    } catch (error) {
      t.match(error, { code: 'YAVM_E_DRIVER_LAYER' });
    }
  }
  t.end();
});
