import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { requests } from '../../guest/protocol/validate.ts';
import { findProgram } from '../../host/lib/programs.ts';
import { type ProbeOutcome, tryModels } from '../../host/runtime/accelerator.ts';
import { kvmGroups, mayOpen, parseNobody, qemuUser } from '../../host/runtime/privileges.ts';
import { serverKind, shareCommand } from '../../host/runtime/share-command.ts';
import { StartCache } from '../../host/runtime/start-cache.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { bootDeadline, checkSpec, planConfigure, planNics } from '../../host/runtime/vm-plan.ts';

const SPEC: VmSpec = {
  assets: { kernel: '/k', initramfs: '/i', manifest: '/m' },
  layers: ['/top', '/base'],
  root: { disk: 1 << 30 },
  memoryMiB: 512,
  cpus: 1,
  hostname: 'golem',
  accel: 'tcg',
};

t.test('the guest is told its layers, topmost first, and what is valid', async (t) => {
  const facts = { now: 1_764_080_000_250, entropy: new Uint8Array(64), logLevel: 'warn' as const };
  const request = planConfigure(SPEC, facts);
  t.match(request, {
    hostname: 'golem',
    layers: [{ serial: 'layer0' }, { serial: 'layer1' }],
    upper: { serial: 'root' },
    clock: 1_764_080_000.25,
    logLevel: 'warn',
  });
  t.doesNotThrow(() => requests.configure(request));
  t.strictSame(planConfigure({ ...SPEC, root: { ram: 1e8 } }, facts).upper, { ram: 1e8 });
});

t.test('shared folders are mounts for the guest, by their tags', async (t) => {
  const facts = { now: 0, entropy: new Uint8Array(64), logLevel: 'warn' as const };
  const shares = [
    { hostPath: '/host/a', path: '/a' },
    { hostPath: '/host/b', path: '/b', readOnly: true },
  ];
  const request = planConfigure({ ...SPEC, mounts: [{ kind: 'directory', path: '/d' }], shares }, facts);
  t.strictSame(request.mounts, [
    { kind: 'directory', path: '/d' },
    { kind: 'virtiofs', tag: 'share0', path: '/a', readOnly: undefined },
    { kind: 'virtiofs', tag: 'share1', path: '/b', readOnly: true },
  ]);
  t.doesNotThrow(() => requests.configure(request));
});

t.test('volumes on disks of their own are found by their serials; 9p where virtiofs is not', async (t) => {
  const facts = { now: 0, entropy: new Uint8Array(64), logLevel: 'warn' as const, shares: '9p' as const };
  const request = planConfigure(
    {
      ...SPEC,
      root: { disk: 1 << 30, errors: 'panic' },
      disks: [
        { path: '/a', size: 1 << 30 },
        { path: '/b', size: 1 << 30, errors: 'continue' },
      ],
      shares: [{ hostPath: '/host', path: '/c' }],
    },
    facts,
  );
  t.strictSame(request.upper, { serial: 'root', errors: 'panic' });
  t.strictSame(request.mounts, [
    { kind: 'disk', serial: 'volume0', path: '/a', errors: undefined },
    { kind: 'disk', serial: 'volume1', path: '/b', errors: 'continue' },
    { kind: '9p', tag: 'share0', path: '/c', readOnly: undefined },
  ]);
  t.doesNotThrow(() => requests.configure(request));
});

t.test('how a file server is started', async (t) => {
  const hostPath = '/a b/$(c), -d';
  const c = { path: '/usr/lib/qemu/virtiofsd', kind: 'c' } as const;
  const root = shareCommand({ hostPath }, c, true);
  t.strictSame(root.slice(0, 5), ['unshare', '--mount', '--', '/bin/sh', '-c']);
  t.notMatch(root[5], hostPath, 'the folder is no part of the script');
  t.strictSame(root.slice(6, 10), ['sh', hostPath, 'nosuid,nodev', c.path]);
  t.ok(root.includes('--fd=3') && root.includes('source=/mnt'));
  const rust = { path: '/usr/libexec/virtiofsd', kind: 'rust' } as const;
  const user = shareCommand({ hostPath, readOnly: true }, rust, false);
  t.strictSame(user.slice(0, 4), ['unshare', '--user', '--map-root-user', '--mount']);
  t.ok(user.includes('nosuid,nodev,ro') && user.includes('--shared-dir=/mnt'));
  t.equal(serverKind('virtiofsd version 7.2.22 (Debian 1:7.2)\nCopyright'), 'c');
  t.equal(serverKind('virtiofsd 1.13.2\n'), 'rust');
});

