/** Where frames go, by tables: exe-unit.md 8.4, 8.5, and what ours does beyond. */
import t from 'tap';
import { parseIp } from '../../host/network/frame/address.ts';
import { buildNeighborSolicitation } from '../../host/network/frame/icmp.ts';
import { parseNetworks } from '../../host/network/vpn/networks.ts';
import type { Siblings } from '../../host/network/vpn/siblings-face.ts';
import { VpnSwitch } from '../../host/network/vpn/switch.ts';
import { VpnTable } from '../../host/network/vpn/table.ts';
import { Random } from '../lib/random.ts';
import { FakeBus, FakeLink, FakeSiblings } from '../lib/vpn-fakes.ts';
import {
  advertisement,
  arp,
  changed,
  echo,
  guestMac,
  icmpv6,
  nodeId,
  peerMac,
  tagged,
  udp,
} from '../lib/vpn-frames.ts';

const ME = nodeId('aa');
const [BB, CC, DD] = ['bb', 'cc', 'dd'].map(nodeId) as [string, string, string];

/** One node has two addresses; the VM has one of its own beside nodeIp, in a network of each family. */
const NETWORKS = parseNetworks([
  {
    id: 'four',
    ip: '10.5.0.0/24',
    nodeIp: '10.5.0.2',
    nodes: { '10.5.0.1': BB, '10.5.0.2': ME, '10.5.0.3': CC, '10.5.0.4': CC, '10.5.0.9': ME },
  },
  { id: 'other', ip: '10.6.0.0/16', nodeIp: '10.6.0.2', nodes: { '10.6.0.1': DD } },
  { id: 'six', ip: 'fd00::/64', nodeIp: 'fd00::2', nodes: { 'fd00::1': BB, 'fd00::3': CC } },
]);

function setUp() {
  const bus = new FakeBus();
  const link = new FakeLink();
  const table = new VpnTable(NETWORKS, ME, (to, network) =>
    bus.pusher(`/udp/net/${to}/vpn/${network}/raw`, ME),
  );
  const frames = new VpnSwitch(table, (...frame) => link.send(...frame));
  frames.now = 1000;
  /** All reasons of all drops, summed. */
  const drops = () => {
    const sum: Record<string, number> = {};
    for (const each of [frames.drops, ...table.networks.map((network) => network.drops)]) {
      for (const [reason, count] of Object.entries(each.byName)) sum[reason] = (sum[reason] ?? 0) + count;
    }
    return sum;
  };
  const siblingsOf = (id: string) => {
    const events = { onRole() {}, onFrame() {}, onChange() {}, onLocal() {} };
    const setup = { folder: '', nodeId: ME, requestorId: '', networkId: id, addresses: [] };
    const siblings = new FakeSiblings(setup, events);
    table.network(id).siblings = siblings satisfies Siblings;
    return {
      siblings,
      setLocal(...addresses: string[]) {
        siblings.setLocal(...addresses);
        table.setLocal(table.network(id), siblings.local);
      },
    };
  };
  return { bus, link, table, frames, drops, siblingsOf };
}

/** In the middle of other bytes, which must not matter. */
function placed(frame: Uint8Array): [bytes: Uint8Array, offset: number, length: number] {
  const bytes = new Uint8Array(frame.length + 64).fill(0xff);
  bytes.set(frame, 32);
  return [bytes, 32, frame.length];
}

const solicit = (from: string, to: string) =>
  buildNeighborSolicitation(guestMac('10.5.0.2'), parseIp(from), parseIp(to));

