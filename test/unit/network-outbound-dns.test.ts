import t from 'tap';
import { readAnswer, readName, readQuery } from '../../host/network/frame/dns.ts';
import {
  type Answer,
  answer,
  EDNS,
  type MessageFields,
  nameBytes,
  query,
  TYPE,
} from '../lib/outbound-dns.ts';
import { type Fate, TestFilter } from '../lib/outbound-filter.ts';
import { GATEWAY, GUEST, tcp, u16, udp } from '../lib/outbound-frames.ts';

const URLS = ['https://listed.example', 'http://other.example', 'udp://listed.example:5000'];
const ADDRESS = '93.184.216.34';
const SECOND = '93.184.216.35';
/** What the TTL is lengthened by, milliseconds. */
const GRACE = 10_000;

let port = 41_000;

/** A guest's first segment, from a port of its own. */
function begin(filter: TestFilter, to: string, remotePort = 443): Fate {
  return filter.out(tcp({ to }, { from: port++, to: remotePort }));
}

function ask(filter: TestFilter, message: Uint8Array, from = 5000, to = GATEWAY.ipv4): Fate {
  return filter.out(udp({ to }, { from, to: 53, data: message }));
}

function tell(filter: TestFilter, message: Uint8Array, to = 5000, from = GATEWAY.ipv4): Fate {
  const guest = from.includes(':') ? GUEST.ipv6 : GUEST.ipv4;
  return filter.in(
    udp({ from, to: guest }, { from: 53, to, data: message }, { from: GATEWAY.mac, to: GUEST.mac }),
  );
}

/** A question of the guest, and its answer. */
function resolve(filter: TestFilter, name: string, answers: Answer[], fields: MessageFields = {}): void {
  ask(filter, query(name, fields));
  tell(filter, answer(name, answers, fields));
}

t.test('a name of a rule: its addresses serve for their TTL, its ports and protocol', (t) => {
  const filter = new TestFilter({ urls: URLS });
  t.equal(begin(filter, ADDRESS), 'refused: not-listed');
  t.equal(ask(filter, query('Listed.EXAMPLE')), 'passed', 'in any case of letters');
  t.equal(begin(filter, ADDRESS), 'refused: not-listed', 'a question is no answer');
  t.equal(tell(filter, answer('listed.example', [['LISTED.example', 60, { a: ADDRESS }]])), 'passed');
  t.equal(begin(filter, ADDRESS), 'passed');
  t.equal(begin(filter, ADDRESS, 80), 'refused: not-listed', "another name's port");
  t.equal(filter.out(udp({ to: ADDRESS }, { to: 5000 })), 'passed');
  t.equal(filter.out(udp({ to: ADDRESS }, { to: 443 })), 'refused: not-listed');
  t.equal(begin(filter, SECOND), 'refused: not-listed');
  t.equal(filter.policy.resolved.count(filter.now), 1);

  const open = tcp({ to: ADDRESS }, { from: 40_100, to: 443, flags: 'A' });
  t.equal(filter.out(tcp({ to: ADDRESS }, { from: 40_100, to: 443 })), 'passed');
  filter.pass(60_000 + GRACE - 1);
  t.equal(begin(filter, ADDRESS), 'passed');
  filter.pass(1);
  t.equal(begin(filter, ADDRESS), 'refused: not-listed', 'the TTL is over');
  t.equal(filter.out(open), 'passed', 'a connection lives on');
  t.equal(filter.policy.resolved.count(filter.now), 0);
  t.match(filter.refusals.list.at(-1), { name: 'listed.example' }, 'its name is known nevertheless');
  t.end();
});

t.test('addresses that change: the new ones serve, and the old ones until their TTL', (t) => {
  const filter = new TestFilter({ urls: URLS });
  resolve(filter, 'listed.example', [['listed.example', 30, { a: ADDRESS }]]);
  filter.pass(20_000);
  resolve(filter, 'listed.example', [['listed.example', 30, { a: SECOND }]], { id: 2 });
  t.equal(begin(filter, ADDRESS), 'passed');
  t.equal(begin(filter, SECOND), 'passed');
  filter.pass(20_000);
  t.equal(begin(filter, ADDRESS), 'refused: not-listed');
  t.equal(begin(filter, SECOND), 'passed');
  resolve(filter, 'listed.example', [['listed.example', 0, { a: '93.184.216.36' }]], { id: 3 });
  t.equal(begin(filter, '93.184.216.36'), 'passed', 'a TTL of 0: for the connection that follows');
  filter.pass(GRACE);
  t.equal(begin(filter, '93.184.216.36'), 'refused: not-listed');
  t.end();
});

