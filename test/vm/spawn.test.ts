/** Commands start as asked: program, user, directory, limits, descriptors; and where that cannot be, it is said why. */
import t from 'tap';
import type { CommandSpec, Vm } from '../../host/runtime/index.ts';
import { count } from '../lib/scale.ts';
import { type Run, run, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

/** Fields of the error that is expected. */
interface Refusal {
  code: string;
  errno?: string;
  syscall?: string;
  path?: string | RegExp;
  message?: RegExp;
}

/** stdout of a command that must succeed. */
async function output(vm: Vm, what: Run): Promise<string> {
  const { result, stdout, stderr } = await run(vm, what);
  if (result.exitCode !== 0) throw new Error(`ended with ${result.exitCode}: ${stderr.text}`);
  return stdout.text;
}

t.test('a VM', async (t) => {
  const vm = await startTestVm(t);

  t.test('refuses what cannot start, says what failed on what, and goes on', async (t) => {
    const script = (text: string) => [Buffer.from(text)];
    await vm.writeFiles('/bad/plain', script('no program\n'), { mode: 0o644 });
    await vm.writeFiles('/bad/script', script('#!/no/such/interpreter\n'), { mode: 0o755 });
    await vm.writeFiles('/bad/text', script('text without a first line that names an interpreter'), {
      mode: 0o755,
    });
    await vm.writeFiles('/bad/half', script('\x7fELF'), { mode: 0o755 });
    await shell(vm, 'mkdir /bad/directory; mkfifo /bad/fifo; mkdir -m 700 /secret');

    const SPAWN = 'YAVM_E_GUEST_SPAWN_FAILED';
    const failures: [what: string, spec: Partial<CommandSpec> & { argv: string[] }, error: Refusal][] = [
      [
        'a name that is not in PATH',
        { argv: ['nothing'], env: ['PATH=/usr/bin:/bin'] },
        {
          code: SPAWN,
          errno: 'ENOENT',
          syscall: 'execve',
          path: '/bin/nothing',
          message: /'nothing' is not in the PATH/,
        },
      ],
      [
        'a path that is not there',
        { argv: ['/no/such/file'] },
        { code: SPAWN, errno: 'ENOENT', syscall: 'execve', path: '/no/such/file' },
      ],
      [
        'a path through a file',
        { argv: ['/bad/plain/file'] },
        { code: SPAWN, errno: 'ENOTDIR', syscall: 'execve', path: '/bad/plain/file' },
      ],
      [
        'a file that is not executable',
        { argv: ['/bad/plain'] },
        { code: SPAWN, errno: 'EACCES', syscall: 'execve', path: '/bad/plain', message: /not executable/ },
      ],
      [
        'the same, found in PATH',
        { argv: ['plain'], env: ['PATH=/bin:/bad:/usr/bin'] },
        { code: SPAWN, errno: 'EACCES', syscall: 'execve', path: '/bad/plain' },
      ],
      [
        'a directory',
        { argv: ['/bad/directory'] },
        { code: SPAWN, errno: 'EACCES', syscall: 'execve', path: '/bad/directory' },
      ],
      [
        'an interpreter that is not there',
        { argv: ['/bad/script'] },
        { code: SPAWN, errno: 'ENOENT', syscall: 'execve', path: '/bad/script', message: /interpreter/ },
      ],
      [
        'a text',
        { argv: ['/bad/text'] },
        { code: SPAWN, errno: 'ENOEXEC', syscall: 'execve', path: '/bad/text' },
      ],
      [
        'half a program',
        { argv: ['/bad/half'] },
        { code: SPAWN, errno: 'ENOEXEC', syscall: 'execve', path: '/bad/half' },
      ],
      [
        'an argument that is too long',
        { argv: ['true', 'x'.repeat(200_000)] },
        { code: SPAWN, errno: 'E2BIG', syscall: 'execve', path: /\/true$/, message: /too long/ },
      ],
      [
        'a variable that is too long',
        { argv: ['/bin/true'], env: [`LONG=${'x'.repeat(200_000)}`] },
        { code: SPAWN, errno: 'E2BIG', syscall: 'execve', path: '/bin/true' },
      ],
      [
        'a directory to work in that is not there',
        { argv: ['true'], cwd: '/no/such/directory' },
        {
          code: SPAWN,
          errno: 'ENOENT',
          syscall: 'chdir',
          path: '/no/such/directory',
          message: /working directory/,
        },
      ],
      [
        'a file to work in',
        { argv: ['true'], cwd: '/bad/plain' },
        { code: SPAWN, errno: 'ENOTDIR', syscall: 'chdir', path: '/bad/plain' },
      ],
      [
        'a directory that its user may not enter',
        { argv: ['true'], cwd: '/secret', user: 'nobody' },
        { code: SPAWN, errno: 'EACCES', syscall: 'chdir', path: '/secret' },
      ],
      [
        'an unknown user',
        { argv: ['true'], user: 'stranger' },
        { code: 'YAVM_E_GUEST_UNKNOWN_USER', errno: 'ENOENT', path: '/etc/passwd', message: /'stranger'/ },
      ],
      [
        'an unknown group',
        { argv: ['true'], user: 'user:strangers' },
        { code: 'YAVM_E_GUEST_UNKNOWN_USER', errno: 'ENOENT', path: '/etc/group', message: /'strangers'/ },
      ],
      [
        'an unknown limit',
        { argv: ['true'], rlimits: { patience: [1, 1] } },
        { code: 'YAVM_E_GUEST_BAD_REQUEST', message: /'patience'/ },
      ],
      [
        'a soft limit above the hard one',
        { argv: ['true'], rlimits: { nofile: [20, 10] } },
        { code: SPAWN, errno: 'EINVAL', syscall: 'prlimit' },
      ],
      [
        'output to a file in no directory',
        { argv: ['true'], stdout: { file: '/no/such/file' } },
        { code: 'YAVM_E_GUEST_FILE_FAILED', errno: 'ENOENT', path: '/no/such/file' },
      ],
      [
        'output to a fifo that nobody reads',
        { argv: ['true'], stderr: { file: '/bad/fifo' } },
        { code: 'YAVM_E_GUEST_FILE_FAILED', errno: 'ENXIO', path: '/bad/fifo' },
      ],
      ['no name at all', { argv: [''] }, { code: SPAWN, errno: 'ENOENT', syscall: 'execve' }],
    ];

    const before = await agentState(vm);
    for (let round = 0; round < count(20); round++) {
      for (const [what, spec, error] of failures) {
        await t.rejects(run(vm, spec), error, what);
        t.match((await run(vm, ['true'])).result, { exitCode: 0 });
      }
    }
    t.strictSame(await agentState(vm), before, 'nothing is left behind: descriptors, cgroups');
  });

  t.test('refuses what no message can carry, and goes on', async (t) => {
    const spec = { argv: ['true', ...Array.from({ length: 30 }, () => 'x'.repeat(100_000))] };
    await t.rejects(run(vm, spec), { code: /^YAVM_E_/ });
    t.match((await run(vm, ['true'])).result, { exitCode: 0 });
  });

  t.test('finds programs by the PATH of their environment', async (t) => {
    for (const place of ['one', 'two']) {
      const text = `#!/bin/sh\necho ${place}\n`;
      await vm.writeFiles(`/path/${place}/program`, [Buffer.from(text)], { mode: 0o755 });
    }
    const program = (path: string, cwd = '/') =>
      output(vm, { argv: ['program'], env: [`PATH=${path}`], cwd });
    t.equal(await program('/path/one:/path/two'), 'one\n');
    t.equal(await program('/nowhere:/path/two:/path/one'), 'two\n');
    t.equal(await program('', '/path/two'), 'two\n', 'an empty part is the working directory');
    t.equal(
      await output(vm, { argv: ['two/program'], cwd: '/path' }),
      'two\n',
      'a name with a slash is a path',
    );
    await shell(vm, 'chmod -x /path/one/program');
    t.equal(await program('/path/one:/path/two'), 'two\n', 'what may not be executed is passed over');
  });

  t.test('gives exactly the environment asked for, and PATH and HOME where they are missing', async (t) => {
    const env = async (entries: string[], user?: string) => {
      const command = await vm.run({ argv: ['/usr/bin/env'], env: entries, ...(user ? { user } : {}) });
      const text = (await command.stdout?.collect(65536))?.toString() ?? '';
      return text.split('\n').slice(0, -1);
    };
    const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    t.strictSame(await env([]), [path, 'HOME=/root']);
    t.strictSame(await env(['A=1', 'EMPTY=', 'ODD=ä=b c'], 'user'), [
      'A=1',
      'EMPTY=',
      'ODD=ä=b c',
      path,
      'HOME=/home/user',
    ]);
    t.strictSame(await env(['HOME=/tmp', 'PATH=/bin']), ['HOME=/tmp', 'PATH=/bin']);
  });

  t.test('passes arguments as they are', async (t) => {
    const words = ['', 'a b', 'ä€😀', 'line\nbreak', '\'"\\$(id)', '-n'];
    t.equal(await output(vm, ['printf', '[%s]', ...words]), words.map((word) => `[${word}]`).join(''));
    const many = Array.from({ length: 10_000 }, (_, number) => `argument ${number}`);
    t.equal(await output(vm, ['sh', '-c', 'echo $#', 'sh', ...many]), '10000\n');
    t.equal(await output(vm, { argv: ['/bin/busybox', 'from argv0'], argv0: 'echo' }), 'from argv0\n');
  });

  t.test('runs as the user asked for, by the names of the image', async (t) => {
    const id = (user?: string) => output(vm, { argv: ['sh', '-c', 'echo $(id -u):$(id -g):$(id -G)'], user });
    t.equal(await id(), '0:0:0\n');
    t.equal(await id('user'), '1000:1000:1000 100\n', 'with the groups that it is in');
    t.equal(await id('1000'), '1000:1000:1000 100\n', 'by number');
    t.equal(await id('user:users'), '1000:100:100\n', 'a group that is given is the only one');
    t.equal(await id('user:5'), '1000:5:5\n');
    t.equal(await id('4242'), '4242:0:0\n', 'a number needs no name');
    t.equal(await id('4242:4343'), '4242:4343:4343\n');
    await shell(vm, 'echo "late:x:77:78::/tmp:/bin/sh" >>/etc/passwd; echo "extra:x:79:late" >>/etc/group');
    t.equal(await id('late'), '77:78:78 79\n', 'the files are read anew when they change');
    t.equal(await output(vm, { argv: ['sh', '-c', 'echo $HOME; cd; pwd'], user: 'late' }), '/tmp\n/tmp\n');
    const refused = await run(vm, { argv: ['sh', '-c', 'cat /etc/shadow >/root/file'], user: 'user' });
    t.match(refused.stderr.text, 'Permission denied');
  });

  t.test('starts in the directory asked for', async (t) => {
    t.equal(await output(vm, ['pwd']), '/\n');
    t.equal(await output(vm, { argv: ['pwd'], cwd: '/usr/local' }), '/usr/local\n');
    await shell(vm, 'ln -s /usr/local/bin /link');
    t.equal(
      await output(vm, { argv: ['/bin/busybox', 'readlink', '/proc/self/cwd'], cwd: '/link' }),
      '/usr/local/bin\n',
    );
  });

  t.test('sets limits', async (t) => {
    const limits = 'ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc';
    const argv = ['sh', '-c', limits];
    const rlimits: CommandSpec['rlimits'] = { nofile: [100, 200], core: [0, -1] };
    t.equal(await output(vm, { argv, rlimits }), '100\n200\n0\nunlimited\n');
    t.equal(
      await output(vm, { argv, rlimits, user: 'user' }),
      '100\n200\n0\nunlimited\n',
      'before the user changes',
    );
  });

  t.test('leaves nothing of the agent in a command', async (t) => {
    const status = await output(vm, ['cat', '/proc/self/status']);
    const line = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1];
    for (const name of ['SigBlk', 'SigIgn', 'SigCgt']) t.equal(line(name), '0'.repeat(16), name);
    t.equal(line('NoNewPrivs'), '0');
    t.equal(
      await output(vm, ['sh', '-c', 'ls -l /proc/self/fd | wc -l; umask']),
      '5\n0022\n',
      'three, and the listing',
    );
    t.match(await output(vm, ['cat', '/proc/self/cgroup']), /^0::\/yavm\/\d+\n$/);
    t.equal(await output(vm, ['cat', '/proc/self/oom_score_adj']), '0\n');
    const [pid, , , , group, session, terminal] = (await output(vm, ['cat', '/proc/self/stat'])).split(' ');
    t.strictSame([group, session, terminal], [pid, pid, '0'], 'it leads a session without a terminal');
    const confined = await output(vm, { argv: ['cat', '/proc/self/status'], noNewPrivileges: true });
    t.match(confined, /^NoNewPrivs:\t1$/m);
    const leave = await run(vm, ['sh', '-c', 'echo $$ >/sys/fs/cgroup/cgroup.procs']);
    t.match(leave.stderr.text, 'Read-only file system', 'a command cannot leave its cgroup');
  });

  t.test('puts output where it is asked to', async (t) => {
    const argv = ['sh', '-c', 'echo out; echo error >&2'];
    const both = await run(vm, { argv, stdout: { file: '/log' }, stderr: 'discard' });
    t.match(both, { result: { exitCode: 0, totals: {} }, stdout: { bytes: 0 }, stderr: { bytes: 0 } });
    t.equal(await shell(vm, 'cat /log; stat -c "%a %u:%g" /log'), 'out\n644 0:0\n');
    await run(vm, { argv, stdout: { file: '/log', append: true }, stderr: 'merge' });
    t.equal(await shell(vm, 'cat /log'), 'out\nout\nerror\n');
    await run(vm, { argv, stdout: { file: '/log' }, stderr: { file: '/log2' } });
    t.equal(await shell(vm, 'cat /log /log2'), 'out\nerror\n');
    const one = await run(vm, { argv, stdout: 'discard' });
    t.match(one, { result: { totals: { stderr: 6 } }, stdout: { bytes: 0 }, stderr: { text: 'error\n' } });
    const merged = await run(vm, { argv, stderr: 'merge' });
    t.match(merged, {
      result: { totals: { stdout: 10 } },
      stdout: { text: 'out\nerror\n' },
      stderr: { bytes: 0 },
    });
    await shell(vm, 'ln -s ../../../../../log3 /tmp/link');
    await run(vm, { argv, stdout: { file: '/tmp/link' } });
    t.equal(await shell(vm, 'cat /log3'), 'out\n', 'a link is followed beneath the root');
    await t.rejects(
      run(vm, { argv, stdout: { file: '/proc/1/root/log' } }),
      { code: 'YAVM_E_GUEST_FILE_FAILED', errno: 'ELOOP' },
      "the agent's own root is out of reach",
    );
  });

  t.test('runs many commands at a time', async (t) => {
    const numbers = Array.from({ length: 10 * count(20) }, (_, number) => number);
    const outcomes = await Promise.all(
      numbers.map((number) => run(vm, ['sh', '-c', `echo ${number}; exit ${number % 256}`])),
    );
    t.strictSame(
      outcomes.map(({ result, stdout }) => [result.exitCode, stdout.text]),
      numbers.map((number) => [number % 256, `${number}\n`]),
    );
  });
});

/** What would show a leak in PID 1: the number of its descriptors, and of cgroups. */
async function agentState(vm: Vm): Promise<string> {
  return await shell(vm, 'ls /proc/1/fd | wc -l; ls -d /sys/fs/cgroup/yavm/*/ | wc -l');
}