/** Nodes that get a copy, or the reason for which nobody does. */
const EGRESS: [name: string, frame: Uint8Array, to: string[] | string][] = [
  // IPv4
  ['a node', udp('10.5.0.2', '10.5.0.1'), ['bb']],
  ['a node, from another own address', udp('10.5.0.9', '10.5.0.1'), ['bb']],
  ['a node’s second address', udp('10.5.0.2', '10.5.0.4'), ['cc']],
  ['a node of the other network', udp('10.6.0.2', '10.6.0.1'), ['dd']],
  ['nobody', udp('10.5.0.2', '10.5.0.77'), 'unknown-destination'],
  [
    'somebody outside',
    udp('10.5.0.2', '8.8.8.8', { destinationMac: guestMac('10.5.0.1') }),
    'unknown-destination',
  ],
  [
    'somebody outside, by way of A0:13',
    udp('10.5.0.2', '8.8.8.8', { destinationMac: peerMac('10.5.0.1') }),
    ['bb'],
  ],
  [
    'the same, an unknown way',
    udp('10.5.0.2', '8.8.8.8', { destinationMac: peerMac('10.5.0.77') }),
    'unknown-destination',
  ],
  ['an own address', udp('10.5.0.2', '10.5.0.9'), 'own-address'],
  ['everybody', udp('10.5.0.2', '255.255.255.255'), ['bb', 'cc', 'dd']],
  ['the network', udp('10.5.0.2', '10.5.0.255'), ['bb', 'cc']],
  ['the other network', udp('10.6.0.2', '10.6.255.255'), ['dd']],
  ['a group', udp('10.5.0.2', '224.0.0.251'), ['bb', 'cc']],
  ['a group, from the other network', udp('10.6.0.2', '239.1.2.3'), ['dd']],
  ['reserved', udp('10.5.0.2', '240.0.0.1'), 'unknown-destination'],
  ['from a node’s address', udp('10.5.0.1', '10.5.0.3'), 'foreign-source'],
  ['from a free address', udp('10.5.0.77', '10.5.0.1'), 'foreign-source'],
  ['from outside', udp('8.8.8.8', '10.5.0.1'), 'foreign-source'],
  ['from no address (DHCP)', udp('0.0.0.0', '255.255.255.255'), 'foreign-source'],
  ['any MAC (a bridge in the task)', udp('10.5.0.2', '10.5.0.1', { sourceMac: [2, 1, 2, 3, 4, 5] }), ['bb']],
  // ARP
  ['ARP for a node', arp('request', '10.5.0.2', '10.5.0.1'), ['bb']],
  ['ARP reply', arp('reply', '10.5.0.2', '10.5.0.3'), ['cc']],
  ['ARP for nobody', arp('request', '10.5.0.2', '10.5.0.77'), 'unknown-destination'],
  [
    'ARP for nobody, to A0:13',
    changed(arp('request', '10.5.0.2', '10.5.0.77'), { 0: 0xa0, 1: 0x13, 2: 10, 3: 5, 4: 0, 5: 1 }),
    'unknown-destination',
  ],
  ['ARP probe of a node’s address', arp('request', '0.0.0.0', '10.5.0.1'), ['bb']],
  ['ARP probe of the own address', arp('request', '0.0.0.0', '10.5.0.2'), ['bb', 'cc']],
  ['ARP announcement', arp('request', '10.5.0.2', '10.5.0.2'), ['bb', 'cc']],
  ['ARP with a node’s address as sender', arp('request', '10.5.0.1', '10.5.0.3'), 'foreign-source'],
  ['ARP for the broadcast address', arp('request', '10.5.0.2', '10.5.0.255'), 'unknown-destination'],
  [
    'ARP of something else than IPv4',
    changed(arp('request', '10.5.0.2', '10.5.0.1'), { 16: 0x12 }),
    'not-ip',
  ],
  [
    'ARP with long hardware addresses',
    changed(arp('request', '10.5.0.2', '10.5.0.1'), { 18: 8 }),
    'malformed',
  ],
  ['ARP with long addresses', changed(arp('request', '10.5.0.2', '10.5.0.1'), { 19: 16 }), 'malformed'],
  ['ARP, cut', arp('request', '10.5.0.2', '10.5.0.1').subarray(0, 41), 'short'],
  // IPv6
  ['an IPv6 node', udp('fd00::2', 'fd00::1'), ['bb']],
  ['nobody, IPv6', udp('fd00::2', 'fd00::77'), 'unknown-destination'],
  [
    'an IPv4 address in IPv6',
    udp('fd00::2', '::ffff:10.5.0.1', { destinationMac: [2, 0, 0, 0, 0, 1] }),
    'unknown-destination',
  ],
  ['an IPv6 group', udp('fd00::2', 'ff02::fb'), ['bb', 'cc']],
  ['an own IPv6 address', udp('fd00::2', 'fd00::2'), 'own-address'],
  ['from a node’s IPv6 address', udp('fd00::1', 'fd00::3'), 'foreign-source'],
  ['from a link-local address', udp('fe80::2', 'fd00::1'), 'foreign-source'],
  ['from ::', udp('::', 'ff02::fb'), 'foreign-source'],
  ['who has a node’s address', solicit('fd00::2', 'fd00::3'), ['cc']],
  ['who has it, from a link-local address', solicit('fe80::2', 'fd00::3'), ['cc']],
  ['who has nobody’s', solicit('fd00::2', 'fd00::77'), 'unknown-destination'],
  ['is there one with mine (DAD)', solicit('::', 'fd00::2'), ['bb', 'cc']],
  ['advertisement', advertisement('fd00::2', 'fd00::1'), ['bb']],
  ['advertisement from a link-local address', icmpv6('fe80::2', 'fd00::1', 136), ['bb']],
  ['advertisement to all', advertisement('fd00::2', 'ff02::1'), ['bb', 'cc']],
  ['looks for routers', icmpv6('fe80::2', 'ff02::2', 133), ['bb', 'cc']],
  ['looks for routers, without an address', icmpv6('::', 'ff02::2', 133), ['bb', 'cc']],
  ['is a router', icmpv6('fe80::2', 'ff02::1', 134), 'foreign-source'],
  ['redirects', icmpv6('fe80::2', 'fd00::1', 137), 'foreign-source'],
  ['joins a group (MLDv2)', icmpv6('fe80::2', 'ff02::16', 143, true), ['bb', 'cc']],
  ['joins a group, without an address', icmpv6('::', 'ff02::16', 143, true), ['bb', 'cc']],
  ['leaves a group (MLDv1)', icmpv6('fe80::2', 'ff02::2', 132, true), ['bb', 'cc']],
  ['pings from a link-local address', icmpv6('fe80::2', 'ff02::1', 128), 'foreign-source'],
  ['pings from there, with options', icmpv6('fe80::2', 'ff02::1', 128, true), 'foreign-source'],
  ['to a link-local address', udp('fd00::2', 'fe80::1'), 'unknown-destination'],
  // what is no frame of ours
  ['a VLAN tag', tagged(udp('10.5.0.2', '10.5.0.1')), 'not-ip'],
  ['two VLAN tags', tagged(tagged(udp('10.5.0.2', '10.5.0.1'))), 'not-ip'],
  ['STP', changed(udp('10.5.0.2', '10.5.0.1'), { 12: 0, 13: 38 }), 'not-ip'],
  ['nothing', new Uint8Array(0), 'short'],
  ['13 bytes', udp('10.5.0.2', '10.5.0.1').subarray(0, 13), 'short'],
  ['a header alone', udp('10.5.0.2', '10.5.0.1').subarray(0, 14), 'short'],
  ['IPv4, cut in its header', udp('10.5.0.2', '10.5.0.1').subarray(0, 33), 'short'],
  ['IPv4, cut behind it', udp('10.5.0.2', '10.5.0.1').subarray(0, 34), 'short'],
  ['IPv4, total length 0', changed(udp('10.5.0.2', '10.5.0.1'), { 16: 0, 17: 0 }), 'malformed'],
  ['IPv4, total length too large', changed(udp('10.5.0.2', '10.5.0.1'), { 16: 0xff, 17: 0xff }), 'short'],
  ['IPv4 that says 6', changed(udp('10.5.0.2', '10.5.0.1'), { 14: 0x65 }), 'malformed'],
  ['IPv4, header length 4', changed(udp('10.5.0.2', '10.5.0.1'), { 14: 0x41 }), 'malformed'],
  ['IPv4, header longer than all', changed(udp('10.5.0.2', '10.5.0.1'), { 14: 0x4f }), 'malformed'],
  ['IPv4, padded to 60 bytes', Buffer.concat([udp('10.5.0.2', '10.5.0.1'), Buffer.alloc(13)]), ['bb']],
  ['IPv6, cut in its header', udp('fd00::2', 'fd00::1').subarray(0, 53), 'short'],
  ['IPv6, cut behind it', udp('fd00::2', 'fd00::1').subarray(0, 54), 'short'],
  ['IPv6 that says 4', changed(udp('fd00::2', 'fd00::1'), { 14: 0x40 }), 'malformed'],
  [
    'IPv6, options without end',
    changed(icmpv6('fe80::2', 'ff02::16', 143, true), { 55: 0xff }),
    'foreign-source',
  ],
  ['who has, cut before the address', icmpv6('fd00::2', 'ff02::1:ff00:3', 135), ['bb', 'cc']],
];