t.test('IPv6 addresses, and a resolver that is asked by IPv6', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const message = answer('listed.example', [['listed.example', 60, { a: '2606:4700::1' }]], {
    type: TYPE.AAAA,
  });
  t.equal(ask(filter, query('listed.example', { type: TYPE.AAAA }), 5000, GATEWAY.ipv6), 'passed');
  t.equal(tell(filter, message, 5000, GATEWAY.ipv6), 'passed');
  t.equal(begin(filter, '2606:4700::1'), 'passed');
  t.end();
});

t.test('a chain of other names: the least TTL counts, and its names may be asked for', (t) => {
  const filter = new TestFilter({ urls: URLS });
  t.equal(ask(filter, query('edge.cdn.example')), 'refused: name-not-listed');
  resolve(filter, 'listed.example', [
    ['edge.cdn.example', 300, { a: ADDRESS }],
    ['listed.example', 300, { cname: 'www.cdn.example' }],
    ['www.cdn.example', 20, { cname: 'edge.cdn.example' }],
    ['aside.example', 300, { a: SECOND }],
  ]);
  t.equal(begin(filter, ADDRESS), 'passed');
  t.equal(begin(filter, SECOND), 'refused: not-listed', 'a record that nothing leads to');
  t.equal(ask(filter, query('aside.example')), 'refused: name-not-listed');
  t.equal(ask(filter, query('edge.cdn.example', { id: 9 })), 'passed');
  tell(filter, answer('edge.cdn.example', [['edge.cdn.example', 300, { a: SECOND }]], { id: 9 }));
  t.equal(begin(filter, SECOND), 'passed', "the name's end is asked for alone");
  t.equal(begin(filter, SECOND, 80), 'refused: not-listed');
  filter.pass(20_000 + GRACE);
  t.equal(begin(filter, ADDRESS), 'refused: not-listed', 'the shortest of the chain');
  t.equal(ask(filter, query('edge.cdn.example')), 'refused: name-not-listed');
  t.equal(ask(filter, query('www.cdn.example')), 'passed', 'that was told for longer');
  const first = new TestFilter({ urls: URLS });
  resolve(first, 'listed.example', [
    ['listed.example', 20, { cname: 'www.cdn.example' }],
    ['www.cdn.example', 300, { cname: 'edge.cdn.example' }],
    ['edge.cdn.example', 300, { a: ADDRESS }],
  ]);
  first.pass(20_000 + GRACE);
  t.equal(begin(first, ADDRESS), 'refused: not-listed', 'also when it is the first one');
  t.end();
});

t.test('answers that are none: nothing is learned, and nothing breaks', (t) => {
  const good: Answer[] = [['listed.example', 60, { a: ADDRESS }]];
  const cases: [what: string, tell: (filter: TestFilter) => void][] = [
    ['another id', (filter) => tell(filter, answer('listed.example', good, { id: 2 }))],
    ['another port', (filter) => tell(filter, answer('listed.example', good), 5001)],
    ['another type', (filter) => tell(filter, answer('listed.example', good, { type: TYPE.AAAA }))],
    ['another name', (filter) => tell(filter, answer('other.example', good))],
    ['another server', (filter) => tell(filter, answer('listed.example', good), 5000, '8.8.8.8')],
    ['a query', (filter) => tell(filter, answer('listed.example', good, { flags: 0x0100 }))],
    ['an error', (filter) => tell(filter, answer('listed.example', good, { flags: 0x8183 }))],
    ['two questions', (filter) => tell(filter, answer('listed.example', good, { counts: [2, 1, 0, 0] }))],
    [
      'records in another section',
      (filter) => tell(filter, answer('listed.example', good, { counts: [1, 0, 1, 0] })),
    ],
    [
      "another name's address",
      (filter) => tell(filter, answer('listed.example', [['evil.example', 60, { a: ADDRESS }]])),
    ],
    [
      'a chain in a circle',
      (filter) => {
        const circle: Answer[] = [
          ['listed.example', 60, { cname: 'a.example' }],
          ['a.example', 60, { cname: 'listed.example' }],
        ];
        tell(filter, answer('listed.example', circle));
      },
    ],
    [
      'a chain that is too long',
      (filter) => {
        const chain = Array.from(
          { length: 40 },
          (_, at): Answer => [at ? `n${at}.example` : 'listed.example', 60, { cname: `n${at + 1}.example` }],
        );
        tell(filter, answer('listed.example', [...chain, ['n40.example', 60, { a: ADDRESS }]]));
      },
    ],
    ['a truncated record', (filter) => tell(filter, answer('listed.example', good).subarray(0, -1))],
    [
      'late',
      (filter) => {
        filter.pass(30_001);
        tell(filter, answer('listed.example', good));
      },
    ],
  ];
  for (const [what, tellIt] of cases) {
    const filter = new TestFilter({ urls: URLS });
    ask(filter, query('listed.example'));
    tellIt(filter);
    t.equal(begin(filter, ADDRESS), 'refused: not-listed', what);
  }
  const filter = new TestFilter({ urls: URLS });
  t.equal(tell(filter, answer('listed.example', good)), 'dropped: no-flow', 'nobody asked');
  resolve(filter, 'listed.example', [['listed.example', 60, { a: SECOND }]]);
  tell(filter, answer('listed.example', good));
  t.equal(begin(filter, ADDRESS), 'refused: not-listed', 'a question is answered once');
  t.end();
});

