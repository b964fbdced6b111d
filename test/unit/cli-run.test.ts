import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Request } from '../../guest/protocol/messages.ts';
import type { Act } from '../../host/cli/commands.ts';
import { runProgram } from '../../host/cli/program.ts';
import type { RunReport } from '../../host/cli/report.ts';
import { define, run } from '../../host/cli/run.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { type TestContext, testContext } from '../lib/cli.ts';
import { type FakeVm, fakeVm } from '../lib/cli-vm.ts';

/** `ya-vm run` with these words, on a fake VM. */
function start(vm: FakeVm, words: string[], context: TestContext = testContext()) {
  context.env.YAVM_ASSETS = vm.assets;
  const load = async () => ({
    define(command: Parameters<typeof define>[0], act: Act) {
      define(command, (defined) => {
        act(defined, (inner, options, [given]) => run(inner, options, given as string[], vm.start));
      });
    },
  });
  const code = runProgram(['run', ...words], context, [{ name: 'run', summary: 'run', load }]);
  return { context, code };
}

/** Waits until the command's output comes through: from then on signals are for it. */
async function attached(vm: FakeVm, context: TestContext): Promise<Extract<Request, { op: 'run' }>> {
  const request = await vm.guest.requested('run');
  await vm.guest.output(streamOf(request.stdout), Buffer.from('.'));
  while (context.out() === '') await new Promise((resolve) => setTimeout(resolve, 5));
  return request;
}

const streamOf = (spec: unknown) => (spec as { stream: number }).stream;
const lastLine = (text: string) => text.trimEnd().split('\n').at(-1) as string;

t.test('the output is the command’s bytes and nothing else, and its code is ours', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['--memory', '256M', '--cpus', '2', '--', 'job', '--flag']);
  const request = await vm.guest.requested('run');
  t.match(request, { argv: ['job', '--flag'], env: ['PATH=/bin', 'FROM=image'], cwd: '/work', user: 'task' });
  t.equal(request.stdin, undefined, 'the command reads /dev/null');
  await vm.guest.output(streamOf(request.stdout), Buffer.from([0, 255, 10, 13]));
  await vm.guest.output(streamOf(request.stderr), Buffer.from('to stderr'));
  vm.guest.exit(request.id, { code: 42, totals: { stdout: 4, stderr: 9 } });
  t.equal(await code, 42);
  t.same(context.stdout.bytes, Buffer.from([0, 255, 10, 13]));
  t.equal(context.err(), 'to stderr');
  t.match(vm.specs[0], {
    memoryMiB: 256,
    cpus: 2,
    hostname: 'golem',
    accel: 'auto',
    title: 'demo.gvmi: job --flag',
  });
  t.match(vm.specs[0], { root: { disk: 2 * 1024 ** 3 }, layers: [join(vm.assets, 'demo.gvmi')] });
  t.same(vm.ends, ['kill']);
});

t.test('standard input goes to the command with -i, to its end', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['-i', '--env', 'A=1', '--env', 'FROM=me', '--', 'cat']);
  const request = await vm.guest.requested('run');
  t.same(request.env, ['PATH=/bin', 'FROM=me', 'A=1']);
  context.stdin.write('one ');
  context.stdin.end('two');
  t.equal((await vm.guest.input(request.stdin as number)).toString(), 'one two');
  vm.guest.exit(request.id);
  t.equal(await code, 0);
});

t.test('without a command the image’s own is run', async (t) => {
  const vm = await fakeVm(t);
  const { code } = start(vm, ['--user', '0', '--cwd', '/', '--hostname', 'h1', '--ram-root', '64M']);
  const request = await vm.guest.requested('run');
  t.match(request, { argv: ['/bin/sh'], user: '0', cwd: '/' });
  vm.guest.exit(request.id);
  t.equal(await code, 0);
  t.match(vm.specs[0], { hostname: 'h1', root: { ram: 64 * 1024 ** 2 } });
});

