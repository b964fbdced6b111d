import t from 'tap';
import { type Answer, answer, framed, query } from '../lib/outbound-dns.ts';
import { type Fate, TestFilter } from '../lib/outbound-filter.ts';
import { GATEWAY, GUEST, tcp } from '../lib/outbound-frames.ts';
import { Random } from '../lib/random.ts';

const URLS = ['https://listed.example'];
const ADDRESS = '93.184.216.34';
const outer = { from: GATEWAY.mac, to: GUEST.mac };

/** A guest's connection to its resolver: numbers as a stack would have them. */
class Connection {
  readonly filter: TestFilter;
  readonly port: number;
  /** The guest's next number, and what the resolver has acknowledged; the resolver's next. */
  next: number;
  acknowledged: number;
  theirs = 0xffff_ff00;

  constructor(filter: TestFilter, port = 6000, first = 0xffff_fff0) {
    this.filter = filter;
    this.port = port;
    this.next = (first + 1) >>> 0;
    this.acknowledged = this.next;
    filter.out(tcp({ to: GATEWAY.ipv4 }, { from: port, to: 53, sequence: first }));
    this.receive('SA', Buffer.alloc(0));
    this.theirs = (this.theirs + 1) >>> 0;
    this.send(Buffer.alloc(0));
  }

  /** A segment; its number is the next one unless it is given. */
  send(data: Uint8Array, sequence = this.next, flags = 'A'): Fate {
    const fields = { from: this.port, to: 53, sequence, acknowledgement: this.theirs, flags, data };
    const fate = this.filter.out(tcp({ to: GATEWAY.ipv4 }, fields));
    if (fate === 'passed' && sequence === this.next) this.next = (this.next + data.length) >>> 0;
    return fate;
  }

  /** The resolver acknowledges what has come. */
  acknowledge(): void {
    this.acknowledged = this.next;
    this.receive('A', Buffer.alloc(0));
  }

  receive(flags: string, data: Uint8Array, sequence = this.theirs): Fate {
    const fields = { from: 53, to: this.port, sequence, acknowledgement: this.acknowledged, flags, data };
    const fate = this.filter.in(tcp({ from: GATEWAY.ipv4, to: GUEST.ipv4 }, fields, outer));
    if (sequence === this.theirs) this.theirs = (this.theirs + data.length) >>> 0;
    return fate;
  }
}

function begins(filter: TestFilter, to = ADDRESS): Fate {
  return filter.out(tcp({ to }, { from: 42_000, to: 443 }));
}

const listed: Answer[] = [['listed.example', 60, { a: ADDRESS }]];

t.test('a query and its answer, each in pieces of any size', (t) => {
  for (const size of [1, 2, 3, 7, 29, 1000]) {
    const filter = new TestFilter({ urls: URLS });
    const connection = new Connection(filter);
    const question = framed(query('listed.example', { id: 3 }), query('listed.example', { id: 4, type: 28 }));
    for (let at = 0; at < question.length; at += size) {
      t.equal(connection.send(question.subarray(at, at + size)), 'passed');
      if (at % 3 === 0) connection.acknowledge();
    }
    const long: Answer[] = Array.from({ length: 60 }, (_, at) => [
      'listed.example',
      60,
      { a: `93.1.1.${at}` },
    ]);
    const reply = framed(answer('listed.example', [...long, ...listed], { id: 3 }));
    for (let at = 0; at < reply.length; at += size) {
      t.equal(begins(filter), 'refused: not-listed');
      t.equal(connection.receive('A', reply.subarray(at, at + size)), 'passed');
      // Sent again, with something before it.
      if (at % 5 === 0 && at > 3)
        connection.receive(
          'A',
          reply.subarray(at - 3, at + size),
          (connection.theirs - Math.min(size, reply.length - at) - 3) >>> 0,
        );
    }
    t.equal(begins(filter), 'passed', `pieces of ${size} bytes`);
    t.equal(begins(filter, '93.1.1.59'), 'passed');
    t.match(
      filter.refusals.list.map(({ reason }) => reason),
      new Set(['not-listed']),
    );
  }
  t.end();
});

