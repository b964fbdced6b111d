/**
 * What users of the launcher rely on: exit codes, the report, signals, running VMs, other users, the builder. What a
 * person does with it, terminals above all, is in cli.test.ts.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { PACKAGE_CACHE } from '../../build/kernel.ts';
import { argumentsOf, findQemu, statusOf } from '../lib/processes.ts';
import { openTerminal } from '../lib/pty.ts';
import { Random } from '../lib/random.ts';
import { privateEnvironment, sha256 } from '../lib/vm.ts';
import {
  ACCEL,
  type CliProcess,
  type CliResult,
  LAUNCHER,
  reportOf,
  runCli,
  startCli,
} from '../lib/ya-vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const env = privateEnvironment(t);
const folder = env.XDG_RUNTIME_DIR as string;
const root = process.getuid?.() === 0;

/** With a standard input that never ends: without -i nobody may wait for it. */
const run = (...words: string[]) => runCli(t, ['run', ...ACCEL, ...words], { env, input: 'open' });

// ---------------------------------------------------------------- run

t.test('exit codes', async (t) => {
  const cases: [code: number, says: RegExp, ...words: string[]][] = [
    [0, /^$/, '--', 'sh', '-c', 'test "$(wc -c)" = 0'],
    [125, /YAVM_E_USAGE/, '--cpus', 'many', '--', 'true'],
    [125, /YAVM_E_USAGE/, '--no-such-option'],
    // Node has an option of this name, which it would take from here.
    [125, /no-such\.env: .*YAVM_E_ENV_FILE/, '--env-file', '/no-such.env', '--', 'true'],
    [125, /YAVM_E_ASSETS/, '--kernel', '/nonexistent', '--initramfs', '/nonexistent', '--', 'true'],
    [126, /'\/etc\/passwd' is not executable.*YAVM_E_GUEST_SPAWN_FAILED/, '--', '/etc/passwd'],
    [0, /^$/, '-w', '/made/for/it', '--', 'sh', '-c', 'test "$PWD" = /made/for/it'],
    [125, /'\/etc\/passwd': ENOTDIR.*YAVM_E_GUEST_MOUNT_FAILED/, '-w', '/etc/passwd', '--', 'true'],
    [137, /^$/, '--', 'sh', '-c', 'kill -9 $$'],
  ];
  await inPairs(cases, async ([code, says, ...words]) => {
    const result = await run(...words);
    const name = words.join(' ');
    t.equal(result.code, code, `${name}: ${code}`);
    t.match(result.stderr, says, name);
    t.equal(result.stdout.toString(), '', `${name}: nothing else`);
  });
});

t.test('the streams are the command’s, byte for byte; the report is the last line', async (t) => {
  const input = random.bytes(700_003);
  const file = join(folder, 'report.json');
  const words = ['run', ...ACCEL, '-i', '--json', '--report', file, '-e', 'FROM=here', '-m', '200M'];
  const script = 'cat; printf "e\\0r\\377r\\r\\n" >&2; test "$FROM" = here && exit 7';
  const result = await runCli(t, [...words, '--', 'sh', '-c', script], { env, input });
  t.equal(result.code, 7);
  t.equal(sha256(result.stdout), sha256(input));
  t.match(result.stderr, /^e\0r\ufffdr\r\n\{"exitCode":7,.*\}\n$/, 'stderr: its bytes, then one line');
  const report = reportOf(result);
  t.match(report, {
    exitCode: 7,
    vm: { id: /^[a-z]{8}$/, accel: /^(tcg|kvm)$/, memoryMiB: 200, cpus: 1 },
    command: ['sh', '-c', script],
    result: { exitCode: 7, signal: null, complete: true, output: { stdout: input.length, stderr: 7 } },
    timedOut: false,
    error: null,
  });
  const names = (report.phases as { name: string }[]).map(({ name }) => name);
  const start = names.includes('restore') ? ['restore'] : ['kernel', 'agent'];
  t.strictSame(
    names.filter((name) => name !== 'template'),
    ['accelerator', 'disk', ...start, 'file systems', 'command'],
  );
  t.strictSame(JSON.parse(readFileSync(file, 'utf8')), report);
});