t.test("folders of this host and memory as volumes, beside the image's own", async (t) => {
  const vm = await fakeVm(t);
  const folder = t.testdir({ data: {} });
  const volumes = ['-v', `${folder}/data:/data:ro`, '--volume', `${folder}:/all`, '--tmpfs', '/tmp/x:8M'];
  const { code } = start(vm, [...volumes, '--tmpfs', '/half', '--memory', '128M', '--', 'job']);
  const request = await vm.guest.requested('run');
  vm.guest.exit(request.id);
  t.equal(await code, 0);
  t.match(vm.specs[0], {
    shares: [
      { hostPath: `${folder}/data`, path: '/data', readOnly: true },
      { hostPath: folder, path: '/all' },
    ],
    mounts: [
      { kind: 'ram', path: '/tmp/x', size: 8 * 1024 ** 2 },
      { kind: 'ram', path: '/half', size: 64 * 1024 ** 2 },
    ],
  });
  for (const [words, message] of [
    [['-v', `${folder}/none:/x`], /none: no folder.*YAVM_E_VOLUMES\)\n +hint: mkdir -p/],
    [['-v', '/x'], /--volume: '\/x' names no folder.*YAVM_E_USAGE/],
    [['--tmpfs', '/x:size=much'], /--tmpfs: 'much' is not a size/],
    [['--tmpfs', '/x', '-v', `${folder}:/x/`], /two volumes at \/x/],
  ] as const) {
    const { context, code } = start(vm, [...words, '--', 'job']);
    t.equal(await code, 125);
    t.match(context.err(), message);
  }
  t.equal(vm.specs.length, 1);
});

t.test(
  'a terminal sees the phases before and the end after; the command has raw keys and the window',
  async (t) => {
    const vm = await fakeVm(t);
    const context = testContext({ terminal: true });
    context.env.TERM = 'foot';
    const { code } = start(vm, ['-t', '--', 'sh'], context);
    const request = await vm.guest.requested('run');
    t.match(request, { tty: { rows: 40, columns: 100 }, env: ['TERM=foot', 'PATH=/bin', 'FROM=image'] });
    await vm.guest.output(streamOf(request.stdout), Buffer.from('$ '));
    context.stdin.write('\u0003');
    while (vm.guest.inputLength(request.stdin as number) === 0)
      await new Promise((resolve) => setTimeout(resolve, 5));
    t.same(context.rawModes, [true]);
    Object.assign(context.stdout, { rows: 50, columns: 120 });
    context.stdout.emit('resize');
    t.match(await vm.guest.requested('resize'), { process: request.id, rows: 50, columns: 120 });
    vm.guest.exit(request.id, {
      code: 0,
      totals: { stdout: 2 },
      cpu: { user: 100, system: 20 },
      memoryPeak: 1024 ** 2,
    });
    t.equal(await code, 0);
    t.same(context.rawModes, [true, false]);
    t.equal(context.out(), '$ ');
    t.match(
      context.err(),
      /ya-vm: tcg 1 ms · disk 2 ms · kernel 2 ms · agent 2 ms · file systems 2 ms · 9 ms in all/,
    );
    t.match(context.err(), /ya-vm: command .* · exit code 0 · CPU 120 ms · memory 1 MiB/);
  },
);

t.test('-t without a terminal is refused before anything starts', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['-t', '--', 'sh']);
  t.equal(await code, 125);
  t.match(context.err(), /-t needs a terminal.*YAVM_E_USAGE/);
  t.equal(vm.specs.length, 0);
});

t.test('--no-progress keeps a terminal quiet', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext({ terminal: true });
  const { code } = start(vm, ['--no-progress', '--', 'true'], context);
  const request = await vm.guest.requested('run');
  vm.guest.exit(request.id);
  t.equal(await code, 0);
  t.equal(context.err(), '');
});

t.test('a command that cannot be started: 127, 126, or 125 with the reason', async (t) => {
  for (const [errno, syscall, expected] of [
    ['ENOENT', 'execve', 127],
    ['EACCES', 'execve', 126],
    ['ENOENT', 'chdir', 126],
  ] as const) {
    const vm = await fakeVm(t);
    vm.guest.answer = ({ id }) =>
      vm.guest.refuse(id, { code: 'spawn-failed', message: `${syscall} 'x': ${errno}`, errno, syscall });
    const { context, code } = start(vm, ['--', 'x']);
    t.equal(await code, expected, `${syscall} ${errno}`);
    t.match(context.err(), new RegExp(`^ya-vm: ${syscall} 'x': ${errno} \\(YAVM_E_GUEST_SPAWN_FAILED\\)\n$`));
    t.same(vm.ends, ['kill']);
  }
});

