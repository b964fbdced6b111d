/** The VM as an activity's runtime, with a VM that is not there. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { type Deployment, planEntrypoint, planRun, planVm } from '../../host/exe-unit/deployment.ts';
import { LocalExchange } from '../../host/exe-unit/local.ts';
import type { CommandOf } from '../../host/exe-unit/types.ts';
import type { Effects } from '../../host/exe-unit/vm-effects.ts';
import { VmRuntime, type VmRuntimeOptions } from '../../host/exe-unit/vm-runtime.ts';
import type { ImageInfo } from '../../host/image/verify.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import type { Vm } from '../../host/runtime/vm.ts';
import type { VmEnd } from '../../host/runtime/vm-end.ts';
import { MemoryFiles } from '../lib/memory-files.ts';
import type { Owner } from '../lib/vm.ts';

const GIB = 1024 ** 3;
const LIMITS = { 'mem.gib': 1.5, 'storage.gib': 10.25, 'cpu.threads': 2, 'cpu.cores': 8 };
const ASSETS = { kernel: 'k', initramfs: 'i', manifest: 'm' };
const CONFIG = {
  env: ['PATH=/bin', 'A=image'],
  entrypoint: ['/entry'],
  cmd: ['now'],
  volumes: [],
  workingDir: '/work',
  user: 'task:task',
};

function deploy(changes: Partial<CommandOf<'deploy'>> = {}): CommandOf<'deploy'> {
  return { source: {}, kind: 'deploy', networks: [], hosts: {}, volumes: {}, env: {}, ...changes };
}

/** Made where the image lacks it, in whatever volume it lies. */
const WORKING_DIRECTORY = { kind: 'directory', path: '/work' };

function plan(command: CommandOf<'deploy'>, limits: Record<string, number> = LIMITS) {
  const deployment: Deployment = { image: '/cache/x.gvmi', config: CONFIG, command };
  return planVm({ deployment, limits, assets: ASSETS, accel: 'kvm', diskFolder: '/work', title: 'a' });
}

// ---------------------------------------------------------------- plans

t.test('the VM is as large as the agreement says', async (t) => {
  t.same(plan(deploy()), {
    assets: ASSETS,
    layers: ['/cache/x.gvmi'],
    root: { disk: 10.25 * GIB },
    diskFolder: '/work',
    memoryMiB: 1536,
    cpus: 2,
    hostname: 'golem',
    accel: 'kvm',
    title: 'a',
    mounts: [WORKING_DIRECTORY],
  });
  t.match(plan(deploy(), { 'mem.gib': 16.092196479439735, 'cpu.cores': 4.9 }), { memoryMiB: 16478, cpus: 4 });
  const hostile = { 'mem.gib': Number.NaN, 'storage.gib': -1, 'cpu.threads': 0.5 };
  t.match(plan(deploy(), hostile), { memoryMiB: 512, root: { disk: 2 * GIB }, cpus: 1 });
});

t.test('names and volumes of the deploy', async (t) => {
  const spec = plan(
    deploy({
      hostname: 'box',
      hosts: { peer: '192.168.0.2' },
      volumes: {
        '/in': { kind: 'host' },
        '/tmp/ram': { kind: 'ram', size: 4096 },
        '/out': { kind: 'storage', size: GIB },
      },
    }),
  );
  t.match(spec, { hostname: 'box', network: { hosts: { peer: '192.168.0.2' } } });
  t.same(spec.mounts, [
    { kind: 'directory', path: '/in' },
    { kind: 'ram', size: 4096, path: '/tmp/ram' },
    WORKING_DIRECTORY,
  ]);
  t.same(spec.disks, [{ path: '/out', size: GIB }]);
  t.same(spec.root, { disk: 9.25 * GIB }, 'what the volume leaves of the storage');
  t.same(plan(deploy({ volumes: { '/': { kind: 'ram', size: 4096 } } })).root, { ram: 4096 });
  t.same(plan(deploy({ volumes: { '/': { kind: 'storage', size: GIB } } })).root, { disk: GIB });
});

