/** The runtime of a stock exe-unit: its two processes, with its command lines, over pipes. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startTimeOf } from '../../host/lib/process.ts';
import { makeImage } from '../lib/images.ts';
import { roomFor, tookAtMost } from '../lib/in-time.ts';
import { argumentsOf, fileServers, waitUntil } from '../lib/processes.ts';
import { runtimeActivity as activity, DEADLINE, deploy, launch, start } from '../lib/runtime-activity.ts';
import { DEMO_IMAGE, privateEnvironment } from '../lib/vm.ts';

const MIB = 1024 * 1024;
/** The supervisor has a VPN wherever its offer lists one. */
const VPN = ['--vpn-endpoint', 'udp://127.0.0.1:9'];

/** QEMU is a child of the runtime: the supervisor counts its CPU time so. */
function qemuOf(child: ChildProcess): number {
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'latin1').trim().split(' ');
  const qemu = children.map(Number).find((pid) => /qemu-system/.test(argumentsOf(pid)[0] ?? ''));
  if (!qemu) throw new Error('no QEMU');
  return qemu;
}

t.test('deploy, start, commands, kill, shutdown', { timeout: 4 * DEADLINE }, async (t) => {
  const at = activity(t);
  const deployed = await deploy(t, at, '--hostname', 'box');
  t.equal(deployed.code, 0, deployed.stderr);
  t.strictSame(JSON.parse(deployed.stdout), { startMode: 'blocking', valid: { Ok: '' }, vols: [] });
  t.ok(existsSync(join(at.work, 'deployment.json')));

  const { child, ended, api } = start(t, at, VPN);
  t.match(await api.call({ hello: { version: '0.1.0' } }), { hello: { version: /^\d+\.\d+\.\d+$/ } });
  const qemu = qemuOf(child);

  await t.test('output, errors, exit code; what the image and the deployment say', async (t) => {
    const { run } = await api.run('/bin/sh', '-c', 'echo out; echo err >&2; hostname; pwd; exit 7');
    t.ok(run);
    const end = await api.end(run?.pid ?? 0);
    t.match(end, { returnCode: 7, stdout: /^out\nbox\n\//, stderr: 'err\n' });
  });

  await t.test('a mebibyte of output comes whole, before the end', async (t) => {
    const { run } = await api.run('/bin/sh', '-c', `head -c ${MIB} /dev/zero | tr '\\0' z; exit 3`);
    const pid = run?.pid ?? 0;
    const end = await api.end(pid);
    t.equal(end.returnCode, 3);
    t.equal(end.stdout.length, MIB);
    t.ok(/^z+$/.test(end.stdout));
    const last = api.messages.filter(({ status }) => status?.pid === pid).at(-1);
    t.equal(last?.status?.running, false, 'nothing comes behind the end');
  });

  await t.test('its answer introduces a process, before anything of it', async (t) => {
    const { run } = await api.run('/bin/echo', 'x');
    await api.end(run?.pid ?? 0);
    const of = api.messages.filter(({ status, run: answer }) => (status ?? answer)?.pid === (run?.pid ?? 0));
    t.match(of[0], { run: {} });
    t.match(of[1]?.status, { running: true, stdout: '', stderr: '' });
  });

  await t.test('a program that is not there', async (t) => {
    const answer = await api.run('/no/such/bin');
    t.match(answer.error, { code: 1, message: /\/no\/such\/bin.*YAVM_E_GUEST_SPAWN_FAILED/ });
  });

  await t.test('kill reaches the tree, other signals the process', async (t) => {
    const script = 'trap "echo caught; exit 5" TERM; echo up; while :; do sleep 0.1; done';
    const trapping = (await api.run('/bin/sh', '-c', script)).run?.pid ?? 0;
    await api.message(({ status }) => status?.pid === trapping && status.stdout === 'up\n', 'up');
    t.match(await api.call({ kill: { pid: trapping, signal: 15 } }), { kill: {} });
    t.match(await api.end(trapping), { returnCode: 5, stdout: 'up\ncaught\n' });

    const sleeping = (await api.run('/bin/sh', '-c', 'sleep 1000 & sleep 1000')).run?.pid ?? 0;
    t.match(await api.call({ kill: { pid: sleeping } }), { kill: {} });
    t.match(await api.end(sleeping), { returnCode: 137 });
    t.match(await api.call({ kill: { pid: sleeping } }), { error: { code: 1 } });
  });

  await t.test('shutdown: everything is gone before the answer', async (t) => {
    await api.run('/bin/sh', '-c', 'trap "" TERM; sleep 1000');
    const began = performance.now();
    t.match(await api.call({ shutdown: {} }), { shutdown: {} });
    tookAtMost(t, 'the shutdown', performance.now() - began, 4500);
    t.equal(startTimeOf(qemu), null, 'no QEMU');
    t.strictSame(
      readdirSync(at.work).sort(),
      ['deployment.json', 'logs'],
      'nothing but the deployment and the logs',
    );
    t.match(await ended, { code: 0 });
  });
});

t.test('the end of standard input ends the VM', { timeout: 2 * DEADLINE }, async (t) => {
  const at = activity(t);
  await deploy(t, at);
  const { child, ended, api } = start(t, at, VPN);
  await api.call({ hello: { version: '0.1.0' } });
  const qemu = qemuOf(child);
  api.close();
  t.match(await ended, { code: 0 });
  t.equal(startTimeOf(qemu), null);
});

t.test('the end of standard input while it boots ends that', { timeout: DEADLINE }, async (t) => {
  const at = activity(t);
  await deploy(t, at);
  const { child, ended, api } = start(t, at, VPN);
  let qemu = 0;
  await waitUntil(() => {
    try {
      qemu = qemuOf(child);
      return true;
    } catch {
      return false;
    }
  }, DEADLINE);
  api.close();
  await ended;
  t.equal(startTimeOf(qemu), null);
  t.strictSame(api.messages, []);
});

t.test('kill -9 of the runtime takes QEMU along', { timeout: 2 * DEADLINE }, async (t) => {
  const at = activity(t);
  await deploy(t, at);
  const { child, api } = start(t, at, VPN);
  await api.call({ hello: { version: '0.1.0' } });
  const qemu = qemuOf(child);
  child.kill('SIGKILL');
  const took = await waitUntil(() => startTimeOf(qemu) === null, roomFor(2000));
  tookAtMost(t, 'the end', took, 2000);
});

t.test('QEMU dies: running commands end, with the reason', { timeout: 2 * DEADLINE }, async (t) => {
  const at = activity(t);
  await deploy(t, at);
  const { child, ended, api } = start(t, at, VPN);
  const { run } = await api.run('/bin/sleep', '1000');
  process.kill(qemuOf(child), 'SIGKILL');
  const end = await api.end(run?.pid ?? 0);
  t.match(end, { returnCode: 125, stderr: /ya-vm: .*YAVM_E_QEMU_DIED/ });
  t.match(await ended, { code: 1, stderr: /YAVM_E_QEMU_DIED/ });
});

t.test('start-entrypoint, volumes, and a writable layer in memory', { timeout: 2 * DEADLINE }, async (t) => {
  const base = privateEnvironment(t);
  const image = join(base.XDG_RUNTIME_DIR as string, 'top.gvmi');
  makeImage(image, {
    files: { 'etc/task': 'top layer' },
    config: {
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['echo entrypoint runs; sleep 1000'],
      Env: ['PATH=/bin', 'OF=image'],
      WorkingDir: '/etc',
      Volumes: { '/golem/out': {} },
    },
  });
  const at = activity(t, image);
  at.head.push('--task-package', DEMO_IMAGE);
  const override = {
    '/': { ram: { size: '32 MB' } },
    '/scratch': { ram: { size: '1048.6 KB' } },
    '/data': { storage: { size: '67.1 MB', errors: 'continue' } },
  };
  const deployed = await deploy(t, at, '--volume-override', JSON.stringify(override));
  t.equal(deployed.code, 0, deployed.stderr);
  const { vols } = JSON.parse(deployed.stdout);
  t.match(vols, [{ name: /^vol-[0-9a-f-]{36}$/, path: '/golem/out' }]);
  t.ok(existsSync(join(at.work, vols[0].name)));

  const volume = join(at.work, vols[0].name);
  writeFileSync(join(volume, 'before'), 'put there before the start');

  const { api, ended, child } = start(t, at, VPN, 'start-entrypoint', 'x');
  await api.call({ hello: { version: '0.1.0' } });
  const announced = await api.message(({ status }) => /"entrypoint"/.test(status?.stdout ?? ''), 'start');
  t.ok(
    api.messages.indexOf(announced) < api.messages.findIndex(({ hello }) => hello),
    'before the answer to hello',
  );
  t.match(announced.status, { pid: 0, running: true });
  t.match(JSON.parse(announced.status?.stdout ?? ''), {
    start: null,
    entrypoint: { pid: Number, command: ['/bin/sh', '-c', /entrypoint runs/] },
  });
  await api.message(({ status }) => status?.pid === 0 && status.stdout === 'entrypoint runs\n', 'its output');

  const { run } = await api.run(
    '/bin/sh',
    '-c',
    'cat task; echo " $OF"; df -k /scratch | tail -n 1; ls -d /golem/out; touch /data/x; grep " /data " /proc/mounts',
  );
  const end = await api.end(run?.pid ?? 0);
  t.match(end, {
    returnCode: 0,
    stdout: /^top layer image\n.* 1028 .*\n\/golem\/out\n\/dev\/vd\w \/data ext4 rw,.*\n$/,
  });

  await t.test("a volume is the supervisor's folder, in both directions, at once", async (t) => {
    writeFileSync(join(volume, 'in'), 'from the supervisor');
    const script = 'cd /golem/out && cat before in && printf "from the task" > out';
    const { run } = await api.run('/bin/sh', '-c', script);
    const end = await api.end(run?.pid ?? 0);
    t.match(end, { returnCode: 0, stdout: 'put there before the startfrom the supervisor' }, end.stderr);
    t.equal(readFileSync(join(volume, 'out'), 'utf8'), 'from the task');
  });

  const servers = fileServers(child.pid as number);
  t.ok(servers.length > 0, 'a file server runs');
  t.match(await api.call({ shutdown: {} }), { shutdown: {} });
  t.ok(
    servers.every((pid) => startTimeOf(pid) === null),
    'and is gone before the answer',
  );
  t.match(await ended, { code: 0 });
});

t.test('kill -9 of the runtime takes file servers along', { timeout: 2 * DEADLINE }, async (t) => {
  const at = activity(t);
  const deployed = await deploy(t, at, '--volume-override', '{"/v":{"host":{}}}');
  t.equal(deployed.code, 0, deployed.stderr);
  const { child, api } = start(t, at, VPN);
  await api.call({ hello: { version: '0.1.0' } });
  const servers = fileServers(child.pid as number);
  t.ok(servers.length > 0);
  child.kill('SIGKILL');
  const took = await waitUntil(() => servers.every((pid) => startTimeOf(pid) === null), roomFor(2000));
  tookAtMost(t, 'the end', took, 2000);
});

t.test(
  'what cannot be: exit code 1, one line, nothing on standard output',
  { timeout: DEADLINE },
  async (t) => {
    const at = activity(t);
    const cases: [string, string[], RegExp][] = [
      ['no image', ['--workdir', at.work, '--task-package', '/no/such.gvmi', 'deploy', '--'], /YAVM_E_IMAGE/],
      ['no package', ['--workdir', at.work, 'deploy', '--'], /YAVM_E_USAGE/],
      ['no deployment', [...at.head, 'start'], /YAVM_E_DEPLOYMENT/],
      ['a bad volume', [...at.head, '--volume-override', '{"/x":3}', 'deploy'], /YAVM_E_VOLUME/],
      [
        'more storage than there is',
        [...at.head, '--volume-override', '{"/x":{"storage":{"size":"900.0 TB"}}}', 'deploy'],
        /YAVM_E_VOLUME|YAVM_E_STORAGE_OVERCOMMIT/,
      ],
      ['no endpoint', [...at.head, '--vpn-endpoint', 'unix:///x', 'start'], /--vpn-endpoint.*YAVM_E_USAGE/],
      ['an option unknown to all', [...at.head, '--colour', 'deploy'], /YAVM_E_USAGE/],
    ];
    for (const [name, words, error] of cases) {
      const end = await launch(t, at, words, 'ignore').ended;
      t.match(end, { code: 1, stdout: '', stderr: error }, name);
    }
  },
);
