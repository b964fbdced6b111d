import t from 'tap';
import { TestFilter } from '../lib/outbound-filter.ts';
import {
  addressBytes,
  arp,
  ethernet,
  GATEWAY,
  GUEST,
  icmp,
  ip,
  macBytes,
  tcp,
  u16,
  u32,
  udp,
} from '../lib/outbound-frames.ts';

const PUBLIC = '93.184.216.34';
const PUBLIC6 = '2606:4700::1111';
const good = tcp({ to: PUBLIC }, { to: 443 });
const good6 = tcp({ to: PUBLIC6 }, { to: 443 });
const header = (bytes: number[], payload: Uint8Array) => Buffer.concat([Buffer.from(bytes), payload]);
const segment = good.subarray(34);
const segment6 = good6.subarray(54);

/** The frame with bytes changed. */
function patched(frame: Uint8Array, at: number, ...bytes: number[]): Buffer {
  const copy = Buffer.from(frame);
  copy.set(bytes, at);
  return copy;
}

function tagged(frame: Uint8Array, ...types: number[]): Buffer {
  const tags = types.map((type) => Buffer.concat([u16(type), u16(5)]));
  return Buffer.concat([frame.subarray(0, 12), ...tags, frame.subarray(12)]);
}

/** A neighbour solicitation or advertisement. */
function discovery(
  type: number,
  target: string,
  options: { from?: string; to?: string; mac?: string; hops?: number },
) {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), u32(0), addressBytes(target)]);
  const fields = { to: options.to ?? 'ff02::1:ff00:1', protocol: 58, hops: options.hops ?? 255 };
  const packet = ip(message, options.from === undefined ? fields : { ...fields, from: options.from });
  return ethernet(packet, { to: options.mac ?? '33:33:ff:00:00:01' });
}

