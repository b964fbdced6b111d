/** Links, addresses, routes: in a network namespace of this thread's own, on veth pairs and the loopback. */
import type { Native } from '../../../native/face.ts';
import type { Case } from '../harness.ts';
import { isolate, needsRoot, O_RDWR, readFile, run } from '../tools.ts';

/** TUNSETIFF: makes a tap link that lives as long as its descriptor. A request is `struct ifreq`. */
const TUNSETIFF = 0x400454ca;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;

/** A tap link of the name given, with a descriptor that keeps it. */
function tap(native: Native, name: string): number {
  const fd = native.open('/dev/net/tun', O_RDWR, 0);
  const request = new Uint8Array(40);
  for (let index = 0; index < name.length; index++) request[index] = name.charCodeAt(index);
  new DataView(request.buffer).setUint16(16, IFF_TAP | IFF_NO_PI, true);
  native.ioctlBuffer(fd, TUNSETIFF, request);
  return fd;
}

/** Calls with a tap link, where this kernel has them. */
async function withTap(
  native: Native,
  assert: Parameters<Case['run']>[1],
  use: (name: string) => void | Promise<void>,
): Promise<void> {
  needsRoot(native, assert);
  isolate(native, assert);
  let fd: number;
  try {
    fd = tap(native, 'yavm0');
  } catch (error) {
    const { code } = error as { code: string };
    if (code !== 'ENOENT' && code !== 'ENODEV' && code !== 'EPERM') throw error;
    assert.skip(`needs /dev/net/tun (${code})`);
  }
  try {
    await use('yavm0');
  } finally {
    native.close(fd);
  }
}

const named = (native: Native, name: string) => native.links().find((one) => one.name === name);