t.test('output that is not complete is told, and the code stays the command’s', async (t) => {
  const vm = await fakeVm(t, () => {}, { outputWait: 30 });
  const { context, code } = start(vm, ['--json', '--', 'x']);
  const request = await vm.guest.requested('run');
  await vm.guest.output(streamOf(request.stdout), Buffer.from('part'));
  vm.guest.exit(request.id, { code: 3, totals: { stdout: 100 } });
  t.equal(await code, 3);
  t.equal(context.out(), 'part');
  t.match(context.err(), /not complete.*YAVM_E_OUTPUT_INCOMPLETE/);
  t.match(JSON.parse(lastLine(context.err())), { result: { complete: false, exitCode: 3 }, exitCode: 3 });
});

t.test('--timeout kills the tree: 124, and says so', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['--timeout', '50ms', '--json', '--', 'sleep', '1000']);
  const request = await vm.guest.requested('run');
  await vm.guest.output(streamOf(request.stdout), Buffer.from('before'));
  t.match(await vm.guest.requested('signal'), { process: request.id, signal: 9, tree: true });
  vm.guest.exit(request.id, { signal: 9, totals: { stdout: 6 } });
  t.equal(await code, 124);
  t.equal(context.out(), 'before');
  t.match(context.err(), /killed: it ran longer than --timeout 50 ms \(YAVM_E_COMMAND_TIMEOUT\)/);
  t.match(JSON.parse(lastLine(context.err())), {
    exitCode: 124,
    timedOut: true,
    result: { signal: 9, exitCode: 137 },
  });
});

t.test('when nobody reads the output any more the command is killed: 141', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext();
  const { code } = start(vm, ['--', 'yes'], context);
  const request = await vm.guest.requested('run');
  context.stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  const sending = vm.guest.output(streamOf(request.stdout), Buffer.alloc(1_000_000));
  t.match(await vm.guest.requested('signal'), { process: request.id, signal: 9, tree: true });
  await sending;
  vm.guest.exit(request.id, { signal: 9, totals: { stdout: 1_000_000 } });
  t.equal(await code, 141);
});

t.test('output that cannot be written ends the command, with the reason', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext();
  const { code } = start(vm, ['--', 'yes'], context);
  const request = await vm.guest.requested('run');
  const error = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  context.stdout._write = (_chunk, _encoding, callback: (error?: Error) => void) => callback(error);
  await vm.guest.output(streamOf(request.stdout), Buffer.from('x'));
  t.match(await vm.guest.requested('signal'), { process: request.id, signal: 9, tree: true });
  vm.guest.exit(request.id, { signal: 9, totals: { stdout: 1 } });
  t.equal(await code, 125);
  t.match(context.err(), /cannot be written.*ENOSPC.*YAVM_E_OUTPUT/);
});

t.test('a slow reader holds the guest back, and gets every byte', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext();
  let open = () => {};
  context.stdout.gate = new Promise((resolve) => {
    open = resolve;
  });
  const { code } = start(vm, ['--', 'job'], context);
  const request = await vm.guest.requested('run');
  const bytes = randomBytes(2_000_000);
  let sent = false;
  const sending = vm.guest.output(streamOf(request.stdout), bytes).then(() => {
    sent = true;
    vm.guest.exit(request.id, { totals: { stdout: bytes.length } });
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(sent, false);
  open();
  await sending;
  t.equal(await code, 0);
  t.equal(Buffer.compare(context.stdout.bytes, bytes), 0);
});

t.test('SIGINT to ya-vm goes to the command; its own end is what counts', async (t) => {
  const before = process.listenerCount('SIGINT');
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['--', 'job']);
  const request = await attached(vm, context);
  process.emit('SIGINT', 'SIGINT');
  t.match(await vm.guest.requested('signal'), { process: request.id, signal: 2, tree: false });
  vm.guest.exit(request.id, { code: 7, totals: { stdout: 1 } });
  t.equal(await code, 7);
  t.equal(process.listenerCount('SIGINT'), before, 'signals have their default again');
});

