/** A VM's way to the internet: what passes, whole and both ways, and what does not. In network namespaces of its own. */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { INET } from '../../host/network/types.ts';
import { addressRecords } from '../lib/dns-server.ts';
import { roomFor, tookAtMost } from '../lib/in-time.ts';
import { FORBIDDEN, HOST, ROUTER, SERVERS, startInternet } from '../lib/internet.ts';
import { contentHash, PORTS } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { ethernet, ip, tcp, u16 } from '../lib/outbound-frames.ts';
import { startOutboundVm } from '../lib/outbound-vm.ts';
import { bytes, count, soak } from '../lib/scale.ts';
import { run, shell } from '../lib/vm.ts';

inNamespaces(import.meta.url);
t.setTimeout(0);

const GIB = 1024 ** 3;
/** Milliseconds for a transfer. */
const PATIENCE = soak ? 3_600_000 : 120_000;
/** Milliseconds, at most, for a refusal; a connection that nobody answers takes two minutes. */
const QUICK = 3000;

const internet = await startInternet(t, {
  zone: {
    'server.test': addressRecords([SERVERS.one, SERVERS.one6]),
    'alias.test': [{ type: 'CNAME', data: 'server.test', ttl: 300 }],
    'long.test': addressRecords(Array.from({ length: 60 }, (_, index) => `151.101.2.${index}`)),
  },
});
// Of this namespace: passt's group may send echo requests.
writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
const { vm, stats, outbound, records, thread } = await startOutboundVm(t);

/** What guest-net's `try` says of each destination. */
async function outcomes(destinations: readonly (readonly [address: string, port: number])[]) {
  const words = destinations.flatMap(([address, port]) => [address, `${port}`]).join(' ');
  const text = await shell(vm, `guest-net try ${words}`, { deadline: PATIENCE });
  return text
    .trim()
    .split('\n')
    .map((line) => /^(\S+) (\d+) (\d+) (.*)$/.exec(line) ?? [])
    .map(([, address, , time, how]) => ({ address, time: Number(time), how }));
}

t.test('it goes through passt', async (t) => {
  t.strictSame(outbound.stats, { upstream: 'passt', restarts: 0 });
  t.equal(outbound.link.mtu, 65_520);
  t.match(await shell(vm, 'ip addr show eth1'), /inet 10\.42\.42\.2\/24/);
});

t.test('downloads, whole', async (t) => {
  const size = bytes(GIB);
  const text = await shell(vm, `wget -q -O - http://server.test/bytes/${size} | sha256sum`, {
    deadline: PATIENCE,
  });
  t.equal(text.slice(0, 64), contentHash(size), `${size} bytes`);
});

t.test('one long connection does not stall', async (t) => {
  const size = bytes(4 * GIB);
  const words = `guest-net receive ${SERVERS.two} ${PORTS.source} ${size} count`;
  t.equal((await shell(vm, words, { deadline: PATIENCE })).split('\n')[0], `${size}`);
});

t.test('uploads, whole', async (t) => {
  // As text: busybox ends what it posts at a NUL.
  const make = 'head -c 16000000 /dev/urandom | base64 > /up; wc -c < /up; sha256sum < /up';
  const post = 'wget -q -O - --post-file /up http://server.test/; rm /up';
  const text = await shell(vm, `${make}; ${post}`, { deadline: PATIENCE });
  const [length, sum = '', told] = text.trim().split('\n');
  t.equal(told, `${length} ${sum.slice(0, 64)}`);
  const size = bytes(GIB);
  const sent = await shell(vm, `guest-net send ${SERVERS.one} ${PORTS.sink} ${size}`, { deadline: PATIENCE });
  t.match(sent, new RegExp(`^${size} `));
});

t.test('many connections at once', async (t) => {
  const size = 100_000;
  const text = await shell(vm, `guest-net many ${SERVERS.one} ${PORTS.source} 200 ${size}`, {
    deadline: PATIENCE,
  });
  t.equal(text, '200\n', 'each has got all of it');
});