t.test('names that lead into the network of the provider open nothing there', (t) => {
  const filter = new TestFilter({
    urls: [...URLS, 'http://192.168.0.9'],
    own: ['93.184.216.99'],
    near: '5db9',
  });
  const inside = [
    '127.0.0.1',
    '192.168.0.1',
    '169.254.169.254',
    '10.42.42.1',
    '93.184.216.99',
    '93.185.1.1',
    '0.0.0.0',
  ];
  resolve(
    filter,
    'listed.example',
    inside.map((a): Answer => ['listed.example', 60, { a }]),
  );
  for (const address of inside)
    t.match(filter.out(tcp({ to: address }, { to: 443 })), /^refused: (?!not-listed)/, address);
  t.equal(filter.policy.resolved.count(filter.now), 2, "those that are nobody else's");
  resolve(filter, 'listed.example', [['listed.example', 60, { a: '192.168.0.9' }]], { id: 2 });
  t.equal(begin(filter, '192.168.0.9'), 'refused: private', 'a rule has it at another port only');
  t.equal(begin(filter, '192.168.0.9', 80), 'passed');
  t.end();
});

t.test('names that no rule has do not leave; the guest is told that there is no such name', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const edns = { counts: [1, 0, 0, 1] as [number, number, number, number], tail: EDNS };
  for (const [name, fields] of [
    ['secret-data.evil.example', {}],
    ['sub.listed.example', { type: TYPE.TXT }],
    ['listed.example.evil', edns],
    ['example', { id: 0xffff, flags: 0 }],
    ['', {}],
  ] as [string, MessageFields][]) {
    t.equal(ask(filter, query(name, fields), 5005), 'refused: name-not-listed', name);
    const [reply] = filter.answers();
    t.match(reply, { sound: true, from: GATEWAY.ipv4, to: GUEST.ipv4, ports: [53, 5005], protocol: 17 });
    t.equal(reply!.data.readUInt16BE(0), fields.id ?? 1);
    t.equal(reply!.data.readUInt16BE(2), 0x8083 | ((fields.flags ?? 0x0100) & 0x0100), 'NXDOMAIN');
    t.same(reply!.data.subarray(4, 12), [0, 1, 0, 0, 0, 0, 0, 0]);
    t.same(reply!.data.subarray(12, 12 + name.length + (name ? 2 : 1)), nameBytes(name));
  }
  t.match(filter.refusals.list[0], { destination: 'udp 10.42.42.1:53', name: 'secret-data.evil.example' });
  ask(filter, query('evil.example'), 5005, GATEWAY.ipv6);
  t.match(filter.answers()[0], { sound: true, from: GATEWAY.ipv6, ports: [53, 5005] });
  t.end();
});

t.test('what is no plain query does not leave either', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const bad: [string, Uint8Array][] = [
    ['nothing', new Uint8Array()],
    ['half a header', query('listed.example').subarray(0, 11)],
    ['half a question', query('listed.example').subarray(0, -1)],
    ['an answer', query('listed.example', { flags: 0x8180 })],
    ['another operation', query('listed.example', { flags: 0x2900 })],
    [
      'two questions',
      query('listed.example', { counts: [2, 0, 0, 0], tail: query('evil.example').subarray(12) }),
    ],
    [
      'a record in it',
      query('listed.example', { answers: [['evil.example', 1, { raw: Buffer.from('x') }]] }),
    ],
    ['data behind it', query('listed.example', { tail: Buffer.from('smuggled') })],
    [
      'data behind EDNS',
      query('listed.example', { counts: [1, 0, 0, 1], tail: Buffer.concat([EDNS, Buffer.from('x')]) }),
    ],
    [
      'two additional records',
      query('listed.example', { counts: [1, 0, 0, 2], tail: Buffer.concat([EDNS, EDNS]) }),
    ],
    [
      'another additional record',
      query('listed.example', {
        counts: [1, 0, 0, 1],
        tail: Buffer.from([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0]),
      }),
    ],
    ['a pointer for a name', Buffer.concat([query('').subarray(0, 12), Buffer.from([0xc0, 0, 0, 1, 0, 1])])],
    ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    [
      'too long',
      query('listed.example', {
        counts: [1, 0, 0, 1],
        tail: Buffer.concat([Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0]), u16(600), Buffer.alloc(600)]),
      }),
    ],
  ];
  for (const [what, message] of bad) t.equal(ask(filter, message), 'dropped: dns-malformed', what);
  t.equal(ask(filter, query('listed.example', { counts: [1, 0, 0, 1], tail: EDNS })), 'passed');
  t.equal(
    new TestFilter().out(udp({ to: GATEWAY.ipv4 }, { to: 53, data: Buffer.from('x') })),
    'passed',
    'where everything is allowed',
  );
  t.end();
});