/** Frames that were made to get out, and what becomes of each. */
const CRAFTED: readonly [what: string, frame: Uint8Array, fate: string][] = [
  ['nothing', new Uint8Array(), 'dropped: short'],
  ['half a header', good.subarray(0, 13), 'dropped: short'],
  ['a VLAN tag', tagged(good, 0x8100), 'dropped: vlan'],
  ['two VLAN tags', tagged(good, 0x88a8, 0x8100), 'dropped: vlan'],
  ['two VLAN tags, the old type', tagged(good, 0x9100, 0x8100), 'dropped: vlan'],
  ['PPPoE', patched(good, 12, 0x88, 0x64), 'dropped: not-ip'],
  ['MPLS', patched(good, 12, 0x88, 0x47), 'dropped: not-ip'],
  ['802.3 with a length', patched(good, 12, 0, 40), 'dropped: not-ip'],
  ['an IPv6 packet called IPv4', patched(good6, 12, 8, 0), 'dropped: malformed'],
  ['an IPv4 packet called IPv6', patched(good, 12, 0x86, 0xdd), 'dropped: malformed'],
  ["another's MAC", tcp({ to: PUBLIC }, { to: 443 }, { from: '90:13:0a:2a:2a:03' }), 'dropped: source-mac'],
  ["the gateway's MAC", tcp({ to: PUBLIC }, { to: 443 }, { from: GATEWAY.mac }), 'dropped: source-mac'],
  [
    'to another MAC',
    tcp({ to: PUBLIC }, { to: 443 }, { to: 'a0:13:0a:2a:2a:09' }),
    'dropped: destination-mac',
  ],
  ['to all', tcp({ to: PUBLIC }, { to: 443 }, { to: 'ff:ff:ff:ff:ff:ff' }), 'dropped: group'],
  ["another's address", tcp({ to: PUBLIC, from: '10.42.42.3' }, { to: 443 }), 'dropped: source-address'],
  ["the gateway's address", tcp({ to: PUBLIC, from: GATEWAY.ipv4 }, { to: 443 }), 'dropped: source-address'],
  ['no address', udp({ to: PUBLIC, from: '0.0.0.0' }, { to: 443 }), 'dropped: source-address'],
  ['a public source', udp({ to: PUBLIC, from: '1.1.1.1' }, { to: 443 }), 'dropped: source-address'],
  [
    "another's IPv6 address",
    tcp({ to: PUBLIC6, from: 'fd42:42:42::3' }, { to: 443 }),
    'dropped: source-address',
  ],
  ['a link-local one', tcp({ to: PUBLIC6, from: GUEST.linkLocal }, { to: 443 }), 'refused: link-local'],
  ["another's link-local one", tcp({ to: PUBLIC6, from: 'fe80::1' }, { to: 443 }), 'dropped: source-address'],
  ['IPv4 options', ethernet(ip(segment, { to: PUBLIC, options: Buffer.alloc(4, 1) })), 'dropped: options'],
  [
    'a source route',
    ethernet(ip(segment, { to: PUBLIC, options: Buffer.from([131, 7, 4, 10, 0, 0, 1, 0]) })),
    'dropped: options',
  ],
  ['a header of 16 bytes', patched(good, 14, 0x44), 'dropped: malformed'],
  ['version 5', patched(good, 14, 0x55), 'dropped: malformed'],
  ['the first of fragments', ethernet(ip(segment, { to: PUBLIC, fragment: 0x2000 })), 'dropped: fragment'],
  ['a later fragment', ethernet(ip(segment, { to: PUBLIC, fragment: 0x2003 })), 'dropped: fragment'],
  ['the last fragment', ethernet(ip(segment, { to: PUBLIC, fragment: 0x0100 })), 'dropped: fragment'],
  ['the evil bit', ethernet(ip(segment, { to: PUBLIC, fragment: 0x8000 })), 'dropped: fragment'],
  ['more than there is', ethernet(ip(segment, { to: PUBLIC, length: 41 })), 'dropped: malformed'],
  ['less than there is', ethernet(ip(Buffer.alloc(400), { to: PUBLIC, length: 40 })), 'dropped: malformed'],
  ['less than a header', ethernet(ip(segment, { to: PUBLIC, length: 19 })), 'dropped: malformed'],
  ['half an IPv4 header', ethernet(ip(segment, { to: PUBLIC }).subarray(0, 19)), 'dropped: short'],
  ['half a TCP header', ethernet(ip(segment.subarray(0, 19), { to: PUBLIC })), 'dropped: short'],
  ['a TCP header beyond the end', tcp({ to: PUBLIC }, { to: 443, offset: 6 }), 'dropped: malformed'],
  ['a TCP header of 16 bytes', tcp({ to: PUBLIC }, { to: 443, offset: 4 }), 'dropped: malformed'],
  ['half a UDP header', ethernet(ip(segment.subarray(0, 7), { to: PUBLIC, protocol: 17 })), 'dropped: short'],
  ['UDP that says more', udp({ to: PUBLIC }, { to: 443, length: 13 }), 'dropped: malformed'],
  ['UDP that says less', udp({ to: PUBLIC }, { to: 443, length: 11 }), 'dropped: malformed'],
  [
    'half an ICMP header',
    ethernet(ip(Buffer.from([8, 0, 0, 0]), { to: PUBLIC, protocol: 1 })),
    'dropped: short',
  ],
  ['IPv6: more than there is', ethernet(ip(segment6, { to: PUBLIC6, length: 21 })), 'dropped: malformed'],
  ['IPv6: less than there is', ethernet(ip(segment6, { to: PUBLIC6, length: 19 })), 'dropped: malformed'],
  ['IPv6: a jumbogram', ethernet(ip(segment6, { to: PUBLIC6, length: 0 })), 'dropped: malformed'],
  ['half an IPv6 header', ethernet(ip(segment6, { to: PUBLIC6 }).subarray(0, 39)), 'dropped: short'],
  ...[0, 43, 50, 51, 60, 135, 139, 140, 253, 254].map((next): [string, Uint8Array, string] => [
    `IPv6: header ${next}`,
    ethernet(ip(header([6, 0, 0, 0, 0, 0, 0, 0], segment6), { to: PUBLIC6, protocol: next })),
    'dropped: options',
  ]),
  [
    'IPv6: the first of fragments',
    ethernet(ip(header([6, 0, 0, 1, 0, 0, 0, 9], segment6), { to: PUBLIC6, protocol: 44 })),
    'dropped: fragment',
  ],
  [
    'IPv6: a later fragment',
    ethernet(ip(header([6, 0, 0, 9, 0, 0, 0, 9], segment6), { to: PUBLIC6, protocol: 44 })),
    'dropped: fragment',
  ],
  ['IPv6 in IPv4', ethernet(ip(good6.subarray(14), { to: PUBLIC, protocol: 41 })), 'refused: protocol'],
  ['IPv4 in IPv4', ethernet(ip(good.subarray(14), { to: PUBLIC, protocol: 4 })), 'refused: protocol'],
  ['GRE', ethernet(ip(Buffer.alloc(40), { to: PUBLIC, protocol: 47 })), 'refused: protocol'],
  ['SCTP', ethernet(ip(Buffer.alloc(40), { to: PUBLIC, protocol: 132 })), 'refused: protocol'],
  ['ICMPv6 in IPv4', ethernet(ip(Buffer.alloc(40, 128), { to: PUBLIC, protocol: 58 })), 'refused: protocol'],
  ['no next header', ethernet(ip(new Uint8Array(), { to: PUBLIC6, protocol: 59 })), 'refused: protocol'],
  [
    'DHCP',
    udp({ to: '255.255.255.255', from: '0.0.0.0' }, { from: 68, to: 67 }, { to: 'ff:ff:ff:ff:ff:ff' }),
    'dropped: group',
  ],
  ['DHCP to the gateway', udp({ to: GATEWAY.ipv4 }, { from: 68, to: 67 }), 'refused: gateway'],
  [
    'mDNS',
    udp({ to: '224.0.0.251' }, { from: 5353, to: 5353 }, { to: '01:00:5e:00:00:fb' }),
    'dropped: group',
  ],
  ["multicast to the gateway's MAC", udp({ to: '224.0.0.251' }, { to: 5353 }), 'refused: multicast'],
  ['ARP for another', arp({ target: '10.42.42.9' }), 'dropped: arp'],
  ['ARP with another sender', arp({ sender: '10.42.42.9' }), 'dropped: arp'],
  ["ARP with another sender's MAC", arp({ senderMac: '90:13:0a:2a:2a:03' }), 'dropped: arp'],
  ['ARP with an operation of its own', arp({ operation: 3 }), 'dropped: arp'],
  ['ARP that announces', arp({ target: GUEST.ipv4 }), 'dropped: arp'],
  ['ARP cut short', arp({}).subarray(0, 41), 'dropped: arp'],
  [
    'a router solicitation',
    discovery(133, '::', { mac: '33:33:00:00:00:02', to: 'ff02::2' }),
    'dropped: ndp',
  ],
  [
    'a router advertisement',
    discovery(134, '::', { mac: '33:33:00:00:00:01', to: 'ff02::1' }),
    'dropped: ndp',
  ],
  ['a redirect', discovery(137, PUBLIC6, { mac: GATEWAY.mac, to: GATEWAY.ipv6 }), 'dropped: ndp'],
  [
    'a solicitation for another',
    discovery(135, 'fd42:42:42::9', { mac: '33:33:ff:00:00:09' }),
    'dropped: ndp',
  ],
  [
    'a solicitation to another MAC',
    discovery(135, GATEWAY.ipv6, { mac: '33:33:ff:00:00:09' }),
    'dropped: ndp',
  ],
  ['a solicitation from afar', discovery(135, GATEWAY.ipv6, { hops: 64 }), 'dropped: ndp'],
  ['a solicitation without sender', discovery(135, GUEST.ipv6, { from: '::' }), 'dropped: ndp'],
  [
    "an advertisement of another's",
    discovery(136, 'fd42:42:42::9', { mac: GATEWAY.mac, to: GATEWAY.ipv6 }),
    'dropped: ndp',
  ],
  [
    'a listener report',
    ethernet(
      ip(header([58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0], Buffer.alloc(4)), { to: 'ff02::16', protocol: 0 }),
      {
        to: '33:33:00:00:00:16',
      },
    ),
    'dropped: options',
  ],
  ['a timestamp request', icmp({ to: PUBLIC }, { type: 13 }), 'dropped: icmp'],
  ['an echo with a code', icmp({ to: PUBLIC }, { code: 1 }), 'dropped: icmp'],
  ['an echo reply', icmp({ to: PUBLIC }, { type: 0 }), 'dropped: icmp'],
  ['a redirect of IPv4', icmp({ to: PUBLIC }, { type: 5 }), 'dropped: icmp'],
  ['no flags', tcp({ to: PUBLIC }, { to: 443, flags: '' }), 'dropped: tcp-flags'],
  ['SYN and FIN', tcp({ to: PUBLIC }, { to: 443, flags: 'SF' }), 'dropped: tcp-flags'],
  ['SYN and RST', tcp({ to: PUBLIC }, { to: 443, flags: 'SR' }), 'dropped: tcp-flags'],
  ['FIN alone', tcp({ to: PUBLIC }, { to: 443, flags: 'F' }), 'dropped: tcp-flags'],
  ['all flags', tcp({ to: PUBLIC }, { to: 443, flags: 'FSRPAU' }), 'dropped: tcp-flags'],
  [
    'data with the first segment',
    tcp({ to: PUBLIC }, { to: 443, data: Buffer.from('x') }),
    'dropped: tcp-flags',
  ],
  ['a segment of no connection', tcp({ to: PUBLIC }, { to: 443, flags: 'A' }), 'dropped: no-flow'],
  ['an answer to nobody', tcp({ to: PUBLIC }, { to: 443, flags: 'SA' }), 'dropped: no-flow'],
  ['a reset of no connection', tcp({ to: PUBLIC }, { to: 443, flags: 'R' }), 'dropped: no-flow'],
];

