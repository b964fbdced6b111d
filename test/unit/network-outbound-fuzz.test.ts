import t from 'tap';
import { readAnswer, readQuery } from '../../host/network/frame/dns.ts';
import { answer, EDNS, framed, query } from '../lib/outbound-dns.ts';
import { TestFilter } from '../lib/outbound-filter.ts';
import { arp, GATEWAY, GUEST, icmp, tcp, udp } from '../lib/outbound-frames.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`YAVM_SEED=${random.seed}`);

const URLS = ['https://listed.example', 'http://93.184.216.34', 'udp://[2606:4700::1]:9'];
const outer = { from: GATEWAY.mac, to: GUEST.mac };
const good = answer('listed.example', [
  ['listed.example', 60, { cname: 'www.cdn.example' }],
  ['www.cdn.example', 60, { a: '93.184.216.35' }],
  ['www.cdn.example', 60, { a: '2606:4700::2' }],
]);
const ask = query('listed.example', { counts: [1, 0, 0, 1], tail: EDNS });

/** What a guest and its gateway say. */
const OUT = [
  tcp({ to: '93.184.216.34' }, { to: 80 }),
  tcp({ to: '93.184.216.34' }, { to: 80, flags: 'PA', data: Buffer.alloc(40) }),
  tcp({ to: '93.184.216.34' }, { to: 80, flags: 'FA' }),
  tcp({ to: '93.184.216.34' }, { to: 80, flags: 'R' }),
  tcp({ to: '2606:4700::2' }, { to: 443 }),
  tcp({ to: GATEWAY.ipv4 }, { from: 6000, to: 53, sequence: 99 }),
  tcp({ to: GATEWAY.ipv4 }, { from: 6000, to: 53, sequence: 100, flags: 'A', data: framed(ask) }),
  udp({ to: GATEWAY.ipv4 }, { to: 53, data: ask }),
  udp({ to: GATEWAY.ipv6 }, { to: 53, data: ask }),
  udp({ to: '2606:4700::1' }, { to: 9 }),
  udp({ to: '10.0.0.1' }, { to: 9 }),
  icmp({ to: '93.184.216.34' }),
  icmp({ to: '2606:4700::1' }),
  icmp({ to: 'ff02::1' }, { type: 135 }),
  arp({}),
];
const IN = [
  tcp({ from: '93.184.216.34', to: GUEST.ipv4 }, { from: 80, to: 40_000, flags: 'SA' }, outer),
  tcp({ from: '9.9.9.9', to: GUEST.ipv4 }, { from: 80, to: 22 }, outer),
  tcp(
    { from: GATEWAY.ipv4, to: GUEST.ipv4 },
    { from: 53, to: 6000, flags: 'SA', acknowledgement: 100 },
    outer,
  ),
  tcp(
    { from: GATEWAY.ipv4, to: GUEST.ipv4 },
    { from: 53, to: 6000, flags: 'A', sequence: 1001, data: framed(good) },
    outer,
  ),
  udp({ from: GATEWAY.ipv4, to: GUEST.ipv4 }, { from: 53, to: 50_000, data: good }, outer),
  icmp({ from: '93.184.216.34', to: GUEST.ipv4 }, { type: 0 }, outer),
  icmp({ from: '9.9.9.9', to: GUEST.ipv4 }, { type: 3, data: OUT[0]!.subarray(14) }, outer),
  icmp({ from: '2a00::1', to: GUEST.ipv6 }, { type: 2, data: OUT[9]!.subarray(14) }, outer),
  arp({ operation: 2, senderMac: GATEWAY.mac, sender: GATEWAY.ipv4, target: GUEST.ipv4 }, outer),
];

t.test(
  'frames changed at random: never an error; each is passed, or counted once; what is made is sound',
  (t) => {
    const fates = new Map<string, number>();
    for (let round = 0; round < count(100); round++) {
      const filter = new TestFilter({
        ...(random.chance(2) ? { urls: URLS } : {}),
        published: [{ protocol: 'tcp', hostPort: 2222, guestPort: 22 }],
      });
      for (let turn = 0; turn < 1000; turn++) {
        const outward = random.chance(2);
        const frame = random.pick(outward ? OUT : IN);
        // TestFilter throws when a frame is not counted once.
        const bytes = random.chance(4) ? frame : random.mutate(frame, 3);
        const fate = outward ? filter.out(bytes) : filter.in(bytes);
        fates.set(fate, (fates.get(fate) ?? 0) + 1);
        if (random.chance(50)) filter.pass(random.between(0, 200_000));
        if (random.chance(400)) filter.filter.setWayOut(random.chance(2));
      }
      const unsound = [...filter.toGuest, ...filter.toUpstream].filter(({ sound }) => !sound);
      if (unsound.length > 0) t.fail(`round ${round}: ${JSON.stringify(unsound[0])}`);
    }
    t.ok(fates.size > 20, [...fates].map(([fate, count]) => `${fate}: ${count}`).join(', '));
    t.end();
  },
);

t.test('no changed frame of the guest gets to where nothing may', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const inside = [
    tcp({ to: '10.0.0.1' }, { to: 80 }),
    udp({ to: 'fd00::1' }, { to: 80 }),
    icmp({ to: '127.0.0.1' }),
  ];
  let passed = 0;
  for (let round = 0; round < count(1_000_000); round++) {
    const frame = Buffer.from(random.pick(inside));
    // All but the address that it goes to.
    const address = frame[12] === 0x86 ? [38, 54] : [30, 34];
    for (let change = random.between(0, 6); change > 0; change--) {
      const at = random.between(0, frame.length);
      if (at < address[0]! || at >= address[1]!) frame[at] = random.next();
    }
    if (filter.out(frame) === 'passed') passed++;
  }
  t.equal(passed, 0);
  t.end();
});

t.test('DNS messages changed at random, and bytes that are none: read, or null', (t) => {
  let understood = 0;
  for (let round = 0; round < count(500_000); round++) {
    const bytes = random.chance(20)
      ? random.bytes(random.between(0, 200))
      : random.mutate(random.pick([good, ask]));
    const start = random.between(0, 4);
    const buffer = Buffer.concat([Buffer.alloc(start, 0xff), bytes, Buffer.alloc(8, 0xc0)]);
    for (const message of [readQuery(buffer, start, bytes.length), readAnswer(buffer, start, bytes.length)]) {
      if (message === null) continue;
      understood++;
      if (message.name.length > 4 * 255) t.fail(`a name of ${message.name.length} characters`);
      if ('records' in message && message.records.length > 256) t.fail('too many records');
    }
  }
  t.ok(understood > 0, `${understood} were understood`);
  t.end();
});
