/** Where a VM gets to when its agreement lists that, and which of its ports are reached. In network namespaces of its own. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import t from 'tap';
import type { OutboundRule } from '../../host/network/types.ts';
import { addressRecords, type Zone } from '../lib/dns-server.ts';
import { HOST, SERVERS, startInternet } from '../lib/internet.ts';
import { PORTS } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { startOutboundVm } from '../lib/outbound-vm.ts';
import { eventually, start } from '../lib/running.ts';
import { shell } from '../lib/vm.ts';

inNamespaces(import.meta.url);
t.setTimeout(0);

/** A private address that the agreement names nevertheless. */
const LISTED = '10.1.2.3';
const RULES: OutboundRule[] = [
  { host: { name: 'allowed.test' }, protocol: 'tcp', port: 80 },
  { host: { name: 'moving.test' }, protocol: 'tcp', port: 80 },
  { host: { name: 'www.alias.test' }, protocol: 'tcp', port: 8080 },
  { host: { name: 'echo.test' }, protocol: 'udp', port: PORTS.echo },
  { host: { address: LISTED }, protocol: 'tcp', port: 80 },
];
const ZONE: Zone = {
  'allowed.test': addressRecords([SERVERS.one]),
  'moving.test': addressRecords([SERVERS.one], 1),
  'www.alias.test': [{ type: 'CNAME', data: 'alias.test', ttl: 300 }],
  'alias.test': [{ type: 'CNAME', data: 'cdn.test', ttl: 300 }],
  'cdn.test': addressRecords([SERVERS.three]),
  'echo.test': addressRecords([SERVERS.two]),
  'other.test': addressRecords([SERVERS.two]),
};
const PORT = { everywhere: 18_080, local: 18_081, udp: 18_053 };

const internet = await startInternet(t, { zone: ZONE });
const { vm, stats, records } = await startOutboundVm(t, {
  policy: { unrestricted: false, rules: RULES },
  publish: [
    { protocol: 'tcp', hostPort: PORT.everywhere, guestPort: 80 },
    { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: PORT.local, guestPort: 81 },
    { protocol: 'udp', hostPort: PORT.udp, guestPort: 5353 },
  ],
});

/** How a connection ends: `connected`, or the error. */
async function outcome(host: string, port: number): Promise<string | undefined> {
  return /^\S+ \d+ \d+ (.*)$/m.exec(await shell(vm, `guest-net try ${host} ${port}`))?.[1];
}

const REFUSED = 'Connection refused';

t.test('by name and port', async (t) => {
  t.equal(await outcome(SERVERS.one, 80), REFUSED, 'an address whose name nobody has asked for');
  t.equal(await shell(vm, 'wget -q -O - http://allowed.test/'), 'hello');
  t.equal(await outcome('allowed.test', 8080), REFUSED, 'another port');
  t.equal(await outcome(SERVERS.one, 80), 'connected', "the name's address");
  t.equal(await outcome(SERVERS.two, 80), REFUSED);
  const { refusals, resolved } = await stats();
  t.ok(resolved >= 1);
  t.match(
    refusals.find(({ destination }) => destination === `tcp ${SERVERS.one}:8080`),
    { name: 'allowed.test', reason: 'not-listed', count: 1 },
  );
});

t.test('by protocol', async (t) => {
  t.equal(await shell(vm, `guest-net udp echo.test ${PORTS.echo} 5`), '5\n');
  t.equal(await outcome('echo.test', PORTS.echo), REFUSED, 'TCP is not listed');
});

t.test('an address that is listed itself, though it is private', async (t) => {
  t.equal(await outcome(LISTED, 80), 'connected');
  t.equal(await outcome(LISTED, 8080), REFUSED);
});

t.test('through aliases', async (t) => {
  t.equal(await shell(vm, 'wget -q -O - http://www.alias.test:8080/'), 'hello');
  t.equal(await outcome(SERVERS.three, 80), REFUSED, "the alias's port only");
});

t.test('a name that is not listed is not there', async (t) => {
  await internet.seen();
  await t.rejects(shell(vm, 'nslookup other.test'), /can't find|NXDOMAIN/);
  t.strictSame((await internet.seen()).questions, [], 'nobody was asked');
});

t.test("another resolver than the provider's", async (t) => {
  await internet.seen();
  await t.rejects(shell(vm, `nslookup allowed.test ${SERVERS.two}`));
  t.equal(await outcome(SERVERS.two, 53), REFUSED, 'by TCP');
  t.strictSame(await internet.seen(), { questions: [], arrivals: [], received: [], open: 0 });
});

t.test('an address that changes', async (t) => {
  const fetch = async () => {
    await shell(vm, 'wget -q -O - http://moving.test/');
    return (await internet.seen()).arrivals;
  };
  await internet.seen();
  t.strictSame(await fetch(), [`tcp ${SERVERS.one}:80`]);
  await internet.setZone({ ...ZONE, 'moving.test': addressRecords([SERVERS.two], 1) });
  t.strictSame(await fetch(), [`tcp ${SERVERS.two}:80`], 'the new one is known at once');
});

t.test('ports that are published', async (t) => {
  const serve = (text: string, port: number) =>
    shell(vm, `mkdir -p /www${port}; echo ${text} > /www${port}/index.html; httpd -p ${port} -h /www${port}`);
  await serve('everywhere', 80);
  await serve('local', 81);
  const get = async (url: string) => (await fetch(url)).text();
  t.equal(await get(`http://127.0.0.1:${PORT.everywhere}/`), 'everywhere\n');
  t.equal(await get(`http://${HOST.ipv4}:${PORT.everywhere}/`), 'everywhere\n');
  t.equal(await internet.fetch(`http://${HOST.ipv4}:${PORT.everywhere}/`), 'everywhere\n', 'from afar');
  t.equal(await get(`http://127.0.0.1:${PORT.local}/`), 'local\n');
  await t.rejects(get(`http://${HOST.ipv4}:${PORT.local}/`), 'at no other address');
  await t.rejects(internet.fetch(`http://${HOST.ipv4}:${PORT.local}/`));

  const echo = await start(vm, ['guest-net', 'echo-udp', '5353']);
  await eventually('it listens', () => echo.stdout() === 'ready\n');
  const socket = createSocket('udp4');
  t.teardown(() => void socket.close());
  // Debian 12's passt loses answers to 127.0.0.1.
  socket.send('over UDP', PORT.udp, HOST.ipv4);
  const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(10_000) });
  t.equal(`${answer}`, 'over UDP');
  await echo.command.signal(9);
});

t.test('each refused destination is logged once', async (t) => {
  const told = records.flatMap(({ fields }) => (fields.reason ? [fields.destination] : []));
  t.ok(told.length > 3);
  t.equal(new Set(told).size, told.length);
});