t.test('crafted frames: every one is stopped, and counted', (t) => {
  const filter = new TestFilter();
  for (const [what, frame, fate] of CRAFTED) t.equal(filter.out(frame), fate, what);
  t.equal(filter.filter.drops.total + filter.refusals.total, CRAFTED.length);
  t.equal(filter.filter.flows(filter.now), 0);
  // Somewhere in a buffer, as frames of a batch are.
  for (const [what, frame] of CRAFTED) {
    const buffer = Buffer.concat([Buffer.alloc(9, 0x45), frame, Buffer.alloc(99, 0x45)]);
    t.equal(filter.filter.egress(buffer, 9, frame.length, filter.now), false, what);
  }
  t.equal(filter.filter.drops.total + filter.refusals.total, 2 * CRAFTED.length);
  t.end();
});

t.test('DNS to a server of its own choice: by name lists refused, over UDP, TCP and TLS', (t) => {
  const filter = new TestFilter({ urls: ['https://listed.example', 'udp://9.9.9.9:53'] });
  for (const server of ['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111']) {
    t.equal(filter.out(udp({ to: server }, { to: 53 })), 'refused: not-listed');
    t.equal(filter.out(tcp({ to: server }, { to: 53 })), 'refused: not-listed');
    t.equal(filter.out(tcp({ to: server }, { to: 853 })), 'refused: not-listed');
    t.equal(filter.out(udp({ to: server }, { to: 853 })), 'refused: not-listed');
  }
  t.equal(filter.out(udp({ to: '9.9.9.9' }, { to: 53 })), 'passed', 'a rule has it');
  t.equal(filter.out(tcp({ to: GATEWAY.ipv4 }, { to: 853 })), 'refused: gateway');
  t.equal(filter.out(udp({ to: GATEWAY.ipv4 }, { to: 54 })), 'refused: gateway');
  t.equal(
    filter.out(udp({ to: PUBLIC }, { from: 53, to: 4000 })),
    'refused: not-listed',
    'a port of its own is no right',
  );
  t.end();
});