t.test('signals', async (t) => {
  const start = (script: string) => startCli(t, ['run', ...ACCEL, '--', 'sh', '-c', script], { env });
  const forever = 'echo ready; while :; do sleep 0.05; done';
  const cases: (() => Promise<void>)[] = [
    async () => {
      const cli = start(`trap "echo interrupted; exit 9" INT; ${forever}`);
      await cli.says('ready');
      cli.kill('SIGINT');
      t.match(await cli.ended(), { code: 9, stderr: '' }, 'SIGINT is the command’s');
      t.equal(cli.stdout.toString(), 'ready\ninterrupted\n');
    },
    async () => {
      const cli = start(forever);
      await cli.says('ready');
      cli.kill('SIGTERM');
      t.equal((await cli.ended()).code, 143, 'SIGTERM ends it');
    },
    async () => {
      const cli = start(`trap "echo not yet" TERM; ${forever}`);
      await cli.says('ready');
      cli.kill('SIGTERM');
      await cli.says('not yet');
      cli.kill('SIGTERM');
      const { code, stderr } = await cli.ended();
      t.equal(code, 143, 'the second one ends the VM');
      t.equal(stderr, 'ya-vm: ended by SIGTERM; the VM was ended\n');
    },
  ];
  await inPairs(cases, (each) => each());
});

// ---------------------------------------------------------------- a VM that runs

t.test('a VM that runs', async (t) => {
  const script = 'echo started; trap "exit 5" TERM; while :; do sleep 0.1; done';
  const words = ['run', ...ACCEL, '--name', 'a VM\tthat runs', '--memory', '200M', '--', 'sh', '-c', script];
  const supervisor = startCli(t, words, { env });
  await supervisor.says('started');
  const ya = (...words: string[]) => runCli(t, words, { env });
  const [{ id }] = JSON.parse((await ya('ps', '--json')).stdout.toString()) as [{ id: string }];

  await t.test('ps', async (t) => {
    const table = (await ya('ps')).stdout.toString();
    t.match(table, /^ID +STATE +UP +MEMORY +CPUS +ACCEL +PID +TITLE\n/);
    t.match(
      table,
      new RegExp(`\n${id} +running +[\\d.]+ m?s +200 MiB +1 +\\w+ +${supervisor.pid} +a VM that runs\n$`),
    );
    t.equal((await ya('ps', '-q')).stdout.toString(), `${id}\n`);
    t.match(JSON.parse((await ya('ps', '--json')).stdout.toString()), [
      {
        id,
        state: 'running',
        supervisor: { pid: supervisor.pid },
        memoryMiB: 200,
        cpus: 1,
        hostname: 'golem',
      },
    ]);
    const others = runCli(t, ['ps', '--json'], { env: privateEnvironment(t) });
    t.equal((await others).stdout.toString(), '[]\n', 'another run folder has none');
  });

  await t.test('its QEMU is nobody, and locked in', (t) => {
    const [qemu] = findQemu([id]) as [number];
    if (root) t.notOk(statusOf(qemu, 'Uid').includes('0'), `uids ${statusOf(qemu, 'Uid')}`);
    if (root) t.notOk([...statusOf(qemu, 'Gid'), ...statusOf(qemu, 'Groups')].includes('0'));
    t.equal(statusOf(qemu, 'CapEff')[0], '0000000000000000');
    t.strictSame([statusOf(qemu, 'NoNewPrivs')[0], statusOf(qemu, 'Seccomp')[0]], ['1', '2']);
    t.match(
      argumentsOf(qemu).join(' '),
      /-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny/,
    );
    t.end();
  });

  await t.test('stats', async (t) => {
    const stats = JSON.parse((await ya('stats', id, '--json')).stdout.toString());
    t.match(stats, { id, memory: { agent: Number }, processes: 1, root: { total: Number } });
    t.match((await ya('stats')).stdout.toString(), /^up .*\nmemory .* of .* \(agent .*\)\n/);
  });

  await t.test('shell: a line, a script, another user, beside the command', async (t) => {
    t.match(await ya('shell', id, '-c', 'pwd; exit 5'), { code: 5, stderr: '' });
    const input = 'echo from a script\necho its second line\nexit 3\n';
    const script = await runCli(t, ['shell', id.slice(0, 4)], { env, input });
    t.equal(script.code, 3, script.stderr);
    t.equal(script.stdout.toString(), 'from a script\nits second line\n');
    const user = await ya(
      'shell',
      id,
      '-u',
      'user',
      '-c',
      'id -un; echo $HOME $SHELL; ps | grep -c "[e]cho started"',
    );
    t.equal(user.stdout.toString(), 'user\n/home/user /bin/sh\n1\n');
    t.match(await ya('shell', 'nobody-is-called-so'), { code: 125, stderr: /YAVM_E_NO_SUCH_VM/ });
  });

  await t.test('console', async (t) => {
    const reader = startCli(t, ['console', id], { env });
    const say = (text: string) => ya('shell', id, '-c', `echo ${text} >/dev/console`);
    // It is attached at some moment of this.
    await heard(reader, 'hello there', () => say('hello there'));
    reader.kill('SIGINT');
    t.equal((await reader.ended()).code, 130);
    t.match((await ya('console', '--log', id)).stdout.toString(), /hello there\r?\n/, 'the log has it too');
  });

  await t.test('stop', async (t) => {
    t.match(await ya('stop', id.slice(0, 5)), { code: 0 });
    t.match(await supervisor.ended(), { code: 5, stderr: '' }, 'its command was told to end, and did');
    t.equal((await ya('ps', '--json')).stdout.toString(), '[]\n');
    t.strictSame(findQemu([id]), []);
    t.strictSame(readdirSync(join(folder, 'ya-vm')), []);
    t.match(await ya('stop', id), { code: 125, stderr: /YAVM_E_NO_SUCH_VM/ });
  });
});

