/** `provider check` against programs that behave, and others; the offer; the verdict. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { LayerManifest } from '../../host/driver-layer/manifest.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { explainNoKvm, providerAccel } from '../../host/provider/accelerator.ts';
import { checkProvider, type StepResult } from '../../host/provider/check.ts';
import { parseCpuInfo } from '../../host/provider/cpu.ts';
import { DEFAULT_PATTERN } from '../../host/provider/descriptor.ts';
import { checkCards, checkLayer, type GpuCheckHost } from '../../host/provider/gpu-check.ts';
import { offerTemplate } from '../../host/provider/offer.ts';
import { selfTest, selfTestSpec, type TestVm } from '../../host/provider/self-test.ts';
import { openTestNetwork, TEST_PEERS } from '../../host/provider/test-network.ts';
import { readVerdict, type Verdict, writeVerdict } from '../../host/provider/verdict.ts';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';
import { AMD, CONSUMER, DATA_CENTRE, type FakeHost, FakeSysfs } from '../lib/fake-sysfs.ts';
import { arpRequest, framed } from '../lib/frame-peer.ts';

const top = mkdtempSync(join(tmpdir(), 'yavm-check-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

const VERDICT: Verdict = {
  accel: 'kvm',
  cpu: { vendor: 'GenuineIntel', brand: 'X', model: 'Stepping 3 Family 6 Model 158', capabilities: ['sse3'] },
  capabilities: ['manifest-support'],
};

let folders = 0;
/** A plugin folder with a descriptor whose program is this shell script. */
function installed(script: string, more: Record<string, string> = {}): string {
  const folder = join(top, `plugins${folders++}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'program'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, 'program'), 0o755);
  const descriptor = {
    name: 'vm',
    version: '0.1.0',
    'supervisor-path': 'program',
    'extra-args': ['--cap-handoff'],
  };
  writeFileSync(join(folder, 'ya-vm.json'), JSON.stringify([descriptor]));
  for (const [name, text] of Object.entries(more)) writeFileSync(join(folder, name), text);
  return folder;
}

async function check(folder: string, activity?: () => Promise<string>) {
  const steps: StepResult[] = [];
  const ok = await checkProvider({
    place: { folder, pattern: DEFAULT_PATTERN },
    env: process.env,
    activity,
    report: async (step) => void steps.push(step),
  });
  return {
    ok,
    steps: steps.map(({ name, ok }) => `${ok ? 'ok' : 'not ok'} ${name}`),
    last: steps.at(-1)?.detail,
  };
}

const OFFER = JSON.stringify(offerTemplate(VERDICT));
const GOOD = `
case "$*" in
  "--cap-handoff test") [ "$(ps -o sid= -p $$ | tr -d ' ')" = $$ ] ;;
  "--cap-handoff offer-template") echo '${OFFER}' ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac`;

t.test('all is well: as the provider starts it, in a session of its own', async (t) => {
  const { ok, steps, last } = await check(installed(GOOD), async () => 'ran');
  t.ok(ok, `${last}`);
  t.strictSame(steps, ['ok descriptor', 'ok program', 'ok test', 'ok offer-template', 'ok activity']);
});

t.test('what can be wrong, and the step that says so', async (t) => {
  const cases: [string, string, string, RegExp][] = [
    ['no descriptor', join(top, 'nothing'), 'not ok descriptor', /no runtime 'vm' there/],
    ['a broken file', installed(GOOD, { 'ya-x.json': '{' }), 'not ok descriptor', /ya-x\.json/],
    [
      'twice',
      installed(GOOD, { 'ya-x.json': '[{"name":"vm","version":"1","supervisor-path":"x"}]' }),
      'not ok descriptor',
      /twice/,
    ],
    ['the test fails', installed('echo because >&2; exit 3'), 'not ok test', /ended with 3: because/],
    ['it is killed', installed('kill -9 $$'), 'not ok test', /SIGKILL/],
    ['the offer fails', installed('[ "$2" = test ]'), 'not ok offer-template', /ended with 1/],
    ['no JSON', installed('echo hello'), 'not ok offer-template', /not JSON: hello/],
    ['no vector', installed('echo "{\\"properties\\":{}}"'), 'not ok offer-template', /usage\.vector/],
  ];
  for (const [name, folder, step, detail] of cases) {
    const { ok, steps, last } = await check(folder);
    t.notOk(ok, name);
    t.equal(steps.at(-1), step, name);
    t.match(last, detail, name);
    t.match(last, /YAVM_E_PROVIDER_CHECK/, name);
  }
  const gone = installed(GOOD);
  rmSync(join(gone, 'program'));
  t.match(await check(gone), { steps: ['ok descriptor', 'not ok program'], last: /cannot be executed/ });
  const activity = async () => {
    throw new YavmError('YAVM_E_ACTIVITY_START', 'no activity');
  };
  t.match(await check(installed(GOOD), activity), {
    ok: false,
    last: /no activity \(YAVM_E_ACTIVITY_START\)/,
  });
});

t.test('the offer: flat keys, what was proved, and emulation said', async (t) => {
  const { properties, constraints } = offerTemplate({ ...VERDICT, accel: 'tcg' });
  t.equal(constraints, '');
  t.match(properties, {
    'golem.com.usage.vector': [
      'golem.usage.duration_sec',
      'golem.usage.cpu_sec',
      'golem.usage.gib',
      'golem.usage.storage_gib',
    ],
    'golem.inf.cpu.vendor': 'GenuineIntel',
    'golem.inf.cpu.capabilities': ['sse3'],
    'golem.runtime.capabilities': ['manifest-support'],
    'golem.runtime.vm.acceleration': 'tcg',
  });
  t.ok(Object.values(properties).every((value) => typeof value !== 'object' || Array.isArray(value)));
});

t.test('the CPU, as Linux tells it', async (t) => {
  const text = [
    'processor\t: 0',
    'vendor_id\t: GenuineIntel',
    'cpu family\t: 6',
    'model\t\t: 158',
    'model name\t: Intel(R) Core(TM) i7',
    'stepping\t: 3',
    'flags\t\t: fpu vme sse4_1 pni cx16 aes xsave avx2 sha_ni erms ht hypervisor unknown',
    '',
    'processor\t: 1',
    'vendor_id\t: Other',
    'model name\t: Other',
  ].join('\n');
  t.strictSame(parseCpuInfo(text), {
    vendor: 'GenuineIntel',
    brand: 'Intel(R) Core(TM) i7',
    model: 'Stepping 3 Family 6 Model 158',
    capabilities: [
      ...['sse3', 'cmpxchg16b', 'sse41', 'aesni', 'xsave', 'osxsave', 'hypervisor', 'fpu', 'vme', 'htt'],
      ...['avx2', 'rep_movsb_stosb', 'sha'],
    ],
  });
  t.match(parseCpuInfo(''), { vendor: '', capabilities: [] });
  t.ok(parseCpuInfo(readFileSync('/proc/cpuinfo', 'utf8')).capabilities.length > 0);
});

t.test('the verdict is kept by what it depends on', async (t) => {
  const folder = join(top, 'cache');
  t.equal(readVerdict(folder, 'key'), null);
  writeVerdict(folder, 'key', VERDICT);
  t.strictSame(readVerdict(folder, 'key'), VERDICT);
  t.equal(readVerdict(folder, 'other'), null);
  for (const damage of [
    '',
    '{',
    '[]',
    'null',
    '{"key":"key"}',
    '{"key":"key","verdict":{"accel":"kvm","cpu":{}}}',
  ]) {
    writeFileSync(join(folder, 'self-test.json'), damage);
    t.equal(readVerdict(folder, 'key'), null, damage);
  }
  writeVerdict(join(folder, 'self-test.json', 'x'), 'key', VERDICT);
});

t.test('acceleration: KVM unless asked otherwise', async (t) => {
  t.equal(providerAccel(undefined, {}), 'kvm');
  t.equal(providerAccel(undefined, { YA_VM_ACCEL: '' }), 'kvm');
  t.equal(providerAccel(undefined, { YA_VM_ACCEL: 'tcg' }), 'tcg');
  t.equal(providerAccel('auto', { YA_VM_ACCEL: 'tcg' }), 'auto');
  t.throws(() => providerAccel('fast', {}), { code: 'YAVM_E_USAGE' });
  const error = new Error('x', { cause: new YavmError('YAVM_E_KVM', 'KVM cannot be used: no device') });
  t.match(explainNoKvm(error), { code: 'YAVM_E_NO_KVM', message: /no device/, hint: /YA_VM_ACCEL=tcg/ });
  const other = new Error('y');
  t.equal(explainNoKvm(other), other);
});

/** Runs what the self-test asks for on this host, or `answer` of it. */
function fakeVm(
  change: (argv: string[], result: { exitCode: number; stdout: string; stderr: string }) => void = () => {},
) {
  const ends: string[] = [];
  const vm = {
    accel: 'tcg',
    async run(
      { argv }: { argv: string[] },
      sinks: { stdout(bytes: Uint8Array): void; stderr(bytes: Uint8Array): void },
    ) {
      const script = argv[2] ?? '';
      const result = { exitCode: 0, stdout: '', stderr: '' };
      if (script.startsWith('echo out'))
        Object.assign(result, { exitCode: 7, stdout: 'out\n', stderr: 'err\n' });
      if (script.startsWith('head')) result.stdout = '\0'.repeat(1024 * 1024);
      if (script.startsWith('mkdir')) result.stdout = 'kept\n';
      if (argv[0] === 'cat') result.stdout = 'vendor_id\t: V\nflags\t: sse';
      change(argv, result);
      sinks.stdout(Buffer.from(result.stdout));
      sinks.stderr(Buffer.from(result.stderr));
      return { result: Promise.resolve({ exitCode: result.exitCode, complete: true }) };
    },
    stop: async () => void ends.push('stop'),
    kill: async () => void ends.push('kill'),
  };
  return { vm: vm as unknown as TestVm, ends };
}

t.test('the self-test: what passes is offered, what fails ends it, the VM always goes', async (t) => {
  const lines: string[] = [];
  const run = ({ vm }: { vm: TestVm }) =>
    selfTest({ boot: async () => vm, say: (line) => lines.push(line), entrypoint: ['/bin/true'] });
  const good = fakeVm();
  t.match(await run(good), {
    accel: 'tcg',
    cpu: { vendor: 'V', capabilities: ['sse'] },
    capabilities: ['manifest-support', 'start-entrypoint', 'vpn', 'inet'],
  });
  t.strictSame(good.ends, ['stop', 'kill']);
  t.ok(lines.filter((line) => line.startsWith('ok: ')).length >= 7);

  const without = fakeVm((argv, result) => {
    if (argv[0] === '/bin/true' || argv.at(-1) === TEST_PEERS.inet) result.exitCode = 1;
  });
  lines.length = 0;
  t.strictSame((await run(without)).capabilities, ['manifest-support', 'vpn']);
  t.ok(lines.some((line) => /^not ok: .*INET.*not offered/.test(line)));

  const short = fakeVm((argv, result) => {
    if (argv[2]?.startsWith('head')) result.stdout = 'x';
  });
  await t.rejects(run(short), { code: 'YAVM_E_SELF_TEST', message: /mebibyte.*1 bytes/ });
  t.strictSame(short.ends, ['kill']);
});

t.test(
  'the networks of the self-test: a card each, and an answer from the other end of its cable',
  async (t) => {
    const native = loadNative() as HostNative;
    const network = openTestNetwork(native);
    const spec = selfTestSpec(
      { assets: { kernel: '', initramfs: '', manifest: '' }, layers: [], accel: 'tcg' },
      network,
    );
    t.match(spec.network?.links, [
      { name: 'eth0', addresses: ['10.77.0.2/24'] },
      { name: 'eth1', addresses: ['10.42.42.2/24'] },
    ]);
    const [vpn, inet] = network.nics;
    if (vpn?.kind !== 'datagram' || inet?.kind !== 'stream') throw new Error('two cables');
    const request = arpRequest('10.77.0.2', TEST_PEERS.vpn);
    const [into, lengths] = [new Uint8Array(2048), new Uint32Array(1)];
    native.sendDatagrams(vpn.fd, request, Uint32Array.of(0), Uint32Array.of(request.length), 0, 1);
    while (native.receiveDatagrams(vpn.fd, into, 2048, lengths) === 0) await new Promise(setImmediate);
    t.equal(lengths[0], request.length);
    t.equal(into[21], 2, 'an ARP reply');
    const asked = framed(arpRequest('10.42.42.2', TEST_PEERS.inet));
    native.sendBytes(inet.fd, asked, 0, asked.length);
    let length = -1;
    while (length < 0) {
      length = native.receiveBytes(inet.fd, into, 0, into.length);
      await new Promise(setImmediate);
    }
    t.equal(length, asked.length);
    t.equal(into[4 + 21], 2);
    network.close();
    for (const { fd } of network.nics) native.close(fd);
  },
);

const WITH_CARDS = `
case "$*" in
  "--cap-handoff --runtime-arg=--pci-device=0000:17:00.0 test") ;;
  "--cap-handoff --runtime-arg=--pci-device=0000:17:00.0 offer-template") echo '${OFFER}' ;;
  "--cap-handoff test") ;;
  "--cap-handoff offer-template") echo '${OFFER}' ;;
  *) exit 9 ;;
