/** Driver layers from packages: apt, dpkg-deb, make and the compiler are the real ones, the packages are made here. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import {
  dependsOf,
  isVersion,
  packageName,
  upstreamVersion,
  usualModules,
} from '../../host/driver-layer/apt-packages.ts';
import { chooseDriver, fetchFromApt } from '../../host/driver-layer/from-apt.ts';
import { compilerOf } from '../../host/driver-layer/module-build.ts';
import type { RunTool } from '../../initramfs/tool.ts';
import { type FakePackage, makeRepository } from '../lib/apt-repository.ts';
import { testContext } from '../lib/cli.ts';
import { driverFiles, VERMAGIC, writeFiles } from '../lib/driver-files.ts';

const VERSION = '550.163.01';
const RELEASE = '6.1.0-56-amd64';
const NEEDED = ['/usr/bin/apt-get', '/usr/bin/dpkg-deb', '/usr/bin/make', '/usr/bin/gcc', '/usr/bin/strip'];
const missing = NEEDED.filter((path) => !existsSync(path));
const skip = missing.length > 0 && `not here: ${missing.join(', ')}`;

const top = mkdtempSync(join(tmpdir(), 'yavm-driver-apt-test-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));
let folders = 0;

async function build(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const context = testContext();
  context.env = { ...process.env };
  const code = await runProgram(['driver-layer', 'build', ...words], context);
  return { code, out: context.out(), err: context.err() };
}

/** Makes what Debian's dkms package has: sources that ask their Makefile's caller for the kernel. */
function sources(version: string): Record<string, Buffer> {
  const info = (name: string, depends: string) =>
    [`name=${name}`, `version=${version}`, `vermagic=${VERMAGIC}`, `depends=${depends}`]
      .map(
        (entry, index) =>
          `__attribute__((section(".modinfo"), used)) static const char i${index}[] = "${entry}";`,
      )
      .join('\n');
  // As NVIDIA's does, it goes through the headers' own Makefile, which names the compiler.
  const makefile = [
    'modules:',
    '\ttest "$(KERNEL_UNAME)" = 6.1.0-56-amd64',
    '\ttest -f $(SYSSRC)/common.h',
    '\t$(MAKE) -C $(SYSOUT) M=$(CURDIR) objects',
  ];
  return {
    Makefile: Buffer.from(`${makefile.join('\n')}\n`),
    'dkms.conf': Buffer.from(''),
    'nvidia.c': Buffer.from(`${info('nvidia', '')}\n`),
    'nvidia-uvm.c': Buffer.from(`${info('nvidia_uvm', 'nvidia')}\n`),
  };
}

function below(folder: string, files: Record<string, Buffer>): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`${folder}/${path}`, bytes]));
}

const COMPILE =
  'objects:\n\tfor m in nvidia nvidia-uvm; do gcc -g -c -o $(M)/$$m.ko $(M)/$$m.c || exit 1; done\n';

/** Debian's: user space, firmware, sources of modules, and headers of a kernel in two packages. */
function packages({ version = VERSION, compiler = 'gcc', makefile = COMPILE } = {}): FakePackage[] {
  const parts = driverFiles(version);
  const run = (name: string) => parts[`run/${name}`] as Buffer;
  const library = (name: string): Record<string, Buffer> => ({
    [`usr/lib/x86_64-linux-gnu/nvidia/current/${name}.so.${version}`]: run(`${name}.so.${version}`),
  });
  const package_ = (name: string, files: Record<string, Buffer>, depends?: string): FakePackage => {
    return { name, version: `${version}-1~deb12u1`, files, depends };
  };
  const headers = `usr/src/linux-headers-${RELEASE}`;
  return [
    package_('libcuda1', library('libcuda')),
    package_('libnvidia-ml1', library('libnvidia-ml')),
    package_('firmware-nvidia-gsp', {
      [`lib/firmware/nvidia/${version}/gsp_ga10x.bin`]: run('firmware/gsp_ga10x.bin'),
    }),
    package_('nvidia-smi', { 'usr/lib/nvidia/current/nvidia-smi': run('nvidia-smi') }),
    // Of a version of its own.
    {
      name: 'nvidia-persistenced',
      version: '535.1-1',
      files: {
        'usr/bin/nvidia-persistenced': parts['run/nvidia-smi'] as Buffer,
        'etc/init.d/nvidia-persistenced': Buffer.from('#!'),
      },
    },
    package_('nvidia-kernel-dkms', below(`usr/src/nvidia-current-${version}`, sources(version))),
    {
      name: `linux-headers-${RELEASE}`,
      version: '6.1.190-1',
      depends: 'linux-headers-6.1.0-56-common (= 6.1.190-1), linux-compiler-gcc-12-x86',
      files: {
        [`${headers}/Makefile`]: Buffer.from('include /usr/src/linux-headers-6.1.0-56-common/Makefile\n'),
        [`${headers}/.config`]: Buffer.from(
          `CONFIG_CC_VERSION_TEXT="${compiler} (Debian 12.2.0-14) 12.2.0"\n`,
        ),
      },
      links: {
        [`lib/modules/${RELEASE}/build`]: `/usr/src/linux-headers-${RELEASE}`,
        [`lib/modules/${RELEASE}/source`]: '/usr/src/linux-headers-6.1.0-56-common',
      },
    },
    {
      name: 'linux-headers-6.1.0-56-common',
      version: '6.1.190-1',
      files: {
        'usr/src/linux-headers-6.1.0-56-common/Makefile': Buffer.from(makefile),
        'usr/src/linux-headers-6.1.0-56-common/common.h': Buffer.from(''),
      },
    },
  ];
}