for (const [name, frame, to] of EGRESS) {
  t.test(`from the guest: ${name}`, async (t) => {
    const { bus, link, frames, drops } = setUp();
    frames.egress(...placed(frame));
    if (typeof to === 'string') {
      t.same(bus.pushed, []);
      t.same(drops(), { [to]: 1 });
    } else {
      t.ok(bus.pushed.every((pushed) => Buffer.compare(pushed.frame, frame) === 0 && pushed.caller === ME));
      t.same(bus.sentTo, to);
      t.same(drops(), {});
    }
    t.same(link.sent, [], 'nothing comes back');
  });
}

/** Whether the guest gets it. */
const INGRESS: [name: string, network: string, frame: Uint8Array, reason: string | null][] = [
  ['to the guest', 'four', udp('10.5.0.1', '10.5.0.2'), null],
  ['ARP', 'four', arp('request', '10.5.0.1', '10.5.0.2', peerMac('10.5.0.1')), null],
  ['from an unknown address outside', 'four', udp('8.8.8.8', '10.5.0.2'), null],
  ['to an address behind the guest', 'four', udp('10.5.0.1', '10.99.0.1'), null],
  ['to all', 'four', udp('10.5.0.1', '10.5.0.255'), null],
  ['to a group', 'four', udp('10.5.0.1', '224.0.0.1'), null],
  ['IPv6', 'six', udp('fd00::1', 'fd00::2'), null],
  ['who has', 'six', solicit('fd00::1', 'fd00::2'), null],
  ['a router’s advertisement', 'six', icmpv6('fe80::1', 'ff02::1', 134), null],
  ['a VLAN tag', 'four', tagged(udp('10.5.0.1', '10.5.0.2')), 'not-ip'],
  ['cut', 'four', udp('10.5.0.1', '10.5.0.2').subarray(0, 30), 'short'],
  ['nothing', 'four', new Uint8Array(0), 'short'],
];