/** Says something again and again until `reader` has it. */
async function heard(reader: CliProcess, text: string, say: () => Promise<unknown>): Promise<void> {
  let done = false;
  const hearing = reader.says(text).finally(() => {
    done = true;
  });
  while (!done) await Promise.race([say(), hearing]);
  await hearing;
}

// ---------------------------------------------------------------- a terminal

t.test('shell in a VM of its own, on a terminal', async (t) => {
  const terminal = openTerminal(t, [LAUNCHER, 'shell', ...ACCEL], env);
  const enter = async (line: string, answer: RegExp) => {
    terminal.type(`${line}\r`);
    await terminal.shows(answer);
  };
  await terminal.shows(
    /ya-vm: (tcg|kvm) [\d.]+ m?s · disk .* · (restore|kernel .* · agent) .* · file systems .* in all/,
  );
  await enter('PS1="% "', /\n% /);
  await enter('stty size; tty; echo $TERM', /\n40 100\r\n\/dev\/pts\/\d+\r\nxterm\r\n% /);
  terminal.resize(20, 55);
  await enter('stty size', /\n20 55\r\n% /);
  await enter('echo reading; cat', /\nreading\r\n/);
  await enter('a line', /\na line\r\n/);
  terminal.type('\x04');
  await terminal.shows(/% /);
  // Said by the program that Ctrl-C is for: while the shell still starts it, the key may hit the shell alone.
  await enter("sh -c 'echo waiting; exec sleep 100'", /\nwaiting\r\n/);
  terminal.type('\x03');
  await terminal.shows(/\n% /);
  // A program that has the terminal to itself: every byte passes, both ways.
  const raw =
    'stty raw -echo; printf ready; dd bs=1 count=5 2>/dev/null | od -An -tx1; printf "a\\nb"; stty sane';
  await enter(raw, /\nready/);
  terminal.type('\x03\x1a\r\x00\x10');
  await terminal.shows(/03 1a 0d 00 10\na\nb/);
  await terminal.shows(/% /);
  terminal.type('exit 4\r');
  t.match(await terminal.ended(), { code: 4 });
});

// ---------------------------------------------------------------- users

/** Need not have a name here. */
const USER = 1000;
const setpriv = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];
const unable = !root
  ? 'needs root, to become another user'
  : spawnSync(setpriv[0] as string, [...setpriv.slice(1), 'test', '-x', LAUNCHER]).status !== 0 &&
    'this checkout lies where other users cannot reach it';

