import type { NetworkInterfaceInfo } from 'node:os';
import t from 'tap';
import { parseIp } from '../../host/network/frame/address.ts';
import { OwnNetworks } from '../../host/network/outbound/own-networks.ts';
import { reservedFor } from '../../host/network/outbound/ranges.ts';
import { TestFilter } from '../lib/outbound-filter.ts';
import { icmp, tcp, udp } from '../lib/outbound-frames.ts';

/** Where no task gets to, and why. */
const REFUSED: readonly [address: string, reason: string][] = [
  ['0.0.0.0', 'unspecified'],
  ['0.1.2.3', 'unspecified'],
  ['10.0.0.1', 'private'],
  ['10.255.255.254', 'private'],
  ['100.64.0.1', 'shared'],
  ['100.127.255.254', 'shared'],
  ['100.100.100.200', 'metadata'],
  ['127.0.0.1', 'loopback'],
  ['127.0.0.53', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['168.63.129.16', 'metadata'],
  ['169.254.0.1', 'link-local'],
  ['169.254.169.254', 'metadata'],
  ['169.254.170.2', 'metadata'],
  ['172.16.0.1', 'private'],
  ['172.31.255.254', 'private'],
  ['192.0.0.1', 'reserved'],
  ['192.0.0.192', 'metadata'],
  ['192.0.2.1', 'documentation'],
  ['192.88.99.1', 'reserved'],
  ['192.168.0.1', 'private'],
  ['192.168.255.254', 'private'],
  ['198.18.0.1', 'benchmarking'],
  ['198.19.255.254', 'benchmarking'],
  ['198.51.100.7', 'documentation'],
  ['203.0.113.7', 'documentation'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.250', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.254', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::', 'unspecified'],
  ['::1', 'loopback'],
  ['64:ff9b:1::1', 'private'],
  ['100::1', 'reserved'],
  ['2001:2::1', 'benchmarking'],
  ['2001:10::1', 'reserved'],
  ['2001:20::1', 'reserved'],
  ['2001:db8::1', 'documentation'],
  ['3fff::1', 'documentation'],
  ['5f00::1', 'reserved'],
  ['4000::1', 'reserved'],
  ['fc00::1', 'private'],
  ['fd00:ec2::254', 'metadata'],
  ['fd12:3456::1', 'private'],
  ['fe80::1', 'link-local'],
  ['febf::1', 'link-local'],
  ['fec0::1', 'private'],
  ['ff02::1', 'multicast'],
  ['ff0e::1', 'multicast'],
];

/** Those of the guest's own network, and of the provider. */
const OWN: readonly [address: string, reason: string][] = [
  ['10.42.42.1', 'gateway'],
  ['10.42.42.2', 'gateway'],
  ['10.42.42.255', 'gateway'],
  ['fd42:42:42::1', 'gateway'],
  ['93.184.216.1', 'provider'],
  ['2a02:1::1', 'provider'],
];

/** Public ones, next to what is refused. */
const ALLOWED = [
  ...['1.1.1.1', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255'],
  ...['169.253.255.255', '172.15.255.255', '172.32.0.0', '192.0.1.0', '192.167.255.255', '198.17.255.255'],
  ...['198.20.0.0', '223.255.255.255', '2606:4700:4700::1111', '2001:200::1', '2a00::1', '64:ff9b::808:808'],
];

function hex(ipv4: string): string {
  const [a, b, c, d] = ipv4.split('.').map(Number) as [number, number, number, number];
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

function inverted(ipv4: string): string {
  return hex(
    ipv4
      .split('.')
      .map((byte) => `${255 - Number(byte)}`)
      .join('.'),
  );
}

/** IPv6 addresses that lead, or may lead, to an IPv4 one. */
function spellings(ipv4: string): string[] {
  return [
    ...[`::${hex(ipv4)}`, `::ffff:${hex(ipv4)}`, `::ffff:0:${hex(ipv4)}`, `64:ff9b::${hex(ipv4)}`],
    ...[`2002:${hex(ipv4)}::1`, `2001:0:${hex(ipv4)}::1`, `2001:0:808:808:0:0:${inverted(ipv4)}`],
    ...[`2a00::5efe:${hex(ipv4)}`, `2a00::200:5efe:${hex(ipv4)}`],
  ];
}

/** First frames of a connection, a datagram and an echo. */
function attempts(address: string) {
  return [tcp({ to: address }, { to: 443 }), udp({ to: address }, { to: 443 }), icmp({ to: address })];
}

t.test('refused ranges: each by TCP, UDP and ICMP, with and without a list of what is allowed', (t) => {
  for (const urls of [undefined, ['https://listed.example']]) {
    const filter = new TestFilter({ own: ['93.184.216.1', '2a02:1::1'], ...(urls ? { urls } : {}) });
    for (const [address, reason] of [...REFUSED, ...OWN]) {
      for (const frame of attempts(address)) t.equal(filter.out(frame), `refused: ${reason}`, address);
    }
    t.equal(filter.refusals.total, 3 * (REFUSED.length + OWN.length));
    t.equal(filter.filter.flows(filter.now), 0);
  }
  t.ok(REFUSED.length >= 40);
  t.end();
});

t.test('the same IPv4 addresses inside IPv6 ones', (t) => {
  const filter = new TestFilter({ own: ['93.184.216.1', '64:ff9b::5db8:d801'] });
  const v4 = REFUSED.filter(([address]) => !address.includes(':') && address !== '0.0.0.0');
  for (const [address] of v4) {
    for (const spelling of spellings(address)) {
      for (const frame of attempts(spelling))
        t.match(filter.out(frame), /^refused/, `${spelling} (${address})`);
    }
  }
  t.end();
});

t.test('public addresses', (t) => {
  const filter = new TestFilter();
  for (const address of ALLOWED) {
    for (const frame of attempts(address)) t.equal(filter.out(frame), 'passed', address);
  }
  const listed = new TestFilter({ urls: ['https://1.2.3.4'] });
  for (const address of ALLOWED) {
    for (const frame of attempts(address)) t.equal(listed.out(frame), 'refused: not-listed', address);
  }
  t.end();
});

t.test('an address of a rule: this address, port and protocol, and its echo; nothing beside it', (t) => {
  const urls = ['http://192.168.7.7', 'udp://192.168.7.7:53', 'tcp://[fd00::7]:22', 'http://93.184.216.1'];
  for (const filter of [
    new TestFilter({ urls, own: ['93.184.216.1'] }),
    new TestFilter({ extra: urls, own: ['93.184.216.1'] }),
  ]) {
    t.equal(filter.out(tcp({ to: '192.168.7.7' }, { to: 80 })), 'passed');
    t.equal(filter.out(udp({ to: '192.168.7.7' }, { to: 53 })), 'passed');
    t.equal(filter.out(icmp({ to: '192.168.7.7' })), 'passed');
    t.equal(filter.out(tcp({ to: 'fd00::7' }, { to: 22 })), 'passed');
    t.equal(filter.out(icmp({ to: 'fd00::7' })), 'passed');
    t.equal(filter.out(tcp({ to: '192.168.7.7' }, { to: 81 })), 'refused: private');
    t.equal(filter.out(udp({ to: '192.168.7.7' }, { to: 80 })), 'refused: private');
    t.equal(filter.out(tcp({ to: '192.168.7.7' }, { to: 53 })), 'refused: private');
    t.equal(filter.out(tcp({ to: '192.168.7.8' }, { to: 80 })), 'refused: private');
    t.equal(filter.out(tcp({ to: '64:ff9b::c0a8:707' }, { to: 80 })), 'refused: private', 'by another way');
    t.equal(
      filter.out(tcp({ to: '93.184.216.1' }, { to: 80 })),
      'refused: provider',
      "the provider's in any case",
    );
  }
  t.end();
});

t.test('neighbours of the provider with public addresses are its network', (t) => {
  const filter = new TestFilter({ near: '5db8d8', extra: ['http://93.184.216.9'] });
  t.equal(filter.out(tcp({ to: '93.184.216.8' }, { to: 80 })), 'refused: provider-network');
  t.equal(filter.out(tcp({ to: '93.184.216.9' }, { to: 80 })), 'passed', 'a rule has it');
  t.end();
});

t.test("the provider's addresses are read again when they are ten seconds old, and not before", (t) => {
  let now = 0;
  let reads = 0;
  let fail = false;
  const info = (address: string, cidr: string | null) => ({ address, cidr }) as NetworkInterfaceInfo;
  let there = [
    info('198.41.0.5', '198.41.0.5/24'),
    info('2a01::5', '2a01::5/64'),
    info('8.8.1.1', '8.8.1.1/4'),
  ];
  const own = new OwnNetworks(
    () => now,
    () => {
      reads++;
      if (fail) throw new Error('no');
      return { eth0: there, none: undefined };
    },
  );
  t.equal(own.isOwn(parseIp('198.41.0.5')), true);
  t.equal(own.isOwn(parseIp('64:ff9b::c629:5')), true, 'inside another');
  t.equal(own.isOwn(parseIp('198.41.0.6')), false);
  t.equal(own.isNear(parseIp('198.41.0.6')), true);
  t.equal(own.isNear(parseIp('198.41.1.6')), false);
  t.equal(own.isNear(parseIp('2a01::ffff')), true);
  t.equal(own.isNear(parseIp('2a01:0:0:1::1')), false);
  t.equal(own.isNear(parseIp('8.9.9.9')), false, 'a network as wide as the world says nothing');
  t.equal(reads, 1);
  there = [info('198.41.9.9', null)];
  now = 9999;
  t.equal(own.isOwn(parseIp('198.41.9.9')), false);
  now = 10_000;
  t.equal(own.isOwn(parseIp('198.41.9.9')), true);
  t.equal(own.isOwn(parseIp('198.41.0.5')), false);
  t.equal(reads, 2);
  [now, fail] = [30_000, true];
  t.equal(own.isOwn(parseIp('198.41.9.9')), true, 'what was known stays');
  t.equal(reads, 3);
  t.end();
});

t.test("this host's addresses are among them", (t) => {
  t.equal(new OwnNetworks(() => 0).isOwn(parseIp('127.0.0.1')), true);
  t.end();
});

t.test('an address is judged by its bytes', (t) => {
  t.equal(reservedFor(parseIp('::ffff:10.0.0.1')), 'private', 'the inner one has the better word');
  t.equal(reservedFor(parseIp('::ffff:8.8.8.8')), 'embedded');
  t.equal(reservedFor(parseIp('8.8.8.8')), null);
  t.end();
});