t.test('a second SIGTERM ends the VM: 143', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['--', 'job']);
  await attached(vm, context);
  process.emit('SIGTERM', 'SIGTERM');
  process.emit('SIGTERM', 'SIGTERM');
  t.equal(await code, 143);
  t.match(context.err(), /ended by SIGTERM; the VM was ended/);
  t.same(vm.ends, ['kill']);
});

t.test('a signal during the start ends it: 130, and the live line is erased', async (t) => {
  const vm = await fakeVm(t, () => void process.emit('SIGINT', 'SIGINT'));
  const context = testContext({ terminal: true });
  const { code } = start(vm, ['--', 'job'], context);
  t.equal(await code, 130);
  t.match(context.err().split('\r\u001b[K').at(-1), /ended by SIGINT/);
});

t.test('the VM’s death is an error with its reason, and in the report', async (t) => {
  const vm = await fakeVm(t);
  const { context, code } = start(vm, ['--json', '--', 'job']);
  await attached(vm, context);
  vm.die(new YavmError('YAVM_E_GUEST_PANIC', 'the guest panicked'));
  t.equal(await code, 125);
  t.match(context.err(), /^ya-vm: the guest panicked \(YAVM_E_GUEST_PANIC\)\n\{/);
  t.match(JSON.parse(lastLine(context.err())), {
    exitCode: 125,
    result: null,
    error: { code: 'YAVM_E_GUEST_PANIC' },
    vm: { id: 'tobikuda' },
  });
});

t.test('the report tells phases, result and figures, on standard error or in a file', async (t) => {
  const vm = await fakeVm(t);
  const file = join(vm.assets, 'report.json');
  const { context, code } = start(vm, ['--json', '--report', file, '--', 'job']);
  const request = await vm.guest.requested('run');
  await vm.guest.output(streamOf(request.stdout), Buffer.from('abc'));
  vm.guest.exit(request.id, {
    code: 0,
    totals: { stdout: 3, stderr: 0 },
    cpu: { user: 5, system: 6 },
    memoryPeak: 7,
  });
  t.equal(await code, 0);
  const report = JSON.parse(context.err()) as RunReport;
  t.same(JSON.parse(readFileSync(file, 'utf8')), report);
  t.same(
    report.phases.map(({ name }) => name),
    ['accelerator', 'disk', 'kernel', 'agent', 'file systems', 'command'],
  );
  t.match(report, {
    exitCode: 0,
    command: ['job'],
    timedOut: false,
    error: null,
    result: {
      output: { stdout: 3, stderr: 0 },
      cpu: { user: 5, system: 6 },
      memoryPeak: 7,
      signal: null,
      complete: true,
    },
  });
});

t.test('images and kernels that are not there are named before anything starts', async (t) => {
  const vm = await fakeVm(t);
  const cases: [string[], RegExp][] = [
    [['--image', '/nowhere.gvmi', '--', 'x'], /nowhere\.gvmi.*YAVM_E_IMAGE_UNREADABLE/],
    [['--image', join(vm.assets, 'vmlinux'), '--', 'x'], /YAVM_E_IMAGE_FORMAT/],
    [['--kernel', '/k', '--', 'x'], /--kernel and --initramfs belong together.*YAVM_E_USAGE/],
    [['--kernel', '/k', '--initramfs', '/nowhere/i', '--', 'x'], /nowhere\/manifest\.json.*YAVM_E_ASSETS/],
    [['--env-file', '/nowhere.env', '--', 'x'], /nowhere\.env.*YAVM_E_ENV_FILE/],
    [['--memory', 'much', '--', 'x'], /--memory: 'much' is not a size/],
    [['--ram-root', '1G', '--storage', '1G', '--', 'x'], /--ram-root excludes/],
  ];
  for (const [words, message] of cases) {
    const { context, code } = start(vm, words);
    t.equal(await code, 125, words.join(' '));
    t.match(context.err(), message);
    t.equal(context.out(), '');
  }
  t.equal(vm.specs.length, 0);
});

t.test('a root disk that is kept is unmounted in order', async (t) => {
  const vm = await fakeVm(t);
  const { code } = start(vm, ['--root-disk', '/tmp/d', '--', 'job']);
  const request = await vm.guest.requested('run');
  vm.guest.exit(request.id);
  t.equal(await code, 0);
  t.match(vm.specs[0], { rootDisk: '/tmp/d' });
  t.same(vm.ends, ['stop']);
});