t.test('an ordinary user needs no root for anything', { skip: unable }, async (t) => {
  // Not in the folder of the other tests, which is root's alone.
  const home = mkdtempSync('/tmp/yavm-user-');
  t.teardown(() => rmSync(home, { recursive: true }));
  for (const each of [home, join(home, 'run'), join(home, 'disks')]) {
    mkdirSync(each, { recursive: true });
    chownSync(each, USER, USER);
  }
  const own = {
    PATH: '/usr/bin:/bin',
    HOME: home,
    XDG_RUNTIME_DIR: join(home, 'run'),
    YAVM_DISK_DIR: join(home, 'disks'),
  };
  const supervisor = startCli(t, ['run', ...ACCEL, '--', 'sh', '-c', 'id -u; exec sleep 100'], {
    env: own,
    through: setpriv,
  });
  await supervisor.says('0\n');
  const [vm] = JSON.parse(
    (await runCli(t, ['ps', '--json'], { env: own, through: setpriv })).stdout.toString(),
  );
  t.match(vm, { state: 'running', supervisor: { pid: supervisor.pid } });
  const [qemu] = findQemu([vm.id]) as [number];
  t.strictSame(statusOf(qemu, 'Uid'), Array(4).fill(String(USER)));
  const line = await runCli(t, ['shell', vm.id, '-c', 'echo in; exit 6'], { env: own, through: setpriv });
  t.match(line, { code: 6, stderr: '' });
  const doctor = await runCli(t, ['doctor', '--json', '--no-boot'], { env: own, through: setpriv });
  t.equal(doctor.code, 0, doctor.stdout.toString());
  t.match(await runCli(t, ['stop', '--all'], { env: own, through: setpriv }), { code: 0 });
  t.equal((await supervisor.ended()).code, 143);
  t.strictSame([readdirSync(join(home, 'run/ya-vm')), readdirSync(join(home, 'disks'))], [[], []]);
});

// ---------------------------------------------------------------- without a VM

t.test('initramfs build: the same bytes each time, and what VMs boot', async (t) => {
  const outputs = [join(folder, 'one'), join(folder, 'two')];
  const builds = outputs.map((output) =>
    runCli(t, ['initramfs', 'build', '--json', '--cache', PACKAGE_CACHE, '--output', output], { env }),
  );
  const [first, second] = (await Promise.all(builds)) as [CliResult, CliResult];
  t.equal(first.code, 0, first.stderr);
  t.equal(first.stdout.toString(), second.stdout.toString(), 'one manifest');
  const manifest = JSON.parse(first.stdout.toString());
  for (const name of ['vmlinux', 'initramfs.cpio.zst', 'manifest.json']) {
    const [one, two] = outputs.map((output) => sha256(readFileSync(join(output, name))));
    t.equal(one, two, name);
    const entry = { vmlinux: manifest.vmlinux, 'initramfs.cpio.zst': manifest.initramfs }[name];
    if (entry) t.equal(entry.sha256, one, 'as the manifest says');
  }
  const [kernel, initramfs] = [join(folder, 'two/vmlinux'), join(folder, 'two/initramfs.cpio.zst')];
  const booted = await run('--kernel', kernel, '--initramfs', initramfs, '--', 'uname', '-r');
  t.equal(booted.stdout.toString(), `${manifest.kernel.release}\n`, booted.stderr);
});

t.test('doctor, version, help', async (t) => {
  const doctor = await runCli(t, ['doctor', '--json', '--no-boot'], { env });
  t.equal(doctor.code, 0, doctor.stdout.toString());
  t.match(JSON.parse(doctor.stdout.toString()), { ok: true, checks: [{ name: 'machine', status: 'ok' }] });
  const version = JSON.parse((await runCli(t, ['version', '--json'], { env })).stdout.toString());
  t.match(version, {
    'ya-vm': /^\d+\.\d+\.\d+/,
    node: /^24\./,
    qemu: /^\d+\.\d+/,
    protocol: 1,
    kernel: /^\d+\.\d+/,
  });
  const help = await runCli(t, ['--help'], { env });
  t.match(help, { code: 0, stderr: '' });
  for (const name of ['run', 'shell', 'ps', 'stop', 'console', 'initramfs', 'doctor', 'version']) {
    t.match(help.stdout.toString(), new RegExp(`^  ${name}\\b`, 'm'), name);
  }
});

/** Two at a time: a VM under TCG takes one core, and its start leaves room on another. */
async function inPairs<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item);
  };
  await Promise.all([worker(), worker()]);
}