t.test('volumes that cannot be are refused', async (t) => {
  const cases: [code: string, volumes: CommandOf<'deploy'>['volumes']][] = [
    ['YAVM_E_VOLUME', { '/': { kind: 'host' } }],
    ['YAVM_E_VOLUME', { 'no/slash': { kind: 'host' } }],
    ['YAVM_E_VOLUME', { '/s': { kind: 'storage', size: GIB, errors: 'ignore' } }],
    ['YAVM_E_STORAGE_OVERCOMMIT', { '/big': { kind: 'storage', size: 11 * GIB } }],
    [
      'YAVM_E_VM_SPEC',
      Object.fromEntries(
        Array.from({ length: 7 }, (_, index) => [`/${index}`, { kind: 'storage', size: 4096 }]),
      ),
    ],
  ];
  for (const [code, volumes] of cases) t.throws(() => plan(deploy({ volumes })), { code });
});

t.test(
  "an image's volumes are directories of the root's disk, unless the deploy says otherwise",
  async (t) => {
    const config = { ...CONFIG, volumes: ['/data', '/cache', '/log'] };
    const volumes: CommandOf<'deploy'>['volumes'] = {
      '/cache/': { kind: 'ram', size: 4096 },
      '/log': { kind: 'storage', size: GIB, preallocate: 4096, errors: 'panic' },
    };
    const deployment: Deployment = { image: '/cache/x.gvmi', config, command: deploy({ volumes }) };
    const options = {
      limits: LIMITS,
      assets: ASSETS,
      accel: 'kvm',
      diskFolder: '/work',
      title: 'a',
    } as const;
    const spec = planVm({ deployment, ...options });
    t.same(spec.mounts, [
      { kind: 'directory', path: '/data' },
      { kind: 'ram', size: 4096, path: '/cache' },
      WORKING_DIRECTORY,
    ]);
    t.same(spec.disks, [{ path: '/log', size: GIB, preallocate: 4096, errors: 'panic' }]);
  },
);

t.test('a command has the image’s user, folder and environment, and the deploy’s on top', async (t) => {
  const deployment = { image: 'x', config: CONFIG, command: deploy({ env: { A: 'deploy', B: '=' } }) };
  t.same(planRun(deployment, { entryPoint: '/bin/sh', args: ['-c', 'true'] }), {
    argv: ['/bin/sh', '-c', 'true'],
    argv0: 'sh',
    env: ['PATH=/bin', 'A=deploy', 'B=='],
    cwd: '/work',
    user: 'task:task',
  });
  const bare = { image: null, config: null, command: deploy() };
  t.same(planRun(bare, { entryPoint: 'ls', args: [] }), { argv: ['ls'], argv0: 'ls', env: [], cwd: '/' });
  t.match(planEntrypoint(deployment), { argv: ['/entry', 'now'], argv0: 'entry' });
  t.throws(() => planEntrypoint(bare), { code: 'YAVM_E_DEPLOY' });
});

// ---------------------------------------------------------------- runtime

class FakeVm extends MemoryFiles {
  readonly id = 'tobikuda';
  readonly folder = '/run/tobikuda';
  readonly accel = 'tcg';
  readonly start = 'boot';
  /** This test's own process stands for QEMU. */
  readonly pid = process.pid;
  readonly diskAllocated = 4096;
  readonly #end = deferred<VmEnd>();
  readonly ended = this.#end.promise;
  /** How long an orderly stop takes, milliseconds; Infinity: for ever. */
  slow = 0;

  async stop({ grace }: { grace: number }): Promise<void> {
    this.calls.push(`stop ${grace}`);
    if (this.slow === Number.POSITIVE_INFINITY) await this.ended;
    this.die('stopped');
  }

  async kill(): Promise<void> {
    this.calls.push('kill');
    this.die('killed');
  }

