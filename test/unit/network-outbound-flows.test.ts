import t from 'tap';
import type { PublishedPort } from '../../host/network/types.ts';
import { TestFilter } from '../lib/outbound-filter.ts';
import { GATEWAY, GUEST, icmp, type TcpFields, tcp, udp } from '../lib/outbound-frames.ts';

const PUBLIC = '93.184.216.34';
const PUBLIC6 = '2606:4700::1111';
const outer = { from: GATEWAY.mac, to: GUEST.mac };
const SECOND = 1000;
const PUBLISHED: PublishedPort[] = [
  { protocol: 'tcp', hostPort: 8080, guestPort: 80 },
  { protocol: 'udp', hostPort: 8053, guestPort: 53 },
];

/** Segments of one connection of the guest, from either side. */
function connection(filter: TestFilter, { remote = PUBLIC, port = 40_000, to = 443 } = {}) {
  const guest = remote.includes(':') ? GUEST.ipv6 : GUEST.ipv4;
  return {
    out: (flags: string, fields: Partial<TcpFields> = {}) =>
      filter.out(tcp({ to: remote }, { from: port, to, flags, ...fields })),
    in: (flags: string, fields: Partial<TcpFields> = {}) =>
      filter.in(tcp({ from: remote, to: guest }, { from: to, to: port, flags, ...fields }, outer)),
  };
}

function established(filter: TestFilter, options?: Parameters<typeof connection>[1]) {
  const made = connection(filter, options);
  made.out('S');
  made.in('SA');
  made.out('A');
  return made;
}

t.test('a connection: only its own segments pass, both ways, IPv4 and IPv6', (t) => {
  for (const remote of [PUBLIC, PUBLIC6]) {
    const filter = new TestFilter();
    const { out, in: into } = connection(filter, { remote });
    t.equal(into('SA'), 'dropped: no-flow');
    t.equal(out('S'), 'passed');
    t.equal(out('S'), 'passed', 'again');
    t.equal(into('SA'), 'passed');
    t.equal(out('PA', { data: Buffer.from('x') }), 'passed');
    t.equal(into('PA', { data: Buffer.from('x') }), 'passed');
    t.equal(connection(filter, { remote, port: 40_001 }).in('A'), 'dropped: no-flow', 'another port');
    t.equal(connection(filter, { remote, to: 444 }).in('A'), 'dropped: no-flow', 'another port there');
    const other = remote === PUBLIC ? '93.184.216.35' : '2606:4700::1112';
    t.equal(connection(filter, { remote: other }).in('A'), 'dropped: no-flow', 'another address');
    t.equal(connection(filter, { remote: other }).out('A'), 'dropped: no-flow');
    t.equal(filter.filter.flows(filter.now), 1);
  }
  t.end();
});

t.test("a flow belongs to one of the guest's addresses", (t) => {
  const filter = new TestFilter();
  const { in: into } = established(filter, { remote: PUBLIC6 });
  const other = tcp({ from: PUBLIC6, to: GUEST.linkLocal }, { from: 443, to: 40_000, flags: 'A' }, outer);
  t.equal(into('A'), 'passed');
  t.equal(filter.in(other), 'dropped: no-flow');
  t.end();
});

t.test('half-closed, whichever side ends first; then over', (t) => {
  for (const first of ['guest', 'remote']) {
    const filter = new TestFilter();
    const { out, in: into } = established(filter);
    if (first === 'guest') out('FA');
    else into('FA');
    for (let minute = 0; minute < 180; minute++) {
      filter.pass(60 * SECOND);
      t.equal(
        first === 'guest' ? into('A', { data: Buffer.from('x') }) : out('A', { data: Buffer.from('x') }),
        'passed',
      );
      t.equal(first === 'guest' ? out('A') : into('A'), 'passed');
    }
    t.equal(first === 'guest' ? into('FA') : out('FA'), 'passed');
    filter.pass(29 * SECOND);
    t.equal(out('A'), 'passed', 'the last acknowledgement, again');
    filter.pass(30 * SECOND);
    t.equal(into('A'), 'dropped: no-flow');
    t.same(filter.answers(), [], 'it ended by itself');
  }
  t.end();
});

t.test('reset: what is on its way still passes, for ten seconds', (t) => {
  for (const side of ['out', 'in'] as const) {
    const filter = new TestFilter();
    const made = established(filter);
    made[side]('R');
    t.equal(made.out('A'), 'passed');
    t.equal(made.in('A'), 'passed');
    filter.pass(10 * SECOND);
    t.equal(made.out('A'), 'dropped: no-flow');
    t.equal(made.in('A'), 'dropped: no-flow');
    t.equal(made.out('S'), 'passed', 'the ports may be used again');
  }
  t.end();
});

