import t from 'tap';
import { onlineCpus } from '../../guest/agent/hello.ts';
import { outOfMemoryCgroup, parseRecord } from '../../guest/agent/kernel-log.ts';
import {
  completeEnvironment,
  DEFAULT_PATH,
  environmentValue,
  executableCandidates,
  resourceLimits,
} from '../../guest/process/arguments.ts';
import { cpuOf, keyed } from '../../guest/process/cgroup.ts';
import { Reaper } from '../../guest/process/reaper.ts';
import { checkStdio } from '../../guest/process/stdio.ts';
import { parseGroup, parsePasswd, resolveIdentity } from '../../guest/process/users.ts';
import type { RunRequest } from '../../guest/protocol/messages.ts';
import { fakeNative } from '../lib/fake-native.ts';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
broken line
user:x:1000:1000:A user,,,:/home/user:/bin/ash
negative:x:-1:5::/:/bin/sh
nohome:x:1001:1001:::/bin/sh
`;
const GROUP = `root:x:0:
user:x:1000:
video:x:44:user,other
audio:x:29:other
`;

t.test('account files: malformed lines are skipped', (t) => {
  t.strictSame(
    parsePasswd(PASSWD).map((entry) => entry.name),
    ['root', 'user', 'nohome'],
  );
  t.strictSame(parseGroup(GROUP).find((group) => group.gid === 44)?.members, ['user', 'other']);
  t.end();
});

t.test('identities follow Docker’s rules', (t) => {
  const resolve = (spec: string) => resolveIdentity(spec, PASSWD, GROUP);
  t.strictSame(resolve('root'), { uid: 0, gid: 0, groups: [0], home: '/root' });
  t.strictSame(resolve('user'), { uid: 1000, gid: 1000, groups: [1000, 44], home: '/home/user' });
  t.strictSame(resolve('1000'), { uid: 1000, gid: 1000, groups: [1000, 44], home: '/home/user' });
  t.strictSame(resolve('user:audio'), { uid: 1000, gid: 29, groups: [29], home: '/home/user' });
  t.strictSame(resolve('4242'), { uid: 4242, gid: 0, groups: [0], home: '/' });
  t.strictSame(resolve('4242:4243'), { uid: 4242, gid: 4243, groups: [4243], home: '/' });
  t.strictSame(resolve('nohome').home, '/', 'an empty home is /');
  t.strictSame(resolveIdentity('0', '', '').home, '/root', 'root has a home without any /etc/passwd');
  t.throws(() => resolve('ghost'), { code: 'unknown-user', errno: 'ENOENT', path: '/etc/passwd' });
  t.throws(() => resolve('user:ghost'), { code: 'unknown-user', path: '/etc/group' });
  t.throws(() => resolve('4294967295'), { code: 'unknown-user' }, '-1 means "no change" to the kernel');
  t.end();
});

t.test('environment: the last value wins, PATH, HOME and TERM get defaults', (t) => {
  t.equal(environmentValue(['A=1', 'B=2', 'A=3'], 'A'), '3');
  t.equal(environmentValue(['AB=1'], 'A'), undefined);
  t.strictSame(completeEnvironment(['X=1'], '/home/u', true), [
    'X=1',
    `PATH=${DEFAULT_PATH}`,
    'HOME=/home/u',
    'TERM=xterm',
  ]);
  t.strictSame(
    completeEnvironment(['PATH=', 'HOME=/h'], '/x', false),
    ['PATH=', 'HOME=/h'],
    'set but empty is set',
  );
  t.end();
});

t.test('PATH search', (t) => {
  t.strictSame(executableCandidates('/bin/ls', '/a:/b'), ['/bin/ls']);
  t.strictSame(executableCandidates('dir/ls', '/a:/b'), ['dir/ls']);
  t.strictSame(executableCandidates('ls', '/a::/b'), ['/a/ls', './ls', '/b/ls']);
  t.strictSame(executableCandidates('', '/a:/b'), [''], 'no name is not found in PATH');
  t.end();
});

t.test('resource limits by name', (t) => {
  t.strictSame(resourceLimits({ nofile: [10, 20], core: [-1, -1] }), [
    [7, 10, 20],
    [4, -1, -1],
  ]);
  t.strictSame(resourceLimits(undefined), []);
  t.throws(() => resourceLimits({ nofiles: [1, 1] }), { code: 'bad-request', message: /nofiles/ });
  t.end();
});

t.test('cgroup files', (t) => {
  t.strictSame(cpuOf('usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n'), { user: 3, system: 2 });
  t.equal(keyed('low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n', 'oom_kill'), 4);
  t.equal(keyed('oom_kill 4\n', 'oom'), 0, 'a key is matched whole');
  t.equal(keyed('', 'oom'), 0);
  t.end();
});

t.test('kernel log records', (t) => {
  t.strictSame(parseRecord('6,1,2,-;hello: world\n SUBSYSTEM=x\n'), { level: 6, text: 'hello: world' });
  t.strictSame(parseRecord('30,1,2,-;user facility'), { level: 6, text: 'user facility' });
  t.equal(parseRecord('nonsense'), null);
  const line =
    'oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/yavm/7,task_memcg=/yavm/7,task=sh,pid=9,uid=0';
  t.equal(outOfMemoryCgroup(line), '/yavm/7');
  t.equal(outOfMemoryCgroup('something else'), null);
  t.end();
});

t.test('CPU lists', (t) => {
  t.equal(onlineCpus('0\n'), 1);
  t.equal(onlineCpus('0-3,5'), 5);
  t.end();
});

t.test('contradicting stream specs are refused', (t) => {
  const request = (change: Partial<RunRequest>): RunRequest => ({
    op: 'run',
    argv: ['true'],
    env: [],
    stdout: { stream: 1 },
    stderr: { stream: 2 },
    ...change,
  });
  t.doesNotThrow(() => checkStdio(request({ stdin: 3 })));
  t.throws(() => checkStdio(request({ stdin: 1 })), { code: 'bad-request' });
  t.throws(() => checkStdio(request({ stderr: { stream: 1 } })), { code: 'bad-request' });
  t.throws(() => checkStdio(request({ stdout: 'discard', tty: { rows: 1, columns: 1 } })), {
    code: 'bad-request',
  });
  t.end();
});

t.test('reaping: all that ended, but never so much at a time that nothing else gets its turn', async (t) => {
  const ended = Array.from({ length: 1000 }, (_, index) => ({ pid: index + 1, code: index % 256 }));
  const batches: number[] = [];
  const { native } = fakeNative(
    {},
    {
      reap: (most) => {
        const batch = ended.splice(0, most);
        batches.push(batch.length);
        return batch.map((status) => ({ ...status, userMicroseconds: 0, systemMicroseconds: 0 }));
      },
    },
  );
  const reaper = new Reaper(native);
  const seen: number[] = [];
  for (const pid of [1, 500, 1000]) reaper.expect(pid, (status) => seen.push(status.pid));
  reaper.reap();
  // Another signal meanwhile starts no second row of turns.
  reaper.reap();
  let turns = 0;
  while (ended.length > 0) {
    turns++;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  t.strictSame(seen, [1, 500, 1000]);
  t.equal(reaper.orphans, 997);
  t.ok(Math.max(...batches) <= 100 && turns >= 10, `${batches.length} batches, ${turns} turns for others`);
});