  die(reason: VmEnd['reason'], cpuSeconds = 5): void {
    this.#end.resolve({ reason, error: null, orderly: reason === 'stopped', cpuSeconds });
  }
}

interface Scene {
  runtime: VmRuntime;
  vms: FakeVm[];
  hidden: string[];
  attached: number;
  /** Images that are held in the cache. */
  leases: number;
}

function scene(t: Owner, effects: Partial<Effects> = {}, options: Partial<VmRuntimeOptions> = {}): Scene {
  const assets = mkdtempSync(join(tmpdir(), 'yavm-assets-'));
  t.teardown(() => rmSync(assets, { recursive: true, force: true }));
  writeFileSync(join(assets, 'manifest.json'), JSON.stringify({ kernel: { squashfs: ['gzip'] } }));
  const vms: FakeVm[] = [];
  const hidden: string[] = [];
  const seen = { attached: 0, leases: 0 };
  const runtime = new VmRuntime({
    taskPackage: 'hash:sha3:ab:http://h/x.gvmi',
    limits: LIMITS,
    cacheFolder: '/cache',
    diskFolder: '/work',
    stagingFolder: join(assets, 'staged'),
    bus: null,
    networkTerms: { capabilities: [], outbound: null },
    requestorId: null,
    gsbUrl: null,
    allowFiles: false,
    accel: 'tcg',
    title: 'a',
    env: { YAVM_ASSETS: assets },
    logger: silentLogger,
    hide: (values) => void hidden.push(...values),
    ...options,
    effects: {
      leaseImage: async () => {
        seen.leases++;
        return { path: '/cache/x.gvmi', release: async () => void seen.leases-- };
      },
      verifyImage: async (_path, given) => {
        if (given?.compressors?.join() !== 'gzip') throw new Error('not the kernel’s compressors');
        return { config: CONFIG } as unknown as ImageInfo;
      },
      kvmObstacle: async () => 'there is none',
      startVm: async (_spec, { onVm }) => {
        const vm = new FakeVm();
        vms.push(vm);
        onVm?.(vm as unknown as Vm);
        return vm as unknown as Vm;
      },
      serveAttach: async () => {
        seen.attached++;
        return { close: async () => void seen.attached-- };
      },
      ...effects,
    },
  });
  return {
    runtime,
    vms,
    hidden,
    get attached() {
      return seen.attached;
    },
    get leases() {
      return seen.leases;
    },
  };
}

const NEVER = new AbortController().signal;
const NO_OUTPUT = { stdout: null, stderr: null };
const transferOf = (from: string, to: string): CommandOf<'transfer'> => ({
  source: {},
  kind: 'transfer',
  from,
  to,
});
const START: CommandOf<'start'> = { source: {}, kind: 'start', args: [] };

t.test('without KVM nothing is deployed, unless emulation was asked for', async (t) => {
  const { runtime } = scene(t, {}, { accel: 'kvm' });
  await t.rejects(
    runtime.deploy(deploy(), () => {}, NEVER),
    { code: 'YAVM_E_NO_KVM', message: /there is none/, hint: /YA_VM_ACCEL=tcg/ },
  );
  await t.rejects(runtime.start(START, NO_OUTPUT, NEVER), { code: 'YAVM_E_DEPLOY' });
  for (const accel of ['tcg', 'auto'] as const) {
    await t.resolves(scene(t, {}, { accel }).runtime.deploy(deploy(), () => {}, NEVER));
  }
  await t.resolves(
    scene(t, { kvmObstacle: async () => null }, { accel: 'kvm' }).runtime.deploy(deploy(), () => {}, NEVER),
  );
});