t.test('time-outs', (t) => {
  const cases: [what: string, milliseconds: number, begin: (filter: TestFilter) => () => string][] = [
    [
      'a first segment',
      130 * SECOND,
      (filter) => {
        const { out, in: into } = connection(filter);
        out('S');
        return () => into('SA');
      },
    ],
    ['established', 7440 * SECOND, (filter) => established(filter).in.bind(null, 'A')],
    [
      'half-closed',
      3600 * SECOND,
      (filter) => {
        const { out, in: into } = established(filter);
        out('FA');
        return () => into('A');
      },
    ],
    [
      'a datagram',
      60 * SECOND,
      (filter) => {
        filter.out(udp({ to: PUBLIC }, { to: 443 }));
        return () => filter.in(udp({ from: PUBLIC, to: GUEST.ipv4 }, { from: 443, to: 50_000 }, outer));
      },
    ],
    [
      'an exchange',
      300 * SECOND,
      (filter) => {
        filter.out(udp({ to: PUBLIC }, { to: 443 }));
        const back = udp({ from: PUBLIC, to: GUEST.ipv4 }, { from: 443, to: 50_000 }, outer);
        filter.in(back);
        return () => filter.in(back);
      },
    ],
    [
      'an echo',
      60 * SECOND,
      (filter) => {
        filter.out(icmp({ to: PUBLIC }));
        return () => filter.in(icmp({ from: PUBLIC, to: GUEST.ipv4 }, { type: 0 }, outer));
      },
    ],
  ];
  for (const [what, milliseconds, begin] of cases) {
    const filter = new TestFilter();
    let last = begin(filter);
    filter.pass(milliseconds - 1);
    t.equal(last(), 'passed', `${what}: just in time`);
    const late = new TestFilter();
    last = begin(late);
    late.pass(milliseconds);
    t.equal(last(), 'dropped: no-flow', what);
    t.equal(late.filter.flows(late.now), 0);
  }
  t.end();
});

t.test('a connection that is over because nothing passed ends for both sides', (t) => {
  const filter = new TestFilter();
  const { out, in: into } = established(filter);
  out('PA', { sequence: 1001, acknowledgement: 5001, data: Buffer.from('four') });
  into('A');
  filter.pass(7440 * SECOND);
  t.equal(filter.filter.flows(filter.now), 0);
  t.match(filter.answers(), [{ sound: true, ports: [443, 40_000], flags: 'R', sequence: 5001 }]);
  t.match(filter.toUpstream, [
    { sound: true, ports: [40_000, 443], flags: 'RA', sequence: 1005, acknowledgement: 5001 },
  ]);
  t.end();
});

t.test('echoes: by address and id', (t) => {
  for (const [remote, guest, reply] of [
    [PUBLIC, GUEST.ipv4, 0],
    [PUBLIC6, GUEST.ipv6, 129],
  ] as const) {
    const filter = new TestFilter();
    t.equal(filter.out(icmp({ to: remote }, { id: 7 })), 'passed');
    t.equal(filter.in(icmp({ from: remote, to: guest }, { type: reply, id: 7 }, outer)), 'passed');
    t.equal(filter.in(icmp({ from: remote, to: guest }, { type: reply, id: 8 }, outer)), 'dropped: no-flow');
    t.equal(filter.in(icmp({ from: remote, to: guest }, { type: 8, id: 7 }, outer)), 'dropped: icmp');
  }
  const listed = new TestFilter({ urls: [`http://${PUBLIC}`] });
  t.equal(listed.out(icmp({ to: PUBLIC })), 'passed');
  t.equal(listed.out(icmp({ to: '93.184.216.35' })), 'refused: not-listed');
  t.end();
});