export const netlinkCases: Case[] = [
  {
    name: 'netlink: the loopback goes up and down',
    run(native, assert) {
      needsRoot(native, assert);
      isolate(native, assert);
      const { index, up, mac, mtu } = named(native, 'lo') as NonNullable<ReturnType<typeof named>>;
      assert.equal([index, up, mac, mtu], [1, false, '00:00:00:00:00:00', 65536], 'fresh');
      native.linkSet('lo', { up: true });
      assert.equal(named(native, 'lo')?.up, true, 'up');
      native.linkSet('lo', { up: false, mtu: 1400 });
      assert.equal(
        [named(native, 'lo')?.up, named(native, 'lo')?.mtu],
        [false, 1400],
        'down, with another MTU',
      );
      native.linkSet('lo', { up: true, mtu: 65536 });
    },
  },
  {
    name: 'netlink: name, MAC and MTU change in one call',
    run: (native, assert) =>
      withTap(native, assert, (name) => {
        native.linkSet(name, { up: true, mac: '90:13:0a:00:00:02', mtu: 1220, rename: 'eth7' });
        const link = named(native, 'eth7');
        assert.equal([link?.mac, link?.mtu, link?.up], ['90:13:0a:00:00:02', 1220, true], 'changed');
        assert.equal(named(native, name), undefined, 'the old name is gone');
        native.linkSet('eth7', { up: false, rename: name });
        assert.equal(named(native, name)?.up, false, 'down, then renamed');
      }),
  },
  {
    name: 'netlink: IPv4 and IPv6 addresses',
    run: (native, assert) =>
      withTap(native, assert, (name) => {
        native.linkSet(name, { up: true });
        native.addressAdd(name, '10.42.1.2', 24);
        native.addressAdd(name, 'fd00:42::2', 64);
        assert.ok(readFile(native, '/proc/self/net/fib_trie').includes('10.42.1.2'), 'IPv4');
        const six = readFile(native, '/proc/self/net/if_inet6')
          .split('\n')
          .find((line) => line.startsWith('fd000042000000000000000000000002'));
        assert.ok(six?.includes(' 40 '), `IPv6 with its prefix: ${six}`);
        assert.equal(
          Number.parseInt(six?.split(/\s+/)[4] ?? '', 16) & 0x40,
          0,
          'usable at once: not tentative',
        );
        assert.fails(
          () => native.addressAdd(name, '10.42.1.2', 24),
          { code: 'EEXIST', syscall: 'RTM_NEWADDR', path: name },
          'twice',
        );
        native.addressRemove(name, '10.42.1.2', 24);
        native.addressRemove(name, 'fd00:42::2', 64);
        assert.ok(!readFile(native, '/proc/self/net/fib_trie').includes('10.42.1.2'), 'IPv4 gone');
        assert.fails(
          () => native.addressRemove(name, '10.42.1.2', 24),
          { code: 'EADDRNOTAVAIL', syscall: 'RTM_DELADDR' },
          'not there',
        );
      }),
  },
  {
    name: 'netlink: routes with gateway, on-link and default, of both families',
    run: (native, assert) =>
      withTap(native, assert, (name) => {
        native.linkSet(name, { up: true });
        native.addressAdd(name, '10.42.1.2', 24);
        native.addressAdd(name, 'fd00:42::2', 64);
        native.routeAdd(name, '10.99.0.0', 16, '10.42.1.1', 7);
        native.routeAdd(name, '10.98.0.0', 16, null, 0);
        native.routeAdd(name, null, 0, '10.42.1.1', 5);
        native.routeAdd(name, 'fd99::', 32, 'fd00:42::1', 9);
        native.routeAdd(name, null, 0, 'fd00:42::1', 11);
        const four = readFile(native, '/proc/self/net/route')
          .split('\n')
          .map((line) => line.split('\t'));
        const row = (destination: string) => four.find((line) => line[0] === name && line[1] === destination);
        assert.equal(
          row('0000630A')?.slice(2, 8),
          ['01012A0A', '0003', '0', '0', '7', '0000FFFF'],
          'by a gateway',
        );
        assert.equal(row('0000620A')?.slice(2, 4), ['00000000', '0001'], 'on-link');
        assert.equal(row('00000000')?.slice(2, 7), ['01012A0A', '0003', '0', '0', '5'], 'default');
        const six = readFile(native, '/proc/self/net/ipv6_route');
        assert.ok(
          /^fd99(0{28}) 20 0{32} 00 fd00004200000000000000000000000?1/m.test(six),
          'IPv6 by a gateway',
        );
        assert.ok(/^0{32} 00 0{32} 00 fd000042/m.test(six), 'IPv6 default');
        assert.fails(
          () => native.routeAdd(name, '10.99.0.0', 16, '10.42.1.1', 7),
          { code: 'EEXIST', syscall: 'RTM_NEWROUTE', path: name },
          'twice',
        );
        native.routeRemove(name, '10.99.0.0', 16, '10.42.1.1', 7);
        native.routeRemove(name, '10.98.0.0', 16, null, 0);
        native.routeRemove(name, null, 0, 'fd00:42::1', 11);
        assert.fails(
          () => native.routeRemove(name, '10.99.0.0', 16, '10.42.1.1', 7),
          { code: 'ESRCH', syscall: 'RTM_DELROUTE' },
          'not there',
        );
        assert.ok(!readFile(native, '/proc/self/net/route').includes('0000620A'), 'on-link gone');
        assert.fails(
          () => native.routeAdd(name, '10.97.0.0', 16, '192.0.2.1', 0),
          { code: 'ENETUNREACH' },
          'a gateway that is nowhere',
        );
      }),
  },
  {
    name: 'netlink: offloads are switched',
    run: (native, assert) =>
      withTap(native, assert, (name) => {
        for (const feature of ['tx-checksum', 'sg', 'tso', 'gso', 'gro'])
          native.linkFeature(name, feature, false);
        native.linkFeature(name, 'gro', true);
        native.linkFeature(name, 'gso', true);
        assert.fails(
          () => native.linkFeature('nolink0', 'gro', true),
          { code: 'ENODEV', syscall: 'SIOCETHTOOL', path: 'nolink0' },
          'no link',
        );
        assert.rejects(
          () => native.linkFeature(name, 'lro2', true),
          /tx-checksum, rx-checksum/,
          'no such feature',
        );
      }),
  },
  {
    name: 'netlink: links that are not there, and wrong texts',
    run(native, assert) {
      needsRoot(native, assert);
      isolate(native, assert);
      for (const name of ['nolink0', '', 'a-name-of-more-than-15']) {
        assert.fails(
          () => native.linkSet(name, { up: true }),
          { code: 'ENODEV', path: name },
          `link "${name}"`,
        );
      }
      assert.fails(
        () => native.addressAdd('nolink0', '10.0.0.1', 8),
        { code: 'ENODEV', syscall: 'RTM_NEWADDR' },
        'address',
      );
      assert.rejects(
        () => native.addressAdd('lo', '10.0.0', 8),
        /address must be an IPv4 or IPv6/,
        'three parts',
      );
      assert.rejects(() => native.addressAdd('lo', '10.0.0.1', 33), /from 0 to 32/, 'prefix of IPv4');
      assert.rejects(() => native.addressAdd('lo', '::1', 129), /from 0 to 128/, 'prefix of IPv6');
      assert.rejects(
        () => native.routeAdd('lo', '10.0.0.0', 8, '::1', 0),
        /destination's family/,
        'mixed families',
      );
      assert.rejects(
        () => native.routeAdd('lo', null, 8, '10.0.0.1', 0),
        /prefix/,
        'prefix of a default route',
      );
      assert.rejects(() => native.linkSet('lo', { mac: '90:13:0a:00:00' }), /a MAC address/, 'a short MAC');
      assert.rejects(() => native.linkSet('lo', { mac: '90:13:0a:00:00:zz' }), /a MAC address/, 'letters');
      assert.rejects(() => native.linkSet('lo', { rename: 'x'.repeat(16) }), /rename/, 'a long name');
    },
  },
  {
    name: 'netlink: traffic is counted',
    async run(native, assert) {
      needsRoot(native, assert);
      isolate(native, assert);
      native.linkSet('lo', { up: true });
      const before = named(native, 'lo')?.rxBytes ?? 0;
      // A datagram to a port where nobody listens is traffic enough; bash or perl, whichever is there, sends it.
      const script =
        'use Socket; socket(S,PF_INET,SOCK_DGRAM,17); send(S,"x"x500,0,sockaddr_in(9,inet_aton("127.0.0.1")));';
      const { status, output } = await run(native, ['/usr/bin/perl', '-e', script]);
      assert.equal([status.code, output], [0, ''], 'sent');
      assert.ok((named(native, 'lo')?.rxBytes ?? 0) >= before + 500, 'bytes received');
      assert.equal(
        named(native, 'lo')?.rxBytes,
        named(native, 'lo')?.txBytes,
        'the loopback gets what it sends',
      );
    },
  },
  {
    name: 'uevents: nothing to read is no failure, another descriptor is',
    run(native, assert) {
      const fd = native.ueventOpen();
      const event = native.ueventRead(fd);
      assert.ok(event === null || event.includes('@/'), 'nothing, or what the kernel said just now');
      native.close(fd);
      const [reader, writer] = native.pipe('none', 0);
      const expected = { code: 'ENOTSOCK', syscall: 'recvfrom' };
      assert.fails(() => native.ueventRead(reader), expected, 'no socket');
      native.close(reader);
      native.close(writer);
    },
  },
];