t.test('what is not offered is refused in so many words', async (t) => {
  const { runtime } = scene(t);
  const network = { id: 'n', ip: '10.0.0.0', nodeIp: '10.0.0.2', nodes: {} };
  await t.rejects(
    runtime.deploy(deploy({ networks: [network] }), () => {}, NEVER),
    { code: 'YAVM_E_UNSUPPORTED' },
  );
  await runtime.deploy(deploy(), () => {}, NEVER);
  await t.rejects(
    runtime.transfer(transferOf('gftp:x', '/y'), () => {}, NEVER),
    {
      code: 'YAVM_E_UNSUPPORTED',
      message: /without/,
    },
  );
  await t.rejects(
    runtime.transfer(transferOf('file:///etc/passwd', '/y'), () => {}, NEVER),
    {
      code: 'YAVM_E_UNSUPPORTED',
    },
  );
});

t.test('values of environments are told to the log’s redactor before anything else happens', async (t) => {
  const { runtime, hidden } = scene(t);
  await runtime.deploy(deploy({ env: { TOKEN: 'secret' } }), () => {}, NEVER);
  t.same(hidden, ['secret', '/bin', 'image']);
});

t.test('deploy, start, stop: the VM is counted from its first moment, and stays counted', async (t) => {
  const all = scene(t);
  const { runtime, vms } = all;
  t.match(runtime.usage(), { cpuSeconds: 0, memory: 0, storage: 0 });
  await runtime.deploy(deploy(), () => {}, NEVER);
  await runtime.start(START, NO_OUTPUT, NEVER);
  t.equal(all.attached, 1);
  t.equal(all.leases, 1, 'the image cannot be evicted while it is used');
  const running = runtime.usage();
  t.ok(running.cpuSeconds > 0 && running.memory > 0 && running.memoryPeak >= running.memory);
  t.equal(running.storage, 4096);
  await runtime.stop(2000);
  t.same(vms[0]?.calls, ['stop 800', 'kill']);
  t.equal(all.attached, 0);
  t.equal(all.leases, 0);
  const after = runtime.usage();
  t.equal(after.cpuSeconds, Math.max(5, running.cpuSeconds), 'what the kernel billed at the end');
  t.match(after, { memory: 0, storage: 0 });
  t.ok(after.memoryPeak >= running.memory);
  await t.rejects(runtime.start(START, NO_OUTPUT, NEVER), { code: 'YAVM_E_DEPLOY' }, 'forgotten');
  await runtime.deploy(deploy(), () => {}, NEVER);
  await runtime.start(START, NO_OUTPUT, NEVER);
  t.ok(runtime.usage().cpuSeconds > after.cpuSeconds, 'a second machine adds to it');
  await runtime.stop(0);
  t.same(vms[1]?.calls, ['kill'], 'at once');
});

t.test('a VM that does not stop is killed within the time', async (t) => {
  const { runtime, vms } = scene(t);
  await runtime.deploy(deploy(), () => {}, NEVER);
  await runtime.start(START, NO_OUTPUT, NEVER);
  (vms[0] as FakeVm).slow = Number.POSITIVE_INFINITY;
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const pass = async (milliseconds: number) => {
    mock.timers.tick(milliseconds);
    await new Promise((resolve) => setImmediate(resolve));
  };
  const stopped = runtime.stop(500);
  await pass(0);
  await pass(399);
  t.same(vms[0]?.calls, ['stop 200']);
  await pass(1);
  t.same(vms[0]?.calls, ['stop 200', 'kill']);
  await stopped;
});

t.test('of `ya-vm run`: a VM of which nothing is kept ends at once, any other in order', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-local-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const local = new LocalExchange(folder);
  const spec = plan(deploy());
  const share = { path: '/data', host: '/srv', readOnly: false };
  for (const [more, calls] of [
    [{}, ['kill']],
    [{ shares: [] }, ['kill']],
    [{ rootDisk: '/home/me/kept.disk' }, ['stop 400', 'kill']],
    [{ shares: [share] }, ['stop 400', 'kill']],
  ] as const) {
    const { runtime, vms } = scene(t, {}, { local });
    local.putVm({ ...spec, ...more } as VmSpec);
    local.putNetwork(null);
    await runtime.deploy(deploy(), () => {}, NEVER);
    await runtime.start(START, NO_OUTPUT, NEVER);
    await runtime.stop(1000);
    t.same(vms[0]?.calls, calls, JSON.stringify(more));
  }
});