t.test('what a guest needs of its gateway passes, both ways', (t) => {
  const filter = new TestFilter();
  t.equal(filter.out(arp({})), 'passed');
  t.equal(filter.out(arp({}, { to: GATEWAY.mac })), 'passed', 'asked again');
  t.equal(filter.out(arp({ operation: 2 }, { to: GATEWAY.mac })), 'passed');
  t.equal(filter.out(Buffer.concat([arp({}), Buffer.alloc(18)])), 'passed', 'padded');
  t.equal(filter.out(discovery(135, GATEWAY.ipv6, {})), 'passed');
  t.equal(filter.out(discovery(135, GATEWAY.ipv6, { from: GUEST.linkLocal })), 'passed');
  t.equal(filter.out(discovery(135, GATEWAY.ipv6, { to: GATEWAY.ipv6, mac: GATEWAY.mac })), 'passed');
  t.equal(filter.out(discovery(136, GUEST.ipv6, { to: GATEWAY.ipv6, mac: GATEWAY.mac })), 'passed');
  const answer = { operation: 2, senderMac: GATEWAY.mac, sender: GATEWAY.ipv4, target: GUEST.ipv4 };
  t.equal(filter.in(arp(answer, { from: GATEWAY.mac, to: GUEST.mac })), 'passed');
  t.equal(filter.in(arp({ ...answer, operation: 1 }, { from: GATEWAY.mac })), 'passed');
  t.equal(filter.in(arp({ ...answer, sender: '10.42.42.9' }, { from: GATEWAY.mac })), 'dropped: arp');
  t.equal(filter.in(arp({ ...answer, target: '10.42.42.9' }, { from: GATEWAY.mac })), 'dropped: arp');
  const from = { from: GATEWAY.ipv6, mac: GUEST.mac, to: GUEST.ipv6 };
  t.equal(filter.in(discovery(136, GATEWAY.ipv6, from)), 'passed');
  t.equal(filter.in(discovery(135, GUEST.ipv6, from)), 'passed');
  t.equal(filter.in(discovery(135, 'fd42:42:42::9', from)), 'dropped: ndp');
  t.equal(
    filter.in(discovery(134, '::', { ...from, to: 'ff02::1' })),
    'dropped: ndp',
    'routes are given otherwise',
  );
  t.equal(filter.in(discovery(137, GUEST.ipv6, from)), 'dropped: ndp');
  t.end();
});