t.test('a name that no rule has: its last byte does not get out, and the connection ends for both', (t) => {
  for (const size of [1, 5, 1000]) {
    const filter = new TestFilter({ urls: URLS });
    const connection = new Connection(filter);
    const bytes = framed(query('listed.example'), query('secret.evil.example'));
    let sent = 0;
    let fate: Fate = 'passed';
    for (let at = 0; at < bytes.length && fate === 'passed'; at += size) {
      fate = connection.send(bytes.subarray(at, at + size));
      if (fate === 'passed') sent = Math.min(bytes.length, at + size);
    }
    t.equal(fate, 'refused: name-not-listed');
    t.ok(sent < bytes.length);
    t.match(filter.refusals.list.at(-1), { destination: 'tcp 10.42.42.1:53', name: 'secret.evil.example' });
    t.match(filter.answers(), [
      { sound: true, from: GATEWAY.ipv4, ports: [53, 6000], flags: 'R', sequence: connection.theirs },
    ]);
    t.match(filter.toUpstream, [
      { sound: true, from: GUEST.ipv4, ports: [6000, 53], flags: 'RA', sequence: connection.next },
    ]);
    t.equal(connection.send(Buffer.from('x')), 'dropped: no-flow');
  }
  t.end();
});

t.test('the resolver gets the bytes that were read, in order, and no others', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const connection = new Connection(filter);
  const good = framed(query('listed.example'));
  const evil = framed(query('smuggl.example'));
  t.equal(good.length, evil.length);
  t.equal(connection.send(good.subarray(0, 20)), 'passed');
  const start = (connection.next - 20) >>> 0;
  t.equal(connection.send(good.subarray(25), start + 25), 'dropped: dns-order', 'a gap');
  t.equal(connection.send(evil.subarray(0, 20), start), 'dropped: dns-order', 'sent again, with other bytes');
  t.equal(connection.send(good.subarray(10, 20), start + 10), 'passed', 'sent again');
  t.equal(connection.send(good.subarray(10), start + 10), 'passed', 'again, and more');
  connection.next = (start + good.length) >>> 0;
  connection.acknowledge();
  t.equal(connection.send(evil, start), 'dropped: dns-order', 'before what was acknowledged');
  t.equal(connection.send(good.subarray(0, 1), connection.next - 1), 'dropped: dns-order');
  t.equal(connection.send(Buffer.alloc(0), connection.next - 1), 'passed', 'is it alive');
  t.equal(
    connection.send(Buffer.alloc(0), connection.next + 9, 'FA'),
    'dropped: dns-order',
    'an end out of order',
  );
  t.equal(connection.send(good.subarray(0, 9)), 'passed');
  const begin = { from: 6000, to: 53, sequence: start - good.length };
  t.equal(
    filter.out(tcp({ to: GATEWAY.ipv4 }, begin)),
    'dropped: tcp-flags',
    'other numbers for the same connection',
  );
  t.equal(connection.send(Buffer.alloc(0), 12_345, 'R'), 'passed', 'ends it with a number of its own');
  t.match(filter.toUpstream, [{ flags: 'RA', sequence: connection.next }], 'which the resolver gets right');
  t.equal(connection.send(good.subarray(9)), 'dropped: no-flow');
  t.equal(
    filter.out(tcp({ to: GATEWAY.ipv4 }, begin)),
    'dropped: tcp-flags',
    'and the ports are not used again at once',
  );
  filter.pass(10_000);
  t.equal(filter.out(tcp({ to: GATEWAY.ipv4 }, begin)), 'passed');
  t.end();
});