t.test('a stop gives up the download and the boot that are under way', async (t) => {
  const hang = (signal: AbortSignal | undefined) =>
    new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  const downloading = scene(t, { leaseImage: ({ signal }) => hang(signal) });
  const deployed = downloading.runtime.deploy(deploy(), () => {}, NEVER);
  deployed.catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  await downloading.runtime.stop(1000);
  await t.rejects(deployed, { code: 'YAVM_E_VM_STOPPED' });

  const booting = scene(t, { startVm: (_spec, { signal }) => hang(signal) });
  await booting.runtime.deploy(deploy(), () => {}, NEVER);
  const abort = new AbortController();
  const started = booting.runtime.start(START, NO_OUTPUT, abort.signal);
  started.catch(() => {});
  abort.abort(new Error('terminated'));
  await t.rejects(started, { message: 'terminated' });
});

t.test('transfers go to the VM; those before its start wait for it', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-staged-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const stagingFolder = join(folder, 'staged');
  writeFileSync(join(folder, 'x'), 'content');
  const url = pathToFileURL(join(folder, 'x')).href;
  const { runtime, vms } = scene(t, {}, { stagingFolder, allowFiles: true });
  const transfer = (from: string, to: string) => runtime.transfer(transferOf(from, to), () => {}, NEVER);
  await t.rejects(transfer(url, '/x'), { code: 'YAVM_E_DEPLOY' });
  await runtime.deploy(deploy(), () => {}, NEVER);
  await transfer(url, '/x');
  await transfer('/x', '/y');
  t.ok(existsSync(stagingFolder));
  await t.rejects(transfer('/etc/passwd', '/z'), { code: 'YAVM_E_NOT_STARTED' });
  await runtime.start(START, NO_OUTPUT, NEVER);
  t.notOk(existsSync(stagingFolder), 'nothing waits any more');
  t.same(vms[0]?.calls, ['write file /x', 'write file /y']);
  await transfer('/y', '/z');
  t.equal(vms[0]?.content.get('/z')?.toString(), 'content');
  await runtime.stop(0);
  await t.rejects(transfer(url, '/x'), { code: 'YAVM_E_DEPLOY' });

  await runtime.deploy(deploy(), () => {}, NEVER);
  await transfer(url, '/x');
  await runtime.stop(0);
  t.notOk(existsSync(stagingFolder), 'a stop forgets them');
});

t.test('a start that fails leaves no files behind, and takes no more', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-staged-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const stagingFolder = join(folder, 'staged');
  writeFileSync(join(folder, 'x'), 'content');
  const url = pathToFileURL(join(folder, 'x')).href;
  const startVm: Effects['startVm'] = () => Promise.reject(new Error('no boot'));
  const { runtime } = scene(t, { startVm }, { stagingFolder, allowFiles: true });
  await runtime.deploy(deploy(), () => {}, NEVER);
  await runtime.transfer(transferOf(url, '/x'), () => {}, NEVER);
  await t.rejects(runtime.start(START, NO_OUTPUT, NEVER), { message: 'no boot' });
  t.notOk(existsSync(stagingFolder));
  await t.rejects(
    runtime.transfer(transferOf(url, '/x'), () => {}, NEVER),
    { code: 'YAVM_E_VM_STOPPED' },
  );
});

t.test('a stop gives up a transfer', async (t) => {
  const { runtime } = scene(t, {
    transfer: (_words, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  await runtime.deploy(deploy(), () => {}, NEVER);
  await runtime.start(START, NO_OUTPUT, NEVER);
  const transferred = runtime.transfer(transferOf('/a', '/b'), () => {}, NEVER);
  transferred.catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  await runtime.stop(0);
  await t.rejects(transferred, { code: 'YAVM_E_VM_STOPPED' });
});