t.test('errors that quote a flow pass, others do not', (t) => {
  for (const [remote, guest, types] of [
    [PUBLIC, GUEST.ipv4, [3, 11, 12]],
    [PUBLIC6, GUEST.ipv6, [1, 2, 3, 4]],
  ] as const) {
    const filter = new TestFilter();
    const router = remote === PUBLIC ? '9.9.9.1' : '2a00::1';
    const sent = [tcp({ to: remote }, { to: 443 }), udp({ to: remote }, { to: 443 }), icmp({ to: remote })];
    for (const frame of sent) filter.out(frame);
    for (const frame of sent) {
      const quote = frame.subarray(14, 14 + (remote === PUBLIC ? 28 : 48));
      for (const type of types) {
        t.equal(filter.in(icmp({ from: router, to: guest }, { type, data: quote }, outer)), 'passed');
      }
      t.equal(
        filter.in(icmp({ from: router, to: guest }, { type: types[0], data: quote.subarray(0, -1) }, outer)),
        'dropped: icmp',
      );
      const other = Buffer.from(quote);
      other[other.length - 6] = 9;
      other[other.length - 5] = 9;
      other[other.length - 4] = 9;
      t.equal(
        filter.in(icmp({ from: router, to: guest }, { type: types[0], data: other }, outer)),
        'dropped: icmp',
      );
    }
    const foreign = tcp(
      { to: remote, from: remote === PUBLIC ? '10.42.42.9' : 'fd42:42:42::9' },
      { to: 443 },
    );
    t.equal(
      filter.in(icmp({ from: router, to: guest }, { type: types[0], data: foreign.subarray(14) }, outer)),
      'dropped: icmp',
    );
    t.equal(
      filter.in(icmp({ from: router, to: guest }, { type: types[0], data: Buffer.alloc(60) }, outer)),
      'dropped: icmp',
    );
  }
  t.end();
});

t.test('published ports: connections from outside, and their answers, whatever the rules', (t) => {
  for (const [remote, guest] of [
    [PUBLIC, GUEST.ipv4],
    [GATEWAY.ipv4, GUEST.ipv4],
    ['192.168.1.5', GUEST.ipv4],
    [PUBLIC6, GUEST.ipv6],
    ['fe80::1', GUEST.linkLocal],
  ] as const) {
    const filter = new TestFilter({ urls: [], published: PUBLISHED });
    const into = (flags: string, to = 80) =>
      filter.in(tcp({ from: remote, to: guest }, { from: 999, to, flags }, outer));
    const out = (flags: string) => filter.out(tcp({ from: guest, to: remote }, { from: 80, to: 999, flags }));
    t.equal(out('SA'), 'dropped: no-flow');
    t.equal(into('A'), 'dropped: no-flow');
    t.equal(into('S', 81), 'dropped: no-flow');
    t.equal(into('S'), 'passed', remote);
    t.equal(out('SA'), 'passed');
    t.equal(into('A'), 'passed');
    t.equal(out('PA'), 'passed');
    t.match(
      filter.out(tcp({ from: guest, to: remote }, { from: 80, to: 999 })),
      /^refused/,
      'no way to begin one',
    );
    t.match(filter.out(tcp({ from: guest, to: remote }, { from: 81, to: 999 })), /^refused/);
    const datagram = udp({ from: remote, to: guest }, { from: 999, to: 53 }, outer);
    const reply = udp({ from: guest, to: remote }, { from: 53, to: 999 });
    t.match(filter.out(reply), /^refused/);
    t.equal(filter.in(datagram), 'passed');
    t.equal(filter.out(reply), 'passed');
    t.equal(filter.in(udp({ from: remote, to: guest }, { from: 999, to: 80 }, outer)), 'dropped: no-flow');
  }
  t.end();
});

t.test(
  'tables are bounded: what is ending goes first, then what nobody uses; else new ones are refused',
  (t) => {
    const filter = new TestFilter();
    const at = (index: number) => ({ remote: `93.184.${index >> 8}.${index & 255}`, port: 30_000 });
    for (let index = 0; index < 8192; index++) established(filter, at(index));
    t.equal(filter.filter.flows(filter.now), 8192);
    t.equal(connection(filter, at(9000)).out('S'), 'refused: too-many');
    t.match(filter.answers().at(-1), { flags: 'RA' });

    const ended = established(filter, at(4000));
    ended.out('FA');
    ended.in('FA');
    t.equal(connection(filter, at(9000)).out('S'), 'passed');
    t.equal(ended.in('A'), 'dropped: no-flow', 'the one that was ending made room');
    t.same(filter.answers(), []);

    filter.pass(60 * SECOND);
    for (let index = 1; index < 4000; index++) connection(filter, at(index)).in('A');
    t.equal(connection(filter, at(9001)).out('S'), 'passed');
    t.equal(
      connection(filter, at(0)).in('A'),
      'dropped: no-flow',
      'the one that was idle for the longest time',
    );
    t.match(filter.answers(), [{ from: '93.184.0.0', flags: 'R' }], 'and was told so');
    t.equal(connection(filter, at(1)).in('A'), 'passed');

    for (let index = 0; index < 5000; index++)
      filter.out(udp({ to: `93.1.${index >> 8}.${index & 255}` }, { to: 9 }));
    t.equal(filter.filter.flows(filter.now), 8192 + 4096);
    t.equal(
      filter.in(udp({ from: '93.1.0.0', to: GUEST.ipv4 }, { from: 9, to: 50_000 }, outer)),
      'dropped: no-flow',
    );
    t.equal(
      filter.in(udp({ from: '93.1.19.135', to: GUEST.ipv4 }, { from: 9, to: 50_000 }, outer)),
      'passed',
    );
    t.end();
  },
);