for (const [name, network, frame, reason] of INGRESS) {
  t.test(`from a node: ${name}`, async (t) => {
    const { bus, link, frames, table, drops } = setUp();
    frames.ingress(table.network(network), BB, ...placed(frame));
    t.same(link.sent, reason === null ? [frame] : []);
    t.same(drops(), reason === null ? {} : { [reason]: 1 });
    t.same(bus.pushed, [], 'nothing is sent on');
  });
}

t.test('a guest that does not take its frames, a bus that does not', async (t) => {
  const { bus, link, frames, table, drops } = setUp();
  link.room = 1;
  for (let sent = 0; sent < 3; sent++) {
    frames.ingress(table.network('four'), BB, ...placed(udp('10.5.0.1', '10.5.0.2')));
  }
  t.same(drops(), { 'guest-full': 2 });
  bus.room = 1;
  t.equal(frames.refused, false);
  frames.egress(...placed(udp('10.5.0.2', '10.5.0.255')));
  t.equal(frames.refused, true);
  t.same(drops(), { 'guest-full': 2, 'bus-full': 1 });
});

t.test('counters of peers, as the guest would count', async (t) => {
  const { frames, table } = setUp();
  const [there, back] = [udp('10.5.0.2', '10.5.0.1'), echo('reply', '10.5.0.1', '10.5.0.2')];
  frames.egress(...placed(there));
  frames.now = 2000;
  const network = table.network('four');
  frames.ingress(network, BB, ...placed(back));
  frames.ingress(network, CC, ...placed(back));
  const stats = table.stats(network);
  t.match(
    stats.find(({ address }) => address === '10.5.0.1'),
    { framesOut: 1, bytesOut: there.length, framesIn: 1, bytesIn: back.length, lastSeen: 2000, nodeId: BB },
    'what another node sent with its address is not counted as its own',
  );
  t.match(
    stats.find(({ address }) => address === '10.5.0.2'),
    { kind: 'self', lastSeen: 1000, nodeId: ME },
  );
  t.match(
    stats.find(({ address }) => address === '10.5.0.3'),
    { kind: 'node', lastSeen: null, framesIn: 0 },
  );
});