t.test('a NIC for each link that the guest is to configure', async (t) => {
  t.strictSame(planNics(SPEC), []);
  const link = { mac: '90:13:0a:00:00:02', name: 'eth0', addresses: [] };
  const wired = { ...SPEC, network: { links: [link, { ...link, mac: '90:13:00:00:00:02' }] } };
  t.strictSame(planNics(wired), [
    { mac: link.mac, backend: null },
    { mac: '90:13:00:00:00:02', backend: null },
  ]);
  const cable = { kind: 'stream', fd: 7 } as const;
  t.strictSame(
    planNics(wired, [null, cable]).map(({ backend }) => backend),
    [null, cable],
    'cables in the order of the links',
  );
  t.throws(() => planNics(SPEC, [cable]), { code: 'YAVM_E_VM_SPEC' }, 'a cable without a NIC');
});

t.test('a VM that cannot be built is refused with what is wrong', async (t) => {
  const seven = Array(7).fill('/layer');
  const cases: [Partial<VmSpec>, RegExp | null][] = [
    [{}, null],
    [{ layers: seven }, null],
    [{ layers: [...seven, '/8'] }, /9 disks, at most 8/],
    [{ layers: [...seven, '/8'], root: { ram: 1e8 } }, null],
    [{ layers: seven, disks: [{ path: '/d', size: 1 << 30 }] }, /9 disks.*storage volumes/],
    [{ root: { disk: 1 << 20 } }, /a root disk of 1048576 bytes/],
    [{ memoryMiB: 79 }, /79 MiB of memory/],
    [{ memoryMiB: 512.5 }, /512\.5 MiB/],
    [{ cpus: 0 }, /0 CPUs/],
    [{ cpus: 289 }, /289 CPUs/],
    [{ shares: Array(13).fill({ hostPath: '/h', path: '/p' }) }, /13 folders of the host/],
    [{ network: { links: Array(3).fill({ mac: 'x', name: 'y', addresses: [] }) } }, /3 network links/],
  ];
  for (const [change, message] of cases) {
    const check = () => checkSpec({ ...SPEC, ...change });
    if (message) t.throws(check, { code: 'YAVM_E_VM_SPEC', message });
    else t.doesNotThrow(check);
  }
});

t.test('boot deadlines: ten times the last boot, within bounds', async (t) => {
  const cases: [Parameters<typeof bootDeadline>, number][] = [
    [['tcg', undefined], 60_000],
    [['tcg', 1500], 20_000],
    [['tcg', 3000], 30_000],
    [['tcg', 1e9], 600_000],
    [['kvm', undefined], 15_000],
    [['kvm', 200], 5000],
    [['kvm', 900], 9000],
  ];
  for (const [args, expected] of cases) t.equal(bootDeadline(...args), expected, args.join(' '));
});

t.test('KVM: the first CPU model with which a guest starts; one that hangs ends the search', async (t) => {
  const cases: [ProbeOutcome[], object, number][] = [
    [['started'], { usable: true, cpuModel: 'a' }, 1],
    [[{ said: 'MSR' }, 'started'], { usable: true, cpuModel: 'b' }, 2],
    [
      [{ said: 'MSR' }, 'silent'],
      { usable: false, reason: /not start within 4 s \(-cpu b\)/, until: 21_600_001 },
      2,
    ],
    [['silent'], { usable: false, until: 21_600_001 }, 1],
    [[{ said: '1' }, { said: '2' }, { said: '' }], { usable: false, reason: /-cpu c\): no message/ }, 3],
  ];
  for (const [outcomes, verdict, tries] of cases) {
    const tried: string[] = [];
    const boot = async (model: string) => outcomes[tried.push(model) - 1] as ProbeOutcome;
    t.match(await tryModels(['a', 'b', 'c'], boot, 1), verdict);
    t.equal(tried.length, tries);
  }
  t.notOk('until' in (await tryModels(['a'], async () => ({ said: 'x' }))), 'what QEMU says is final');
});

t.test('whom QEMU runs as', async (t) => {
  t.equal(qemuUser(1000), null, 'an ordinary user: as we are');
  t.not(qemuUser(0)?.uid, 0, 'root: somebody else');
  t.strictSame(parseNobody('root:x:0:0::/root:/bin/sh\nnobody:x:99:98:n:/:/sbin/nologin\n'), {
    uid: 99,
    gid: 98,
  });
  t.strictSame(parseNobody('root:x:0:0::/root:/bin/sh\n'), { uid: 65534, gid: 65534 });
  t.strictSame(
    parseNobody('nobody:x:0:0::/:/bin/sh\n'),
    { uid: 65534, gid: 65534 },
    'never root by another name',
  );
  t.strictSame(kvmGroups({ mode: 0o20660, uid: 0, gid: 107 }), [107]);
  t.strictSame(kvmGroups({ mode: 0o20600, uid: 0, gid: 107 }), []);
  t.strictSame(kvmGroups({ mode: 0o20660, uid: 0, gid: 0 }), [], "root's group is not lent");
  t.strictSame(kvmGroups(null), []);
});