t.test('a side that ends does not end the other', async (t) => {
  const { one } = SERVERS;
  for (let round = 0; round < count(20); round++) {
    t.equal(await shell(vm, `guest-net listen-first ${one} ${PORTS.half} later`), 'hello, that was all');
  }
  const { received } = await internet.seen();
  t.strictSame(new Set(received), new Set(['later']), 'what came after the end');
});

t.test('a guest that ends its side first gets the whole answer, and its end', async (t) => {
  const { one } = SERVERS;
  for (let round = 0; round < count(20); round++) {
    t.equal(await shell(vm, `guest-net talk ${one} ${PORTS.echo} at-once`), 'at-once');
    t.equal(await shell(vm, `guest-net talk ${one} ${PORTS.late} x`), 'late answer');
  }
  t.equal(await shell(vm, `guest-net talk ${SERVERS.one6} ${PORTS.late} x`), 'late answer');
  const size = 500_000;
  const text = await shell(vm, `guest-net talk ${one} ${PORTS.source} ${size} | sha256sum`);
  t.equal(text.slice(0, 64), contentHash(size));
  const talks = Array.from({ length: 20 }, () => `guest-net talk ${one} ${PORTS.late} x & `).join('');
  t.equal(await shell(vm, `${talks} wait`), 'late answer'.repeat(20), 'many of them');
});

t.test('a path that takes no more than 1280 bytes at once', async (t) => {
  const size = bytes(GIB / 16);
  const { narrow } = SERVERS;
  const text = await shell(vm, `guest-net receive ${narrow} ${PORTS.source} ${size} | sha256sum`, {
    deadline: PATIENCE,
  });
  t.equal(text.slice(0, 64), contentHash(size));
  t.match(await shell(vm, `guest-net send ${narrow} ${PORTS.sink} 1000000`), /^1000000 /);
  t.equal(await shell(vm, `guest-net udp ${narrow} ${PORTS.echo} 1200 1400 9000`), '1200\n1400\n9000\n');
});

t.test('datagrams of all sizes, and IPv6', async (t) => {
  const sizes = [0, 1, 512, 1472, 1473, 9000, 65_000];
  const echoed = `${sizes.join('\n')}\n`;
  t.equal(await shell(vm, `guest-net udp ${SERVERS.one} ${PORTS.echo} ${sizes.join(' ')}`), echoed);
  t.equal(await shell(vm, `guest-net udp ${SERVERS.one6} ${PORTS.echo} 0 1 1400 9000`), '0\n1\n1400\n9000\n');
  t.equal(await shell(vm, `wget -q -O - http://[${SERVERS.one6}]/address`), HOST.ipv6);
});

t.test('pings, of the guest and in its name', async (t) => {
  for (const address of [SERVERS.one, SERVERS.one6]) {
    t.match(await shell(vm, `ping -c 2 ${address}`), /2 packets received/, address);
  }
  t.ok((await thread.ping(SERVERS.one, 10_000)).milliseconds >= 0);
});

t.test('names, by UDP and TCP', async (t) => {
  t.match(await shell(vm, 'nslookup alias.test'), /151\.101\.1\.69/);
  t.equal(await shell(vm, 'wget -q -O - http://alias.test/'), 'hello');
  await internet.seen();
  // `long.test`, A: 60 addresses do not fit into a datagram of 512 bytes.
  const query = Buffer.concat([
    Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    Buffer.from('\x04long\x04test\0', 'latin1'),
    Buffer.from([0, 1, 0, 1]),
  ]);
  const framed = Buffer.concat([u16(query.length), query]);
  const [resolver] = outbound.nameservers;
  const { stdout } = await run(vm, ['sh', '-c', `(cat; sleep 1) | nc ${resolver} 53 | hexdump -C | wc -l`], {
    input: framed,
  });
  t.ok(Number(stdout.text) > 60, `${stdout.text.trim()} lines`);
  t.match((await internet.seen()).questions, [{ name: 'long.test', type: 'A', over: 'tcp' }]);
});