function repository(...changes: Parameters<typeof packages>): string {
  return makeRepository(join(top, String(folders++)), packages(...changes));
}

t.test('a layer from packages: modules are built, and it is the same each time', { skip }, async (t) => {
  const list = repository();
  const [first, second] = [join(top, 'first.squashfs'), join(top, 'second.squashfs')];
  const words = [
    '--from-apt',
    '550',
    '--apt-sources',
    list,
    '--kernel-release',
    RELEASE,
    '--modules',
    'proprietary',
  ];
  const made = await build(...words, '-o', first, '--json');
  t.equal(made.code, 0, made.err);
  const manifest = JSON.parse(made.out);
  t.match(manifest, { driverVersion: VERSION, kernelRelease: RELEASE, vermagic: VERMAGIC });
  const paths: string[] = manifest.files.map(({ path }: { path: string }) => path);
  for (const path of [
    `lib/modules/${RELEASE}/updates/nvidia.ko`,
    `lib/modules/${RELEASE}/updates/nvidia-uvm.ko`,
    `lib/firmware/nvidia/${VERSION}/gsp_ga10x.bin`,
    `usr/lib/x86_64-linux-gnu/libcuda.so.${VERSION}`,
    'usr/bin/nvidia-smi',
    'usr/bin/nvidia-persistenced',
  ])
    t.ok(paths.includes(path), path);
  t.match(made.err, /driver 550\.163\.01 of Debian: 5 packages/);
  const again = await build(...words, '-o', second);
  t.equal(again.code, 0, again.err);
  t.ok(readFileSync(first).equals(readFileSync(second)), 'reproducible');
  const looked = testContext();
  looked.env = { ...process.env };
  t.equal(await runProgram(['driver-layer', 'inspect', '--verify', first], looked), 0, looked.err());
});

t.test('modules that are there already, of apt’s packages the rest', { skip }, async (t) => {
  const folder = join(top, 'modules');
  const all = Object.entries(driverFiles(VERSION)).filter(([path]) => path.startsWith('dkms/'));
  writeFiles(folder, Object.fromEntries(all));
  const list = makeRepository(
    join(top, String(folders++)),
    packages().filter(({ name }) => !/dkms|headers/.test(name)),
  );
  const output = join(top, 'given.squashfs');
  const words = ['--from-apt', '--apt-sources', list, '--kernel-release', RELEASE, '-o', output];
  const made = await build(...words, '--modules', 'none', folder);
  t.equal(made.code, 0, made.err);
  const other = await build(...words, '--modules', 'none');
  t.match(other.err, /no kernel module nvidia/);
});