t.test(
  'a way out that goes, and comes back: connections end, new ones are refused at once until then',
  (t) => {
    const filter = new TestFilter({ published: PUBLISHED });
    const one = established(filter, { port: 1 });
    one.out('PA', { sequence: 1001, acknowledgement: 7001, data: Buffer.from('x') });
    connection(filter, { port: 2 }).out('S', { sequence: 5000 });
    filter.in(tcp({ from: PUBLIC, to: GUEST.ipv4 }, { from: 999, to: 80, sequence: 100 }, outer));
    established(filter, { port: 3, remote: PUBLIC6 }).in('R');
    filter.out(udp({ to: PUBLIC }, { to: 9 }));
    filter.filter.setWayOut(false);
    const resets = filter.answers();
    t.equal(resets.length, 3, 'one is over already');
    t.ok(resets.every(({ sound, macs }) => sound && macs === `${GATEWAY.mac} > ${GUEST.mac}`));
    const by = (port: number) => resets.find(({ ports }) => ports[1] === port);
    t.match(
      by(1),
      { from: PUBLIC, to: GUEST.ipv4, flags: 'R', sequence: 7001 },
      'what the guest acknowledged last',
    );
    t.match(by(2), { flags: 'RA', sequence: 0, acknowledgement: 5001 }, 'a first segment is acknowledged');
    t.match(by(80), { from: PUBLIC, flags: 'R', sequence: 101 });
    t.equal(filter.filter.flows(filter.now), 0);
    t.equal(one.out('A'), 'dropped: no-flow');
    t.equal(one.out('S'), 'refused: no-way-out');
    t.equal(filter.out(udp({ to: PUBLIC }, { to: 9 })), 'refused: no-way-out');
    t.equal(filter.out(icmp({ to: PUBLIC })), 'refused: no-way-out');
    t.equal(filter.answers().length, 4);
    filter.filter.setWayOut(true);
    t.equal(one.out('S'), 'passed');
    t.end();
  },
);

t.test('a frame after one of the same connection is judged as any other', (t) => {
  for (const remote of [PUBLIC, PUBLIC6]) {
    const guest = remote === PUBLIC ? GUEST.ipv4 : GUEST.ipv6;
    const begin = () => {
      const filter = new TestFilter();
      return {
        filter,
        one: established(filter, { remote }),
        other: established(filter, { remote, port: 40_001 }),
      };
    };
    const [known, unknown] = [begin(), begin()];
    const frames = {
      out: tcp({ to: remote }, { from: 40_000, to: 443, flags: 'A' }),
      in: tcp({ from: remote, to: guest }, { from: 443, to: 40_000, flags: 'A' }, outer),
    };
    for (const direction of ['out', 'in'] as const) {
      const frame = frames[direction];
      for (let bit = 0; bit < 8 * frame.length; bit++) {
        // Flags that end the connection would end the test.
        if (bit >> 3 === frame.length - 7) continue;
        const changed = Buffer.from(frame);
        changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7));
        known.one[direction]('A');
        unknown.other[direction]('A');
        t.equal(
          known.filter[direction](changed),
          unknown.filter[direction](changed),
          `${direction}, bit ${bit}`,
        );
      }
    }
  }
  t.end();
});

t.test("a refusal as Debian 12's passt writes it reaches the guest in a form that it takes", (t) => {
  const filter = new TestFilter();
  const { out, in: into } = connection(filter);
  out('S', { sequence: 7000 });
  t.equal(into('R'), 'dropped: replaced');
  t.match(filter.answers(), [
    { sound: true, from: PUBLIC, ports: [443, 40_000], flags: 'RA', acknowledgement: 7001 },
  ]);
  t.equal(established(new TestFilter()).in('R'), 'passed');
  t.end();
});