t.test('a server that refuses is heard at once', async (t) => {
  for (const { how, time } of await outcomes([
    [SERVERS.one, 81],
    [SERVERS.one6, 81],
  ])) {
    t.equal(how, 'Connection refused');
    tookAtMost(t, 'a refusal', time, QUICK);
  }
});

/** Where nobody's task has any business. Some of them have a server behind them here. */
const REFUSED: readonly string[] = [
  ...FORBIDDEN,
  ...[HOST.ipv4, HOST.ipv6, ROUTER.ipv4, ROUTER.ipv6, INET.gateway, INET.gateway6],
  ...['10.0.0.1', '10.255.255.254', '100.64.0.1', '100.127.255.254', '100.100.100.200'],
  ...['169.254.0.1', '169.254.170.2', '169.254.255.254', '172.16.0.1', '172.31.255.254'],
  ...['192.0.0.1', '192.0.0.192', '192.0.2.1', '192.168.0.1', '192.168.255.254', '198.18.0.1'],
  ...['198.19.255.254', '198.51.100.1', '203.0.113.1', '240.0.0.1', '168.63.129.16'],
  ...['fd00::1', 'fdff::1', 'fec0::1', '2001:db8::1', '64:ff9b::a00:1', '2002:a00:1::1', '64:ff9b:1::1'],
];

t.test('ranges that are refused, each at once', async (t) => {
  t.ok(REFUSED.length >= 40, `${REFUSED.length} destinations`);
  await internet.seen();
  const results = await outcomes(REFUSED.map((address) => [address, 80] as const));
  t.strictSame(
    results.filter(({ how, time }) => how !== 'Connection refused' || time > roomFor(QUICK)),
    [],
  );
  t.equal(results.length, REFUSED.length);
  t.strictSame((await internet.seen()).arrivals, [], 'nobody was reached');
  const refused = new Set((await stats()).refusals.map(({ destination }) => destination));
  const ends = REFUSED.map((address) => `tcp ${address.includes(':') ? `[${address}]` : address}:80`);
  t.strictSame(
    ends.filter((end) => !refused.has(end)),
    [],
    'each is counted',
  );
  for (const end of ends) {
    const told = records.filter(({ fields }) => fields.destination === end);
    t.equal(told.length, 1, `${end} is told of once`);
  }
});

t.test('the loopback of the host is not that of the gateway', async (t) => {
  for (const address of ['127.0.0.1', '::1', '0.0.0.0']) {
    const [result] = await outcomes([[address, 80]]);
    t.equal(result?.how, 'Connection refused', `${address} is the guest's own`);
  }
});

t.test('frames made by hand', async (t) => {
  const to = SERVERS.one;
  const good = tcp({ to }, { to: 80 });
  const segment = good.subarray(34);
  const hex = (frame: Uint8Array) => Buffer.from(frame).toString('hex');
  const cases: [what: string, reason: string, frame: Uint8Array][] = [
    ['a VLAN tag', 'vlan', Buffer.concat([good.subarray(0, 12), u16(0x8100), u16(5), good.subarray(12)])],
    ['another MAC', 'source-mac', ethernet(good.subarray(14), { from: '90:13:0a:2a:2a:03' })],
    ['another address', 'source-address', tcp({ to, from: '10.42.42.7' }, { to: 80 })],
    ['a fragment', 'fragment', ethernet(ip(segment, { to, protocol: 6, fragment: 0x2000 }))],
    [
      'IPv6 options',
      'options',
      ethernet(ip(Buffer.from([6, 0, 1, 4, 0, 0, 0, 0]), { to: SERVERS.one6, protocol: 0 })),
    ],
  ];
  await internet.seen();
  for (const [what, reason, frame] of cases) {
    const before = (await stats()).dropped[reason] ?? 0;
    await shell(vm, `guest-net frame eth1 ${hex(frame)}`);
    const after = (await stats()).dropped[reason] ?? 0;
    t.ok(after > before, `${what}: counted as ${reason}`);
  }
  t.strictSame((await internet.seen()).arrivals, [], 'nobody was reached');
});