t.test('what is not to be had, and what cannot be built', { skip }, async (t) => {
  const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('yavm-driver-layer-')).length;
  const before = left();
  const without = (pattern: RegExp) =>
    makeRepository(
      join(top, String(folders++)),
      packages().filter(({ name }) => !pattern.test(name)),
    );
  const broken = 'objects:\n\techo no member named f_owner >&2; exit 1\n';
  const nowhere = join(top, 'nowhere.list');
  writeFileSync(nowhere, `deb [trusted=yes] file:${join(top, 'none')} ./\n`);
  const CASES: [list: string, message: RegExp, words?: string[]][] = [
    [without(/libcuda1/), /apt does not have NVIDIA's driver 550.*contrib and non-free/s],
    [without(/firmware/), /only 550\.163\.01 without firmware-nvidia-gsp/],
    [repository(), /only 550\.163\.01 without nvidia-open-kernel-dkms/, ['--modules', 'open']],
    [without(/headers-6.1.0-56-amd64/), /apt does not have linux-headers-6\.1\.0-56-amd64.*--update/s],
    [repository({ compiler: 'gcc-99' }), /no gcc-99.*sudo apt-get install gcc-99/s],
    [
      repository({ makefile: broken }),
      /cannot be built for kernel 6\.1\.0-56-amd64.*no member named f_owner/s,
    ],
    [repository({ version: '535.1.1' }), /apt does not have NVIDIA's driver 550/],
    [nowhere, /apt cannot fetch its indices/],
    [join(top, 'missing.list'), /missing\.list: cannot be read/],
  ];
  const output = join(top, 'bad.squashfs');
  for (const [list, message, words = []] of CASES) {
    const common = ['--from-apt', '550', '--apt-sources', list, '--kernel-release', RELEASE, '-o', output];
    const made = await build(...common, ...words);
    t.not(made.code, 0);
    t.match(made.err, message);
    t.match(made.err, /YAVM_E_DRIVER_LAYER/);
  }
  t.notOk(existsSync(output));
  t.ok(left() <= before, 'nothing is left');
});

t.test('a signal ends what runs, and is the reason, whatever the program said of its end', async (t) => {
  const work = mkdtempSync(join(top, 'ended-'));
  const ender = new AbortController();
  const ran: string[] = [];
  const run: RunTool = async (command, args, options) => {
    ran.push([command, ...args].join(' '));
    t.equal(options?.signal, ender.signal);
    ender.abort(new Error('by Ctrl-C'));
    throw new Error('apt-cache: was ended by SIGTERM');
  };
  await t.rejects(fetchFromApt({ kernelRelease: RELEASE }, { work, signal: ender.signal, run }), {
    message: 'by Ctrl-C',
  });
  t.ok(ran.length > 0);
});

t.test('words of the command that do not go together', async (t) => {
  const CASES: [words: string[], message: RegExp][] = [
    [[], /name folders and \.deb files, or --from-apt/],
    [['x', '--apt-sources', 'f'], /--apt-sources is for --from-apt/],
    [['x', '--modules', 'open'], /--modules is for --from-apt/],
    [['--from-apt', '-o=x'], /no version of a driver|unknown option|YAVM_E/],
    [['--from-apt', '550 x'], /no version of a driver/],
    [['--from-apt', '550', '--kernel-release', '../x'], /no release of a kernel/],
    [['--from-apt', '550', '--kernel-set', 'none'], /no such kernel set/],
  ];
  for (const [words, message] of CASES) {
    const { code, err } = await build(...words, ...(words.length === 0 ? [] : ['-o', join(top, 'x')]));
    t.not(code, 0);
    t.match(err, message, words.join(' '));
  }
});

/** What apt would answer. */
function offers(names: Record<string, string[]>) {
  return {
    versions: async (asked: readonly string[]) =>
      new Map(asked.flatMap((name) => (names[name] ? [[name, names[name]] as const] : []))),
  };
}

t.test(
  'which version: the newest of which all is there; Ubuntu’s names have the branch in them',
  async (t) => {
    const both = ['535.309.01-0+deb12u1', '535.261.03-1'];
    const debian = {
      ...{ libcuda1: both, 'libnvidia-ml1': both, 'firmware-nvidia-gsp': both, 'nvidia-kernel-dkms': both },
      ...{ 'nvidia-open-kernel-dkms': ['535.261.03-1'], 'nvidia-persistenced': ['535.171.04-1'] },
    };
    t.match(await chooseDriver(offers(debian), {}), {
      driverVersion: '535.309.01',
      user: ['libcuda1=535.309.01-0+deb12u1', String, String, 'nvidia-persistenced=535.171.04-1'],
      modules: { kind: 'proprietary', spec: 'nvidia-kernel-dkms=535.309.01-0+deb12u1' },
    });
    t.match(await chooseDriver(offers(debian), { modules: 'open' }), { driverVersion: '535.261.03' });
    t.match(await chooseDriver(offers(debian), { version: '535.261.03', modules: 'none' }), {
      modules: null,
    });
    const one = ['570.133.07-0ubuntu1'];
    const ubuntu = {
      'libnvidia-compute-570': one,
      'nvidia-firmware-570-570.133.07': one,
      'nvidia-kernel-source-570-open': one,
    };
    t.match(await chooseDriver(offers(ubuntu), { version: '570' }), {
      distribution: { name: 'Ubuntu' },
      user: [
        'libnvidia-compute-570=570.133.07-0ubuntu1',
        'nvidia-firmware-570-570.133.07=570.133.07-0ubuntu1',
      ],
      modules: { kind: 'open', spec: 'nvidia-kernel-source-570-open=570.133.07-0ubuntu1' },
    });
    await t.rejects(chooseDriver(offers(ubuntu), {}), { message: /apt does not have an NVIDIA driver/ });
  },
);

t.test('texts of packages', (t) => {
  t.equal(upstreamVersion('1:535.309.01-0+deb12u1'), '535.309.01');
  t.equal(packageName('a-%B-%V', '550.163.01'), 'a-550-550.163.01');
  t.ok(isVersion('550.163.01-1', '550'));
  t.notOk(isVersion('550.163.01-1', '55'));
  t.strictSame([usualModules('550.1.1'), usualModules('560.28.03')], ['proprietary', 'open']);
  t.strictSame(dependsOf('Package: x\nDepends: a (= 1:2-3), b:any (>= 4) | c,\n d\nDescription: e, f\n'), [
    { name: 'a', version: '1:2-3' },
    { name: 'b', version: null },
    { name: 'd', version: null },
  ]);
  t.strictSame(dependsOf('Package: x\n'), []);
  t.equal(compilerOf('A=1\nCONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"\n'), 'gcc-12');
  t.equal(compilerOf('CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0) 13.2.0"\n'), 'gcc-13');
  t.equal(compilerOf(''), null);
  t.end();
});