t.test('queries have a rate', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const fates = (count: number) =>
    Array.from({ length: count }, (_, id) => ask(filter, query('listed.example', { id })));
  t.equal(fates(500).filter((fate) => fate === 'passed').length, 400);
  filter.pass(1000);
  const after = fates(500);
  t.equal(after.filter((fate) => fate === 'passed').length, 200);
  t.equal(after.at(-1), 'dropped: dns-rate');
  t.end();
});

t.test('tables of names have bounds', (t) => {
  const filter = new TestFilter({ urls: URLS });
  for (let round = 0; round < 60; round++) {
    const answers = Array.from(
      { length: 100 },
      (_, at): Answer => ['listed.example', 600, { a: `93.${round}.1.${at}` }],
    );
    resolve(filter, 'listed.example', answers, { id: round });
    filter.pass(100);
  }
  t.equal(filter.policy.resolved.count(filter.now), 4096);
  t.equal(begin(filter, '93.59.1.99'), 'passed');
  t.equal(begin(filter, '93.0.1.0'), 'refused: not-listed', 'the oldest has gone');
  t.end();
});

t.test('where everything is allowed, answers give refusals their names', (t) => {
  const filter = new TestFilter();
  resolve(filter, 'intranet.example', [['intranet.example', 60, { a: '10.1.2.3' }]]);
  begin(filter, '10.1.2.3');
  t.match(filter.refusals.list, [
    { destination: 'tcp 10.1.2.3:443', name: 'intranet.example', reason: 'private' },
  ]);
  t.end();
});

t.test('a resolver of the provider that is asked directly', (t) => {
  const dns = { ipv4: '192.168.1.1', ipv6: null };
  const filter = new TestFilter({ urls: URLS, dns, own: ['192.168.1.1'] });
  t.equal(ask(filter, query('listed.example'), 5000, '192.168.1.1'), 'passed');
  tell(filter, answer('listed.example', [['listed.example', 60, { a: ADDRESS }]]), 5000, '192.168.1.1');
  t.equal(begin(filter, ADDRESS), 'passed');
  t.equal(filter.out(udp({ to: '192.168.1.1' }, { to: 54 })), 'refused: provider');
  t.equal(ask(filter, query('listed.example')), 'refused: gateway', 'no resolver there');
  t.equal(ask(filter, query('listed.example'), 5000, GATEWAY.ipv6), 'refused: gateway');
  t.end();
});

t.test('names as text: two names never look alike, and a pointer leads backwards', (t) => {
  const read = (bytes: number[], at = 0) =>
    readName(Uint8Array.from(bytes), 0, at, bytes.length)?.name ?? null;
  t.equal(read([1, 65, 1, 98, 0]), 'a.b');
  t.equal(read([3, 65, 46, 98, 0]), 'a\\046b', 'a dot inside a label');
  t.equal(read([2, 92, 0, 0]), '\\092\\000');
  t.equal(read([1, 97, 0, 1, 98, 0xc0, 0], 3), 'b.a');
  t.equal(read([1, 97, 0xc0, 0]), null, 'to itself');
  t.equal(read([0xc0, 0]), null);
  t.equal(read([0xc0, 2, 0xc0, 0]), null, 'forward');
  t.equal(read([1, 97, 0, 0xc0, 0, 0xc0, 3, 0xc0, 5], 7), 'a', 'several');
  t.equal(read([0x40, 97, 0]), null, 'a kind of label that is none');
  t.equal(read([5, 97]), null);
  t.equal(read([0xc0]), null);
  t.equal(
    read(
      Array.from({ length: 130 }, () => [1, 97])
        .flat()
        .concat(0),
    ),
    null,
    'longer than 255',
  );
  t.equal(readQuery(Buffer.alloc(5), 0, 5), null);
  const compressed = Buffer.concat([
    answer('listed.example', []),
    Buffer.from([0xc0, 12, 0, 1, 0, 1, 0xff, 0, 0, 0, 0, 4, 1, 2, 3, 4]),
  ]);
  compressed[7] = 1;
  t.match(
    readAnswer(compressed, 0, compressed.length),
    { records: [{ owner: 'listed.example', ttl: 0 }] },
    'a negative TTL',
  );
  t.end();
});
