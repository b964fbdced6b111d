import t from 'tap';
import { atLeast, CHECKS, type Status } from '../../host/cli/doctor/checks.ts';
import { hostProbes, type Probes, type TemplateFacts } from '../../host/cli/doctor/probes.ts';
import { doctor } from '../../host/cli/doctor.ts';
import { EXIT } from '../../host/cli/exit.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { testContext } from '../lib/cli.ts';

const GIB = 1024 ** 3;
const MEMINFO = 'MemTotal:  8000000 kB\nMemAvailable:    4000000 kB\n';
const MANIFEST = JSON.stringify({
  kernel: { release: '6.1.0' },
  vmlinux: { sha256: 'aa' },
  initramfs: { sha256: 'bb' },
});

/** A host on which all is well. `files`: texts by path. */
const TEMPLATES: TemplateFacts = {
  choice: 'auto',
  folder: '/home/ann/.cache/ya-vm/templates',
  limit: 4 * GIB,
  size: 174 * 1024 ** 2,
  count: 2,
};

function probes(change: Partial<Probes> = {}, files: Record<string, string> = {}): Probes {
  const texts: Record<string, string> = {
    '/proc/meminfo': MEMINFO,
    '/assets/manifest.json': MANIFEST,
    '/proc/sys/net/ipv4/ping_group_range': '0\t2147483647\n',
    ...files,
  };
  return {
    platform: 'linux',
    architecture: 'x64',
    nodeVersion: 'v24.1.0',
    uid: 1000,
    gid: 1000,
    user: 'ann',
    runBase: '/run/user/1000/ya-vm',
    disks: '/var/tmp',
    cache: '/home/ann/.cache/ya-vm',
    assets: '/assets',
    find: (program) => `/usr/bin/${program}`,
    output: async () => 'QEMU emulator version 7.2.11 (Debian)',
    readText: async (path) => texts[path] ?? null,
    access: async () => ({ exists: true, read: true, write: true }),
    stat: async () => ({ mode: 0o700, uid: 1000, size: 1024 ** 2, isDirectory: true }),
    fileSystem: async () => ({ free: 10 * GIB, inMemory: false }),
    sha256: async (path) => (path.endsWith('vmlinux') ? 'aa' : 'bb'),
    passt: async () => ({ path: '/usr/bin/passt', version: '2025', tcpDns: true }),
    templates: async () => TEMPLATES,
    acceleration: async () => ({ usable: true, reason: '' }),
    ...change,
  };
}

async function find(name: string, asked: Probes) {
  const row = CHECKS.find((each) => each.name === name);
  if (!row) throw new Error(`no check '${name}'`);
  return await row.check(asked);
}

t.test('a host on which all is well: exit code 0, a line a check', async (t) => {
  const context = testContext();
  t.equal(await doctor(context, {}, probes()), EXIT.ok);
  const lines = context.out().trimEnd().split('\n');
  t.equal(lines.filter((line) => line.startsWith('✔ ')).length, CHECKS.length);
  t.equal(lines.at(-1), 'All is well.');
});

t.test('templates: what there is, and that none are wanted', async (t) => {
  t.match(await find('templates', probes()), {
    status: 'ok',
    detail: /^2, 174 MiB of at most 4 GiB; \/home/,
  });
  const cold = probes({ templates: async () => ({ ...TEMPLATES, choice: 'cold' }) });
  t.match(await find('templates', cold), { status: 'ok', detail: /YA_VM_START=cold/ });
  const none = probes({ templates: async () => ({ ...TEMPLATES, limit: 0 }) });
  t.match(await find('templates', none), { status: 'ok', detail: /YA_VM_TEMPLATES_LIMIT=0/ });
});