t.test('a gateway whose MAC is another says so first', (t) => {
  const filter = new TestFilter();
  const mac = '52:55:0a:2a:2a:01';
  const frame = tcp({ to: PUBLIC }, { to: 443 }, { to: mac });
  t.equal(filter.out(frame), 'dropped: destination-mac');
  const answer = { operation: 2, senderMac: mac, sender: GATEWAY.ipv4, target: GUEST.ipv4 };
  filter.in(arp(answer, { from: mac, to: GUEST.mac }));
  t.equal(filter.out(frame), 'passed');
  for (let last = 0; last < 100; last++) {
    const other = `52:55:0a:2a:2b:${last.toString(16).padStart(2, '0')}`;
    filter.in(arp({ ...answer, senderMac: other }, { from: other, to: GUEST.mac }));
  }
  t.equal(
    filter.out(tcp({ to: PUBLIC }, { to: 443 }, { to: '52:55:0a:2a:2b:63' })),
    'dropped: destination-mac',
  );
  t.end();
});

t.test('a refused TCP connection is reset at once, with the numbers that the guest takes', (t) => {
  for (const to of ['10.0.0.1', 'fd00::1']) {
    const filter = new TestFilter();
    filter.out(tcp({ to }, { from: 40_001, to: 443, sequence: 0xffffffff, flags: 'SEC' }));
    filter.out(
      tcp(
        { to },
        {
          from: 40_002,
          to: 443,
          sequence: 5,
          acknowledgement: 0xfffffff0,
          flags: 'PA',
          data: Buffer.alloc(9),
        },
      ),
    );
    const from = to.includes(':') ? GUEST.ipv6 : GUEST.ipv4;
    const [first, stray] = filter.answers();
    t.match(first, {
      sound: true,
      from: to,
      to: from,
      ports: [443, 40_001],
      flags: 'RA',
      sequence: 0,
      acknowledgement: 0,
    });
    t.match(first, { macs: `${GATEWAY.mac} > ${GUEST.mac}`, protocol: 6 });
    t.match(stray, {
      sound: true,
      ports: [443, 40_002],
      flags: 'R',
      sequence: 0xfffffff0,
      acknowledgement: 0,
    });
  }
  t.end();
});