t.test('who may open a device', async (t) => {
  const nobody = { uid: 65534, gid: 65534, groups: [107] };
  const cases: [number, number, number, boolean][] = [
    [0o600, 0, 0, false],
    [0o660, 0, 107, true],
    [0o640, 0, 107, false],
    [0o666, 0, 0, true],
    [0o606, 0, 107, false],
    [0o066, 65534, 0, false],
  ];
  t.ok(mayOpen({ mode: 0o755, uid: 0, gid: 0 }, nobody, 0o5), 'a folder to be read');
  t.notOk(mayOpen({ mode: 0o755, uid: 0, gid: 0 }, nobody, 0o7), 'and written');
  t.ok(mayOpen({ mode: 0o770, uid: 0, gid: 107 }, nobody, 0o7));
  for (const [mode, uid, gid, expected] of cases) {
    t.equal(mayOpen({ mode, uid, gid }, nobody), expected, `${mode.toString(8)} ${uid}:${gid}`);
  }
});

t.test('programs are found in PATH and in sbin; a missing one names its package', async (t) => {
  const folder = t.testdir({ 'qemu-system-x86_64': '', mke2fs: '#!/bin/sh\n' });
  t.match(findProgram('mke2fs', { PATH: '/nowhere' }), /sbin\/mke2fs$/);
  t.not(findProgram('mke2fs', { PATH: folder }), `${folder}/mke2fs`, 'not executable');
  const missing = { code: 'YAVM_E_QEMU_MISSING', hint: 'sudo apt-get install qemu-system-x86' };
  t.throws(
    () => findProgram('qemu-system-x86_64', { YAVM_QEMU: join(folder, 'qemu-system-x86_64') }),
    missing,
  );
  t.equal(findProgram('mke2fs', { YAVM_MKE2FS: '/bin/sh' }), '/bin/sh');
});

t.test('what a start has taught is kept, bounded, and survives damage', async (t) => {
  const folder = join(mkdtempSync(join(tmpdir(), 'yavm-cache-')), 'ya-vm');
  const cache = new StartCache(folder);
  t.equal(cache.kvm('a'), undefined);
  cache.setKvm('a', { usable: true, reason: '', cpuModel: 'kvm64' });
  cache.setKvm('b', { usable: false, reason: 'no' });
  t.strictSame(new StartCache(folder).kvm('a'), { usable: true, reason: '', cpuModel: 'kvm64' });
  t.strictSame(cache.kvm('b'), { usable: false, reason: 'no' });

  cache.setKvm('c', { usable: false, reason: 'slow', until: 5000 });
  t.match(cache.kvm('c', 4000), { reason: 'slow' });
  t.equal(cache.kvm('c', 6000), undefined, 'to be found out anew');

  cache.addBoot('k', 1000);
  t.equal(cache.bootTime('k'), 1000);
  cache.addBoot('k', 3000);
  t.equal(cache.bootTime('k'), 3000, 'a slower boot counts at once');
  cache.addBoot('k', 1000);
  t.equal(cache.bootTime('k'), 2600, 'a faster one slowly');

  for (let index = 0; index < 40; index++) cache.setKvm(`key${index}`, { usable: true, reason: '' });
  t.equal(cache.kvm('a'), undefined, 'old entries go');
  t.ok(cache.kvm('key39'));

  for (const damage of [
    '',
    'null',
    '[1]',
    '{"kvm":{"a":1,"b":{"usable":"yes"}},"boots":{"k":"soon","l":-1}}',
    '\0\0',
  ]) {
    writeFileSync(join(folder, 'probe.json'), damage);
    t.equal(cache.kvm('a'), undefined, `after ${JSON.stringify(damage)}`);
    t.equal(cache.bootTime('k'), undefined);
  }
  mkdirSync(join(folder, 'x'));
  const broken = new StartCache(join(folder, 'probe.json', 'below-a-file'));
  t.doesNotThrow(
    () => broken.setKvm('a', { usable: true, reason: '' }),
    'a cache that cannot be written is none',
  );
});
