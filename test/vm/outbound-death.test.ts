/** A way to the internet that breaks, ends with its VM, or is another one. In network namespaces of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import t from 'tap';
import { addressRecords, serveDns } from '../lib/dns-server.ts';
import { roomFor } from '../lib/in-time.ts';
import { FORBIDDEN, HOST, SERVERS, startInternet } from '../lib/internet.ts';
import { contentHash, PORTS } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { passtsOf, startOutboundVm } from '../lib/outbound-vm.ts';
import { argumentsOf, waitUntil } from '../lib/processes.ts';
import { eventually, start } from '../lib/running.ts';
import { bytes } from '../lib/scale.ts';
import { shell } from '../lib/vm.ts';

inNamespaces(import.meta.url);

/** This file, once more, as the process that is killed. */
const SUPERVISOR = 'YAVM_TEST_OUTBOUND_SUPERVISOR';
if (process.env[SUPERVISOR] === '1') {
  const { vm } = await startOutboundVm({ teardown: () => {} });
  console.log(JSON.stringify({ qemu: vm.pid, passt: passtsOf(process.pid) }));
  await new Promise(() => setInterval(() => {}, 1000));
}

t.setTimeout(0);
const GONE = 5000;
const ZONE = { 'server.test': addressRecords([SERVERS.one]) };

t.test('passt is killed', async (t) => {
  const internet = await startInternet(t, { zone: ZONE });
  const publish = [{ protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 18_080, guestPort: 80 }] as const;
  const { vm, outbound, records } = await startOutboundVm(t, { publish });
  const kill = () => {
    const pids = passtsOf(process.pid);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    return pids;
  };
  await shell(vm, 'mkdir /www; echo here > /www/index.html; httpd -p 80 -h /www');

  const endless = await start(vm, [
    'guest-net',
    ...['receive', SERVERS.one, `${PORTS.source}`, '9999999999999', 'count'],
  ]);
  const idle = await start(vm, ['guest-net', 'listen-first', SERVERS.one, `${PORTS.echo}`, 'x']);
  await eventually('both are connected', async () => (await internet.seen()).open === 2);
  const [first] = kill();
  t.ok(first, 'there was one');
  t.not((await endless.command.result).exitCode, 0, 'a connection of before ends');
  t.not((await idle.command.result).exitCode, 0, 'also one on which nothing passes');
  t.match(endless.stderr(), /reset|refused/i);
  await eventually(
    'another one runs',
    () => outbound.stats.restarts === 1 && passtsOf(process.pid).length === 1,
  );
  t.match(
    records.find(({ level }) => level === 'warn'),
    { fields: { err: { code: 'YAVM_E_NET_PASST', message: /signal 9/ } } },
  );
  await eventually('connections work again', () =>
    shell(vm, 'wget -q -O - http://server.test/').then(
      (text) => text === 'hello',
      () => false,
    ),
  );
  t.equal(await (await fetch('http://127.0.0.1:18080/')).text(), 'here\n', 'ports are published again');

  const [second] = kill();
  t.not(second, first);
  t.match(await outbound.failed, { code: 'YAVM_E_NET_PASST', message: /again after it was started anew/ });
  t.match(
    records.find(({ level }) => level === 'error'),
    { fields: { err: { code: 'YAVM_E_NET_PASST' } } },
  );
  t.match(await shell(vm, `guest-net try ${SERVERS.one} 80`), /refused/, 'refused at once');
  t.strictSame(passtsOf(process.pid), [], 'it is not started a third time');
  t.equal(await shell(vm, 'echo on'), 'on\n', 'the VM goes on');
});

t.test('it ends with the VM', async (t) => {
  await startInternet(t);
  const { vm, outbound, thread, records } = await startOutboundVm(t);
  t.equal(passtsOf(process.pid).length, 1);
  await vm.kill();
  await outbound.close();
  await thread.close();
  t.strictSame(passtsOf(process.pid), []);
  t.equal(outbound.stats.restarts, 0);
  t.strictSame(
    records.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
    'nothing to complain about',
  );
});

t.test('kill -9 of the process that supervises', async (t) => {
  await startInternet(t);
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, [SUPERVISOR]: '1' },
  });
  const [line] = await once(createInterface(child.stdout), 'line');
  const { qemu, passt } = JSON.parse(line) as { qemu: number; passt: number[] };
  const pids = [qemu, ...passt];
  t.equal(passt.length, 1);
  t.ok(pids.every((pid) => argumentsOf(pid).length > 0));
  child.kill('SIGKILL');
  await once(child, 'exit');
  const left = () => pids.filter((pid) => argumentsOf(pid).length > 0);
  t.not(await waitUntil(() => left().length === 0, roomFor(GONE)), null, `left: ${left()}`);
});

t.test("the host's resolver is on its loopback", async (t) => {
  await startInternet(t, { resolvers: ['127.0.0.53'] });
  const resolver = await serveDns(
    () => ZONE,
    () => {},
  );
  t.teardown(() => resolver.close());
  const { vm, outbound } = await startOutboundVm(t);
  t.strictSame(outbound.nameservers, ['10.42.42.1']);
  t.equal(await shell(vm, 'wget -q -O - http://server.test/'), 'hello');
});

t.test("without passt, QEMU's user network is the way", async (t) => {
  const internet = await startInternet(t, { zone: ZONE });
  const env = { ...process.env, YAVM_PASST: '/nowhere/passt' };
  const publish = [{ protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 18_080, guestPort: 80 }] as const;
  const { vm, outbound, records, stats } = await startOutboundVm(t, { env, publish });
  t.strictSame(outbound.stats, { upstream: 'qemu', restarts: 0 });
  t.match(
    records.find(({ level }) => level === 'warn'),
    { message: /QEMU's user network/, fields: { reason: /\/nowhere\/passt/, fix: /apt-get install passt/ } },
  );
  const size = bytes(256 * 1024 * 1024);
  const text = await shell(vm, `wget -q -O - http://server.test/bytes/${size} | sha256sum`);
  t.equal(text.slice(0, 64), contentHash(size), `${size} bytes`);
  t.equal(await shell(vm, `guest-net talk ${SERVERS.one} ${PORTS.echo} both-ways`), 'both-ways');
  t.equal(await shell(vm, `guest-net udp ${SERVERS.one} ${PORTS.echo} 0 1 1400`), '0\n1\n1400\n');
  await shell(vm, 'mkdir /www; echo here > /www/index.html; httpd -p 80 -h /www');
  t.equal(await (await fetch('http://127.0.0.1:18080/')).text(), 'here\n');

  await internet.seen();
  for (const address of [...FORBIDDEN, HOST.ipv4, HOST.ipv6, '10.42.42.1', 'fd42:42:42::1']) {
    t.match(await shell(vm, `guest-net try ${address} 80`), /Connection refused/, address);
  }
  t.strictSame((await internet.seen()).arrivals, []);
  t.ok((await stats()).refusals.length >= FORBIDDEN.length);
});