t.test('other refused packets: prohibited, with the packet quoted', (t) => {
  const filter = new TestFilter();
  const data = Buffer.alloc(1000, 'x');
  for (const frame of [udp({ to: '10.0.0.1' }, { to: 9, data }), icmp({ to: '10.0.0.1' })]) {
    filter.out(frame);
    const [answer] = filter.answers();
    t.match(answer, { sound: true, from: GATEWAY.ipv4, to: GUEST.ipv4, protocol: 1, type: 3, code: 13 });
    const quoted = Math.min(128, frame.length - 14);
    t.same(answer!.data, frame.subarray(14, 14 + quoted));
  }
  for (const frame of [udp({ to: 'fd00::1' }, { to: 9, data }), icmp({ to: 'fd00::1' })]) {
    filter.out(frame);
    const [answer] = filter.answers();
    t.match(answer, { sound: true, from: GATEWAY.ipv6, to: GUEST.ipv6, protocol: 58, type: 1, code: 1 });
    t.same(answer!.data, frame.subarray(14, 14 + Math.min(128, frame.length - 14)));
  }
  filter.out(udp({ to: '239.1.1.1' }, { to: 9 }));
  filter.out(udp({ to: 'ff0e::1' }, { to: 9 }));
  t.same(filter.answers(), [], 'not about what goes to many');
  t.end();
});

t.test('answers have a rate, refusals are counted nevertheless, and the list is bounded', (t) => {
  const filter = new TestFilter();
  for (let round = 0; round < 3000; round++) {
    filter.out(tcp({ to: `10.0.${round >> 8}.${round & 255}` }, { to: 443 }));
  }
  t.equal(filter.answers().length, 2000);
  t.equal(filter.refusals.total, 3000);
  const { list } = filter.refusals;
  t.equal(list.length, 257);
  t.match(list[0], { destination: 'tcp 10.0.0.0:443', reason: 'private', count: 1 });
  t.match(list.at(-1), { destination: 'others', count: 3000 - 256 });
  filter.pass(500);
  for (let round = 0; round < 3000; round++) filter.out(tcp({ to: '10.0.0.0' }, { to: 443 }));
  t.equal(filter.answers().length, 1000);
  t.equal(filter.refusals.list[0]?.count, 3001);
  t.end();
});

t.test('without IPv6 outside it is refused, and IPv4 is not', (t) => {
  const filter = new TestFilter({ ipv6: false });
  t.equal(filter.out(good6), 'refused: no-ipv6');
  t.equal(filter.out(good), 'passed');
  t.end();
});

t.test('to the guest: nothing that it did not ask for', (t) => {
  const filter = new TestFilter();
  const back = { from: PUBLIC, to: GUEST.ipv4 };
  const outer = { from: GATEWAY.mac, to: GUEST.mac };
  t.equal(filter.in(tcp(back, { from: 443, to: 40_000, flags: 'SA' }, outer)), 'dropped: no-flow');
  t.equal(filter.in(tcp(back, { from: 443, to: 80 }, outer)), 'dropped: no-flow');
  t.equal(filter.in(udp(back, { from: 443, to: 50_000 }, outer)), 'dropped: no-flow');
  t.equal(filter.in(icmp(back, { type: 0 }, outer)), 'dropped: no-flow');
  t.equal(filter.in(icmp(back, {}, outer)), 'dropped: icmp');
  t.equal(filter.in(icmp(back, { type: 5, data: good.subarray(14) }, outer)), 'dropped: icmp');
  t.equal(
    filter.in(tcp({ ...back, to: '10.42.42.3' }, { from: 443, to: 80 }, outer)),
    'dropped: other-destination',
  );
  t.equal(filter.in(ethernet(ip(Buffer.alloc(40), { ...back, protocol: 47 }), outer)), 'dropped: no-flow');
  t.equal(filter.in(tagged(tcp(back, { from: 443, to: 80 }, outer), 0x8100)), 'dropped: vlan');
  t.equal(filter.in(ethernet(ip(segment, { ...back, fragment: 0x2000 }), outer)), 'dropped: fragment');
  t.equal(macBytes(GUEST.mac).length, 6);
  t.end();
});
