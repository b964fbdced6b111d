import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { serveAttach } from '../../host/attach/server.ts';
import { ATTACH_SOCKET } from '../../host/cli/boot.ts';
import { imageLines } from '../../host/cli/image.ts';
import { shell, shellCommand } from '../../host/cli/shell.ts';
import { statsLines } from '../../host/cli/stats.ts';
import { verifyImage } from '../../host/image/verify.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { startTimeOf } from '../../host/lib/process.ts';
import type { StatsReply } from '../../host/runtime/types.ts';
import { hostOf } from '../lib/attached.ts';
import { type TestContext, testContext } from '../lib/cli.ts';
import { fakeVm } from '../lib/cli-vm.ts';
import { startSession } from '../lib/guest-session.ts';

/** What commander makes of no options. */
const DEFAULTS = { memory: 512, cpus: 1, hostname: 'golem', accel: 'auto', progress: true };
const streamOf = (spec: unknown) => (spec as { stream: number }).stream;

t.test('without an id a VM is booted for the shell, with the image’s environment', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext();
  context.env.YAVM_ASSETS = vm.assets;
  const code = shell(context, { ...DEFAULTS, env: ['A=1'] }, undefined, vm.start);
  const request = await vm.guest.requested('run');
  t.match(request, { env: ['PATH=/bin', 'FROM=image', 'A=1'], cwd: '/work', user: 'task' });
  t.same(request.argv.slice(0, 2), ['/bin/sh', '-c']);
  t.equal(request.tty, undefined, 'no terminal here, none there');
  context.stdin.end('uname\n');
  t.equal((await vm.guest.input(request.stdin as number)).toString(), 'uname\n');
  await vm.guest.output(streamOf(request.stdout), Buffer.from('Linux\n'));
  vm.guest.exit(request.id, { code: 3, totals: { stdout: 6 } });
  t.equal(await code, 3);
  t.equal(context.out(), 'Linux\n');
  t.match(vm.specs[0], { title: 'demo.gvmi: shell' });
});

/** A VM of another process, in the run folders that `context` sees. */
async function foreignVm(t: { teardown(fn: () => unknown): void }, context: TestContext) {
  const { client, guest } = await startSession(t);
  const { assets } = await fakeVm(t);
  const folder = join(assets, 'ya-vm', 'tobikuda');
  mkdirSync(folder, { recursive: true });
  context.env.XDG_RUNTIME_DIR = assets;
  context.env.YAVM_ASSETS = assets;
  const record = {
    id: 'tobikuda',
    title: '',
    supervisor: { pid: process.pid, startTime: startTimeOf(process.pid) },
    qemu: null,
    state: 'running',
    started: new Date().toISOString(),
    memoryMiB: 1,
    cpus: 1,
    accel: 'tcg',
    layers: [join(assets, 'demo.gvmi')],
    hostname: 'h',
    console: null,
  };
  writeFileSync(join(folder, 'vm.json'), JSON.stringify(record));
  const server = await serveAttach(hostOf(client), join(folder, ATTACH_SOCKET), silentLogger);
  t.teardown(() => server.close());
  return guest;
}

t.test('with an id it runs in that VM, on a terminal when we have one', async (t) => {
  const context = testContext({ terminal: true });
  context.env.TERM = 'foot';
  const guest = await foreignVm(t, context);
  const code = shell(context, { ...DEFAULTS, user: 'nobody' }, 'tobi');
  const request = await guest.requested('run');
  t.match(request, {
    user: 'nobody',
    tty: { rows: 40, columns: 100 },
    env: ['TERM=foot', 'PATH=/bin', 'FROM=image'],
  });
  await guest.output(streamOf(request.stdout), Buffer.from('$ '));
  guest.exit(request.id, { code: 0, totals: { stdout: 2 } });
  t.equal(await code, 0);
  t.equal(context.out(), '$ ');
  t.same(context.rawModes, [true, false]);
});