const cases: [string, string, Probes, Status, RegExp, RegExp][] = [
  ['another machine', 'machine', probes({ architecture: 'arm64' }), 'fail', /arm64/, /x86-64/],
  [
    'an old Node',
    'node',
    probes({ nodeVersion: 'v20.11.0' }),
    'fail',
    /v20\.11\.0, older than 22\.18/,
    /make build/,
  ],
  [
    'QEMU that does not run',
    'qemu',
    probes({ output: async () => null }),
    'fail',
    /does not run/,
    /--reinstall/,
  ],
  [
    'an old QEMU',
    'qemu',
    probes({ output: async () => 'version 5.2.0' }),
    'fail',
    /5\.2\.0, older than 7\.2/,
    /Debian 12/,
  ],
  [
    '/dev/kvm that the user may not open',
    '/dev/kvm',
    probes({ access: async () => ({ exists: true, read: false, write: false }) }),
    'warn',
    /ann may not open/,
    /^sudo usermod -aG kvm ann/,
  ],
  [
    'a module that is not loaded (Intel)',
    '/dev/kvm',
    probes(
      { access: async () => ({ exists: false, read: false, write: false }) },
      { '/proc/cpuinfo': 'flags\t: fpu vmx sse\n' },
    ),
    'warn',
    /not there, but the CPU can/,
    /^sudo modprobe kvm_intel$/,
  ],
  [
    'a module that is not loaded (AMD)',
    '/dev/kvm',
    probes(
      { access: async () => ({ exists: false, read: false, write: false }) },
      { '/proc/cpuinfo': 'flags\t: svm\n' },
    ),
    'warn',
    /not there/,
    /^sudo modprobe kvm_amd$/,
  ],
  [
    'a CPU without virtualization',
    '/dev/kvm',
    probes({ access: async () => ({ exists: false, read: false, write: false }) }),
    'warn',
    /no virtualization/,
    /firmware/,
  ],
  [
    'KVM that opens and does not work',
    'acceleration',
    probes({ acceleration: async () => ({ usable: false, reason: 'a guest did not start within 4 s' }) }),
    'warn',
    /TCG.*did not start within 4 s/,
    /Emulation/,
  ],
  [
    'no assets',
    'kernel and initramfs',
    probes({ assets: '/none' }),
    'fail',
    /no manifest\.json in \/none/,
    /^make build$/,
  ],
  [
    'a damaged manifest',
    'kernel and initramfs',
    probes({}, { '/assets/manifest.json': '{"vmlinux":{}}' }),
    'fail',
    /manifest\.json is damaged/,
    /make build/,
  ],
  [
    'a manifest that is no JSON',
    'kernel and initramfs',
    probes({}, { '/assets/manifest.json': '{' }),
    'fail',
    /damaged/,
    /make build/,
  ],
  [
    'a kernel that was replaced',
    'kernel and initramfs',
    probes({ sha256: async () => 'cc' }),
    'fail',
    /vmlinux is not the one/,
    /make build/,
  ],
  [
    'an initramfs that is gone',
    'kernel and initramfs',
    probes({ sha256: async (path) => (path.endsWith('vmlinux') ? 'aa' : null) }),
    'fail',
    /initramfs\.cpio\.zst is missing/,
    /make build/,
  ],
  [
    'no demo image',
    'demo image',
    probes({ stat: async () => null }),
    'warn',
    /demo\.gvmi is missing/,
    /make build/,
  ],
  [
    'little memory',
    'memory',
    probes({}, { '/proc/meminfo': 'MemAvailable: 500000 kB\n' }),
    'warn',
    /488 MiB available/,
    /--memory 128M/,
  ],
  [
    'no memory',
    'memory',
    probes({}, { '/proc/meminfo': 'MemAvailable: 100000 kB\n' }),
    'fail',
    /97\.7 MiB/,
    /End something/,
  ],
  [
    'a memory limit of a cgroup above ours',
    'memory',
    probes(
      {},
      {
        '/proc/self/cgroup': '0::/a/b\n',
        '/sys/fs/cgroup/a/b/memory.max': 'max\n',
        '/sys/fs/cgroup/a/b/memory.current': '1\n',
        '/sys/fs/cgroup/a/memory.max': '536870912\n',
        '/sys/fs/cgroup/a/memory.current': '268435456\n',
      },
    ),
    'warn',
    /256 MiB available \(this process's cgroup limits it\)/,
    /limit of the container/,
  ],
  [
    'a run folder whose path is too long for sockets',
    'run folder',
    probes({ runBase: `/${'x'.repeat(90)}` }),
    'fail',
    /too long for the path of a socket/,
    /XDG_RUNTIME_DIR/,
  ],
  [
    'a run folder that others may enter',
    'run folder',
    probes({ stat: async () => ({ mode: 0o755, uid: 1000, size: 0, isDirectory: true }) }),
    'fail',
    /can be entered by others/,
    /^chmod 700 \/run/,
  ],
  [
    'a run folder of somebody else',
    'run folder',
    probes({ stat: async () => ({ mode: 0o700, uid: 7, size: 0, isDirectory: true }) }),
    'fail',
    /not a folder of ann/,
    /XDG_RUNTIME_DIR/,
  ],
  [
    'a folder for disks that cannot be written',
    'disk folder',
    probes({ access: async () => ({ exists: true, read: true, write: false }) }),
    'fail',
    /ann may not write there/,
    /^export YAVM_DISK_DIR/,
  ],
  [
    'a cache that cannot be written',
    'cache folder',
    probes({ access: async () => ({ exists: true, read: true, write: false }) }),
    'warn',
    /may not write there/,
    /^export XDG_CACHE_HOME/,
  ],
  [
    'no room for templates',
    'templates',
    probes({ fileSystem: async () => ({ free: 100 * 1024 ** 2, inMemory: false }) }),
    'warn',
    /^2, 174 MiB of at most 4 GiB; .*100 MiB free.*VMs boot$/,
    /YA_VM_TEMPLATES=/,
  ],
  [
    'a full disk',
    'cache folder',
    probes({ fileSystem: async () => ({ free: 100 * 1024 ** 2, inMemory: false }) }),
    'warn',
    /100 MiB free/,
    /^df -h/,
  ],
  [
    'a folder for disks that is memory',
    'disk folder',
    probes({ fileSystem: async () => ({ free: 4 * GIB, inMemory: true }) }),
    'warn',
    /4 GiB free .*but it is memory/,
    /YAVM_DISK_DIR/,
  ],
];

for (const [name, check, asked, status, detail, fix] of cases) {
  t.test(`${name} is found, with what to do`, async (t) => {
    const finding = await find(check, asked);
    t.equal(finding.status, status);
    t.match(finding.detail, detail);
    t.match(finding.fix, fix);
  });
}

t.test('a missing program fails the whole, with the command that installs it', async (t) => {
  const context = testContext();
  const missing = probes({
    find: (program) => {
      throw new YavmError('YAVM_E_QEMU_MISSING', `${program} is not installed`, {
        hint: 'sudo apt-get install x',
      });
    },
  });
  t.equal(await doctor(context, {}, missing), EXIT.unhealthy);
  t.match(context.out(), /✘ qemu +qemu-system-x86_64 is not installed\n +→ sudo apt-get install x\n/);
  t.match(context.out(), /cannot run VMs here yet: 2 of 18 checks failed\.\n$/);
});

t.test('the way to the internet', async (t) => {
  t.match(await find('passt', probes()), { status: 'ok', detail: '2025 (/usr/bin/passt)' });
  const old = { path: '/usr/bin/passt', version: null, tcpDns: false };
  t.match(await find('passt', probes({ passt: async () => old })), {
    status: 'warn',
    detail: /version unknown.*UDP only/,
  });
  const failure = new YavmError('YAVM_E_NET_PASST', 'passt is not installed', { hint: 'install it' });
  t.match(await find('passt', probes({ passt: () => Promise.reject(failure) })), {
    status: 'warn',
    detail: /not installed: QEMU's user network/,
    fix: 'install it',
  });
  const range = '/proc/sys/net/ipv4/ping_group_range';
  t.match(await find('ping', probes({}, { [range]: '1\t0\n' })), { status: 'warn', fix: /sysctl/ });
  const asRoot = (ranges: string) => probes({ uid: 0, gid: 0 }, { [range]: ranges });
  t.match(await find('ping', asRoot('0\t0\n')), { status: 'warn', detail: /group 65534/ }, 'passt is nobody');
  t.match(await find('ping', asRoot('0\t65534\n')), { status: 'ok' });
  const route = `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe80 00000400 00000003 00000000 00000003     eth0\n`;
  t.match(await find('IPv6', probes({}, { '/proc/net/ipv6_route': route })), { detail: /VMs have it too/ });
  t.match(await find('IPv6', probes()), { status: 'ok', detail: /IPv4 only/ });
});

t.test('programs that most VMs do without are warnings', async (t) => {
  for (const [name, without] of [
    ['virtiofsd', /no volumes/],
    ['mksquashfs', /no images can be built/],
  ] as const) {
    const missing = probes({
      find: (program) => {
        if (program !== name) return `/usr/bin/${program}`;
        throw new YavmError('YAVM_E_MKSQUASHFS_MISSING', `${name} is not installed`, { hint: 'install it' });
      },
    });
    t.match(await find(name, missing), { status: 'warn', detail: without, fix: 'install it' });
  }
});

t.test('warnings leave the exit code 0', async (t) => {
  const context = testContext();
  const slow = probes({ acceleration: async () => ({ usable: false, reason: 'no' }) });
  t.equal(await doctor(context, {}, slow), EXIT.ok);
  t.match(context.out(), /with 1 warning\.\n$/);
});

t.test('a check that breaks is a finding, and the others still run', async (t) => {
  const context = testContext();
  const broken = probes({ acceleration: () => Promise.reject(new TypeError('x is undefined')) });
  t.equal(await doctor(context, { json: true }, broken), EXIT.unhealthy);
  const { ok, checks } = JSON.parse(context.out());
  t.equal(ok, false);
  t.equal(checks.length, CHECKS.length);
  t.match(
    checks.find((check: { name: string }) => check.name === 'acceleration'),
    {
      status: 'fail',
      detail: 'the check itself failed: x is undefined',
    },
  );
});

t.test('versions are compared by their first numbers', async (t) => {
  for (const version of ['7.2', '7.10.1', '8.0.0', 'v7.2.0'])
    t.equal(atLeast(version, [7, 2]), true, version);
  for (const version of ['7.1.9', '6.9', '7', 'nonsense']) t.equal(atLeast(version, [7, 2]), false, version);
});

t.test('the real probes answer for this machine', async (t) => {
  const real = hostProbes({ PATH: '/usr/bin:/bin' });
  t.match(await real.readText('/proc/meminfo'), /MemAvailable/);
  t.equal(await real.readText('/nowhere'), null);
  t.same(await real.access('/nowhere'), { exists: false, read: false, write: false });
  t.match(await real.stat('/tmp'), { isDirectory: true });
  t.equal(await real.stat('/nowhere'), null);
  const system = await real.fileSystem('/nowhere/at/all');
  t.ok(system && system.free > 0, 'of the nearest folder that exists');
  t.equal(await real.output('/nowhere', []), null);
  t.equal(await real.output('/bin/echo', ['a']), 'a\n');
  t.equal(await real.sha256('/dev/null'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  t.equal(await real.sha256('/nowhere'), null);
});

t.test('the kernel set that VMs boot is looked at', async (t) => {
  const row = CHECKS.find(({ name }) => name === 'kernel and initramfs');
  const files = { '/sets/gpu/manifest.json': MANIFEST.replace('6.1.0', '6.1.0-gpu') };
  const found = await row?.check(probes({ kernel: () => '/sets/gpu' }, files));
  t.match(found, { status: 'ok', detail: 'Linux 6.1.0-gpu in /sets/gpu, checksums match' });
  const none = () => {
    throw new YavmError('YAVM_E_KERNEL_SET', 'the kernel set gpu is not built', { hint: 'build it' });
  };
  const context = testContext();
  await doctor(context, { json: true }, probes({ kernel: none }));
  t.match(context.out(), /the kernel set gpu is not built/);
});