esac`;

/** As `provider install --gpu` writes it. */
function installedWithCards(slots: string[], supervisor = 'program'): string {
  const folder = installed(WITH_CARDS);
  const cards = slots.map((slot) => `--runtime-arg=--pci-device=${slot}`);
  const descriptors = [
    { name: 'vm', version: '0.1.0', 'supervisor-path': 'program', 'extra-args': ['--cap-handoff'] },
    {
      ...{ name: 'vm-nvidia', version: '0.1.0', 'supervisor-path': supervisor },
      'extra-args': ['--cap-handoff', ...cards],
    },
  ];
  writeFileSync(join(folder, 'ya-vm.json'), JSON.stringify(descriptors));
  return folder;
}

const RELEASE = '6.1.0-57-amd64';
const LAYER: LayerManifest = {
  ...{ format: 1, driverVersion: '550.163.01', kernelRelease: RELEASE },
  ...{ vermagic: `${RELEASE} SMP`, files: [] },
};

async function checkWithCards(
  folder: string,
  {
    host = {},
    env = {},
    layer = LAYER,
  }: { host?: Partial<FakeHost>; env?: object; layer?: LayerManifest } = {},
) {
  const nodes = { vfio: 0o666, 12: 0o666, 30: 0o666 };
  const fake = new FakeSysfs({ functions: [...DATA_CENTRE, ...CONSUMER, ...AMD], nodes, ...host });
  const user = () => ({ uid: 65534, gid: 65534, groups: [] });
  const gpuHost: GpuCheckHost = {
    facing: { roots: fake.roots, user, locker: { flock: () => true } },
    env: { YA_VM_DRIVER_LAYER: '/srv/driver.squashfs', ...env },
    inspect: async () => layer,
    kernelRelease: () => RELEASE,
  };
  const steps: StepResult[] = [];
  try {
    const ok = await checkProvider({
      ...{ place: { folder, pattern: DEFAULT_PATTERN }, env: process.env },
      gpu: { cards: (each) => checkCards(each, gpuHost), layer: (each) => checkLayer(each, gpuHost) },
      report: async (step) => void steps.push(step),
    });
    const gpu = steps.filter(({ name }) => name.startsWith('gpu'));
    return {
      ok,
      steps: gpu.map(({ name, ok }) => `${ok ? 'ok' : 'not ok'} ${name}`),
      details: gpu.map(({ detail }) => detail),
    };
  } finally {
    fake.remove();
  }
}

t.test('vm-nvidia: its cards, their driver, its own test and offer', async (t) => {
  const good = await checkWithCards(installedWithCards(['0000:17:00.0']));
  t.strictSame(
    good.steps,
    ['ok gpu cards', 'ok gpu driver', 'ok gpu test', 'ok gpu offer'],
    String(good.details),
  );
  t.ok(good.ok);
  t.equal(good.details[0], '0000:17:00.0 (10de:20b5)');
  t.equal(good.details[1], `/srv/driver.squashfs: driver 550.163.01 for kernel ${RELEASE}`);
  // Another's runtime of that name is no concern of ours, and without it there is nothing to look at.
  t.strictSame((await checkWithCards(installedWithCards(['0000:99:00.0'], 'another'))).steps, []);
  t.strictSame((await checkWithCards(installed(GOOD))).steps, []);
});

t.test('vm-nvidia: everything that is wrong, each with its fix', async (t) => {
  const one = installedWithCards(['0000:17:00.0']);
  type Case = [
    folder: string,
    options: Parameters<typeof checkWithCards>[1],
    failed: number,
    message: RegExp,
  ];
  const CASES: Case[] = [
    [installedWithCards(['0000:99:00.0']), {}, 0, /no graphics card at 0000:99:00\.0.*ya-vm gpu list/s],
    [installedWithCards([]), {}, 0, /names no card.*ya-vm provider install --gpu/s],
    [
      installedWithCards(['0000:01:00.0']),
      {},
      0,
      /not all of it is bound to vfio-pci.*YAVM_E_GPU_DRIVER.*sudo ya-vm gpu bind 0000:01:00\.0/s,
    ],
    [
      one,
      { host: { functions: DATA_CENTRE.map((each) => ({ ...each, group: undefined })) } },
      0,
      /no IOMMU.*YAVM_E_GPU_IOMMU.*intel_iommu=on/s,
    ],
    [one, { host: { nodes: { vfio: 0o600 } } }, 0, /vfio\/vfio: .* may not open it.*vfio\/12 is not there/s],
    [one, { env: { YA_VM_DRIVER_LAYER: '' } }, 1, /YA_VM_DRIVER_LAYER is not set.*driver-layer build/s],
    [
      one,
      { layer: { ...LAYER, kernelRelease: '6.1.0-56-amd64' } },
      1,
      /is for kernel 6\.1\.0-56-amd64, and VMs boot 6\.1\.0-57-amd64.*YA_VM_KERNEL_SET=gpu/s,
    ],
  ];
  for (const [folder, options, failed, message] of CASES) {
    const { ok, steps, details } = await checkWithCards(folder, options);
    t.notOk(ok);
    t.match(steps[failed], /^not ok/, String(message));
    t.match(details[failed], message);
    t.equal(steps.length, 2, 'both are looked at, and no VM is started');
  }
  const amd = await checkWithCards(installedWithCards(['0000:0b:00.0']), { env: { YA_VM_DRIVER_LAYER: '' } });
  t.strictSame(amd.steps.slice(0, 2), ['ok gpu cards', 'ok gpu driver']);
  t.match(amd.details[1], /not needed/);
});