t.test('siblings: who of this host has the address gets the frame, and nobody else', async (t) => {
  const { bus, link, frames, table, drops, siblingsOf } = setUp();
  const { siblings, setLocal } = siblingsOf('four');
  setLocal('10.5.0.9', '10.5.0.50', '10.5.0.1', '10.5.0.2', '10.9.9.9');
  const take = () => siblings.sent.splice(0).map(({ to }) => to);
  const number = (text: string) => Buffer.from(parseIp(text)).readUInt32BE();
  const stats = table.stats(table.network('four'));
  t.same(
    stats.filter(({ kind }) => kind === 'local').map(({ address }) => address),
    ['10.5.0.9', '10.5.0.50'],
    'not one of another node, not the VM’s own, not one outside',
  );
  frames.egress(...placed(udp('10.5.0.2', '10.5.0.9')));
  frames.egress(...placed(arp('request', '10.5.0.2', '10.5.0.50')));
  t.same(take(), [number('10.5.0.9'), number('10.5.0.50')]);
  frames.egress(...placed(udp('10.5.0.9', '10.5.0.1')));
  t.same(drops(), { 'foreign-source': 1 }, 'its address is not this VM’s any more');
  t.same(bus.sentTo, []);
  frames.egress(...placed(udp('10.5.0.2', '10.5.0.255')));
  t.same(take(), ['all']);
  t.same(bus.sentTo, ['bb', 'cc']);

  const network = table.network('four');
  frames.ingress(network, BB, ...placed(udp('10.5.0.1', '10.5.0.9')));
  t.same(take(), [number('10.5.0.9')]);
  t.same(link.sent, [], 'it was not for this VM');
  frames.ingress(network, BB, ...placed(udp('10.5.0.1', '10.5.0.2')));
  t.same([take(), link.sent.length], [[], 1]);
  frames.ingress(network, BB, ...placed(udp('10.5.0.1', '10.5.0.255')));
  frames.ingress(network, BB, ...placed(udp('10.5.0.1', '224.0.0.251')));
  frames.ingress(network, BB, ...placed(arp('request', '10.5.0.1', '10.5.0.1', peerMac('10.5.0.1'))));
  t.same([take(), link.sent.length], [['all', 'all', 'all'], 4], 'both');
  frames.fromLocal(network, ...placed(udp('10.5.0.9', '10.5.0.255')));
  t.same([take(), link.sent.length, bus.sentTo], [[], 5, []], 'to the guest, and nowhere else');
  t.match(
    table.stats(network).find(({ address }) => address === '10.5.0.9'),
    { framesIn: 1, framesOut: 1 },
  );

  setLocal('10.5.0.50');
  frames.egress(...placed(udp('10.5.0.9', '10.5.0.1')));
  t.same(bus.sentTo, ['bb'], 'gone, and the address the VM’s again');
  siblings.room = 0;
  frames.egress(...placed(udp('10.5.0.2', '10.5.0.50')));
  t.same(drops(), { 'foreign-source': 1 }, 'siblings count themselves what they have no room for');
  t.equal(siblings.dropped.room, 1);
  siblings.local.clear();
  frames.egress(...placed(udp('10.5.0.2', '10.5.0.50')));
  t.same(drops(), { 'foreign-source': 1, 'unknown-destination': 1 });
});

t.test('whatever comes: nothing is thrown, and every frame is somewhere', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const { bus, link, frames, table, drops, siblingsOf } = setUp();
  const { siblings, setLocal } = siblingsOf('four');
  setLocal('10.5.0.50');
  const samples = [...EGRESS.map(([, frame]) => frame), ...INGRESS.map(([, , frame]) => frame)];
  const network = table.network('four');
  for (let round = 0; round < 20_000; round++) {
    const frame = random.chance(20)
      ? random.bytes(random.between(0, 90))
      : random.mutate(random.pick(samples));
    const before = sumOf(drops());
    if (random.chance(2)) {
      frames.egress(...placed(frame));
      const out = bus.pushed.length + siblings.sent.length;
      if (out === 0 && sumOf(drops()) !== before + 1) {
        t.fail(`neither sent nor counted: ${Buffer.from(frame).toString('hex')}`);
        break;
      }
      if (link.sent.length > 0) t.fail('an egress frame came back');
    } else {
      frames.ingress(network, random.pick([BB, CC, 'local', nodeId(String(round))]), ...placed(frame));
      const got = link.sent.length + siblings.sent.length;
      if (got === 0 && sumOf(drops()) !== before + 1) {
        t.fail(`neither taken nor counted: ${Buffer.from(frame).toString('hex')}`);
        break;
      }
      if (bus.pushed.length > 0) t.fail('an ingress frame was sent on');
    }
    bus.pushed.length = link.sent.length = siblings.sent.length = 0;
  }
  t.ok(sumOf(drops()) > 1000);
});

function sumOf(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