t.test('Ctrl-P Ctrl-Q leaves it running', async (t) => {
  const context = testContext({ terminal: true });
  const guest = await foreignVm(t, context);
  const code = shell(context, DEFAULTS, 'tobikuda');
  await guest.requested('run');
  await new Promise((resolve) => setTimeout(resolve, 20));
  context.stdin.write('\u0010');
  context.stdin.write('\u0011');
  t.equal(await code, 0);
  t.match(context.err(), /left the shell; it goes on in VM tobikuda/);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(guest.requests.filter(({ op }) => op === 'signal').length, 0);
});

t.test('an image for a VM that runs already makes no sense, nor does an id that is not there', async (t) => {
  const context = testContext();
  await foreignVm(t, context);
  await t.rejects(shell(context, { ...DEFAULTS, image: ['x'] }, 'tobikuda'), { code: 'YAVM_E_USAGE' });
  await t.rejects(shell(context, DEFAULTS, 'other'), { code: 'YAVM_E_NO_SUCH_VM' });
});

t.test(
  'the login shell is the one of the user’s passwd entry, and runs a line when it is given one',
  async (t) => {
    const options = { env: [], rlimits: [] };
    const { argv } = shellCommand(
      testContext(),
      { env: [], entrypoint: [], cmd: [] },
      options,
      'echo "$SHELL:$0:$A"',
    );
    t.equal(argv.at(-1), 'echo "$SHELL:$0:$A"');
    // This machine's own sh reads this machine's own passwd, which has root with a shell.
    const output = execFileSync(argv[0] as string, argv.slice(1), {
      env: { ...process.env, A: 'x' },
    }).toString();
    t.match(output, /^\/[\w/]+sh:.*:x\n$/);
    const none = shellCommand(testContext(), { env: [], entrypoint: ['e'], cmd: ['c'] }, options, undefined);
    t.equal(none.argv.at(-1), 'ya-vm-shell', 'Entrypoint and Cmd of the image play no part');
  },
);

t.test('an image is described for people, whatever it says', async (t) => {
  const { assets } = await fakeVm(t);
  const info = await verifyImage(join(assets, 'demo.gvmi'));
  const lines = imageLines('demo.gvmi', info);
  t.match(
    lines.join('\n'),
    /format +gvmi[\s\S]*squashfs +gzip[\s\S]*cmd +\["\/bin\/sh"\]\ncwd +\/work\nuser +task\nenv +PATH=\/bin\n +FROM=image/,
  );
  const hostile = { ...info, config: { env: ['A=\u001b[2J'], entrypoint: [], cmd: [], volumes: ['/v'] } };
  t.match(imageLines('x', hostile).join('\n'), /entrypoint +\(none\)[\s\S]*A=\\x1b\[2J\nvolumes +\/v/);
  t.equal(imageLines('x', { ...info, kind: 'squashfs', config: null }).length, 4);
});

t.test('figures are shown in units that can be read', async (t) => {
  const stats: StatsReply = {
    uptime: 65_000,
    memory: { total: 1024 ** 3, available: 512 * 1024 ** 2, agent: 2 * 1024 ** 2 },
    cpu: { user: 1500, system: 20 },
    root: { total: 2 * 1024 ** 3, free: 1024 ** 3 },
    links: [{ name: 'eth0', rxBytes: 1024, txBytes: 0 }],
    processes: 3,
  };
  t.same(statsLines(stats), [
    'up         1 min 5 s',
    'memory     512 MiB of 1 GiB (agent 2 MiB)',
    'cpu        1.50 s user, 20 ms system',
    'root       1 GiB of 2 GiB',
    'processes  3',
    'eth0       1 KiB received, 0 B sent',
  ]);
  const host = { cpuSeconds: 2.5, memory: 20 * 1024 ** 2, shared: 50 * 1024 ** 2 };
  t.equal(statsLines(stats, host).at(-1), 'host       memory 20 MiB of its own, 50 MiB shared, CPU 2.50 s');
});