t.test('what is no query, too long a query, and too much at once', (t) => {
  const filter = new TestFilter({ urls: URLS });
  t.equal(new Connection(filter, 1).send(Buffer.from('GET / HTTP/1.1\r\n')), 'refused: name-not-listed');
  t.equal(new Connection(filter, 2).send(Buffer.from([2, 1])), 'refused: name-not-listed', '513 bytes');
  t.equal(new Connection(filter, 3).send(framed(new Uint8Array())), 'refused: name-not-listed');
  const good = framed(query('listed.example'));
  const many = new Connection(filter, 4);
  const fates = Array.from({ length: 8192 / good.length + 9 }, () => many.send(good));
  t.same(
    new Set(fates),
    new Set(['passed', 'dropped: dns-order']),
    'as much as the resolver has not acknowledged',
  );
  many.acknowledge();
  filter.pass(2000);
  t.equal(many.send(good), 'passed');
  t.end();
});

t.test('a question over one connection is not answered over another, nor over UDP', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const [one, other] = [new Connection(filter, 1), new Connection(filter, 2)];
  one.send(framed(query('listed.example')));
  other.receive('A', framed(answer('listed.example', listed)));
  t.equal(begins(filter), 'refused: not-listed');
  one.receive('A', framed(answer('listed.example', listed)), one.theirs + 1);
  t.equal(begins(filter), 'refused: not-listed', 'behind a gap');
  one.receive('A', framed(answer('listed.example', listed)));
  t.equal(begins(filter), 'passed');
  t.end();
});

t.test('connections whose queries are read have a bound', (t) => {
  const filter = new TestFilter({ urls: URLS });
  const fates = Array.from({ length: 65 }, (_, at) =>
    filter.out(tcp({ to: GATEWAY.ipv4 }, { from: 100 + at, to: 53 })),
  );
  t.equal(fates.filter((fate) => fate === 'passed').length, 64);
  t.equal(fates.at(-1), 'refused: too-many');
  t.equal(new TestFilter().out(tcp({ to: GATEWAY.ipv4 }, { to: 53 })), 'passed');
  t.end();
});

t.test('whatever a guest sends, what passes is the beginning of good queries', (t) => {
  const random = new Random();
  t.comment(`YAVM_SEED=${random.seed}`);
  const good = framed(query('listed.example'));
  const evil = framed(query('smuggl.example'));
  let whole = 0;
  for (let round = 0; round < 300; round++) {
    const filter = new TestFilter({ urls: URLS });
    const connection = new Connection(filter, 6000, random.next());
    const base = connection.next;
    /** What a resolver would have, by the first copy of each byte and by the last. */
    const first = new Map<number, number>();
    const last = new Map<number, number>();
    for (let turn = 0; turn < 40; turn++) {
      const source = random.chance(6) ? evil : good;
      const near = (connection.next - base) >>> 0;
      const offset = Math.max(0, near + (random.chance(3) ? random.between(-30, 10) : 0));
      const stream = Buffer.concat([source, source, source, source]);
      const at = offset % source.length;
      const data = stream.subarray(at, at + random.between(1, 60));
      const before = filter.filter.flows(filter.now);
      if (connection.send(data, (base + offset) >>> 0) === 'passed') {
        for (const [index, byte] of data.entries()) {
          if (!first.has(offset + index)) first.set(offset + index, byte);
          last.set(offset + index, byte);
        }
        connection.next = (base + Math.max(near, offset + data.length)) >>> 0;
      }
      if (before > filter.filter.flows(filter.now)) break;
      if (random.chance(4)) connection.acknowledge();
      filter.pass(100);
    }
    for (const seen of [first, last]) {
      const bytes = Buffer.from(Array.from({ length: seen.size }, (_, at) => seen.get(at) ?? -1));
      for (let at = 0; at + evil.length <= bytes.length; at += good.length) {
        if (!bytes.subarray(at, at + good.length).equals(good))
          t.fail(`round ${round}: another query at ${at}`);
        else whole++;
      }
    }
  }
  t.ok(whole > 300, `${whole} good queries`);
  t.end();
});
