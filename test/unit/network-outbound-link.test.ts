/** The filter between two real cables: order, pressure, ends, and what the thread asks of it. */
import t from 'tap';
import { makeCable } from '../../host/network/nic/cable.ts';
import { StreamLink } from '../../host/network/nic/stream-link.ts';
import { openOutboundFilterWith } from '../../host/network/outbound/filter-link.ts';
import { parseUrlRules } from '../../host/network/outbound/parse-urls.ts';
import { Arrivals, framed, native, turn } from '../lib/cables.ts';
import { GATEWAY, GUEST, icmp, read, tcp, udp } from '../lib/outbound-frames.ts';
import { TestLogger } from '../lib/outbound-logger.ts';
import type { Owner } from '../lib/vm.ts';

const PUBLIC = '93.184.216.34';
const outer = { from: GATEWAY.mac, to: GUEST.mac };

/** A filter; the guest's end of its cable, and the upstream's. */
function open(t: Owner, { urls }: { urls?: string[] } = {}) {
  const [nic, upstream] = [makeCable(native, 'unix'), makeCable(native, 'unix')];
  const logger = new TestLogger();
  const counters = new SharedArrayBuffer(32);
  const filter = openOutboundFilterWith(
    {
      policy: { unrestricted: urls === undefined, rules: parseUrlRules(urls ?? []) },
      nic: { kind: 'stream', fd: nic.near.fd },
      upstream: { fd: upstream.near.fd },
      dns: { ipv4: GATEWAY.ipv4, ipv6: GATEWAY.ipv6 },
      ipv6: true,
      published: [],
    },
    { logger: logger.logger, counters },
    {
      openLink: (fd) => new StreamLink(native, fd),
      own: { isOwn: () => false, isNear: () => false },
      now: () => performance.now(),
    },
  );
  t.teardown(() => filter.close());
  const guest = end(t, nic.backend.fd);
  return {
    filter,
    guest,
    upstream: end(t, upstream.backend.fd),
    counters: new Float64Array(counters),
    log: logger.lines,
  };
}

function end(t: Owner, fd: number) {
  const link = new StreamLink(native, fd);
  t.teardown(() => link.close());
  const arrivals = new Arrivals(link);
  const send = (...frames: Uint8Array[]) => {
    const bytes = framed(...frames);
    if (!link.sendFramed(bytes, 0, bytes.length)) throw new Error('no room');
  };
  return { link, arrivals, send };
}

const established = (port: number, to = PUBLIC) => tcp({ to }, { from: port, to: 443 });
const data = (number: number, size: number) => {
  const bytes = Buffer.alloc(size);
  bytes.writeUInt32BE(number);
  return bytes;
};

t.test(
  'frames that pass arrive as they were and in order; between them others are refused, and answered',
  async (t) => {
    const { filter, guest, upstream, counters, log } = open(t, { urls: [`https://${PUBLIC}`] });
    const seen: string[] = [];
    filter.tap((_bytes, _offset, length, direction) => seen.push(`${direction} ${length}`));
    const good = Array.from({ length: 100 }, (_, index) => established(10_000 + index));
    const bad = [
      established(9, '10.0.0.1'),
      tcp({ to: PUBLIC }, { from: 9, to: 80 }),
      Buffer.alloc(20, 0xff),
    ];
    const mixed = good.flatMap((frame, index) => (index % 7 === 3 ? [bad[index % 3]!, frame] : [frame]));
    guest.send(...mixed);
    await upstream.arrivals.count(good.length);
    t.same(
      upstream.arrivals.frames,
      good.map((frame) => Uint8Array.from(frame)),
    );
    const refused = Math.floor((mixed.length - good.length) * (2 / 3));
    await guest.arrivals.until(({ frames }) => frames.length >= refused);
    t.ok(guest.arrivals.frames.every((frame) => read(frame).flags === 'RA' && read(frame).sound));

    const back = Array.from({ length: 50 }, (_, index) =>
      tcp({ from: PUBLIC, to: GUEST.ipv4 }, { from: 443, to: 10_000 + index, flags: 'SA' }, outer),
    );
    guest.arrivals.frames.length = 0;
    upstream.send(
      ...back.flatMap((frame) => [frame, tcp({ from: PUBLIC, to: GUEST.ipv4 }, { from: 1, to: 2 }, outer)]),
    );
    await guest.arrivals.count(back.length);
    t.same(
      guest.arrivals.frames,
      back.map((frame) => Uint8Array.from(frame)),
    );

    const stats = filter.stats();
    t.match(stats.nic, {
      framesOut: mixed.length,
      bytesOut: mixed.reduce((sum, frame) => sum + frame.length, 0),
    });
    t.equal(stats.flows, 100);
    t.equal(stats.resolved, 0);
    t.match(
      new Set(stats.refusals.map(({ destination, reason }) => `${destination} ${reason}`)),
      new Set(['tcp 10.0.0.1:443 private', `tcp ${PUBLIC}:80 not-listed`]),
    );
    const counted = stats.refusals.reduce((sum, { count }) => sum + count, 0);
    t.equal(counted + (stats.dropped['not-ip'] ?? 0), mixed.length - good.length);
    t.equal(stats.dropped['no-flow'], 50);
    t.same([...counters], [stats.nic.framesIn, stats.nic.bytesIn, stats.nic.framesOut, stats.nic.bytesOut]);
    t.equal(log.filter((line) => line.includes('refused')).length, 2, 'once a destination');
    t.equal(seen.filter((line) => line.startsWith('out')).length, mixed.length);
    t.equal(seen.filter((line) => line.startsWith('in')).length, stats.nic.framesIn);
    filter.tap(null);
  },
);

t.test('who is slow holds the other side back, and nothing is lost', async (t) => {
  const { filter, guest, upstream } = open(t);
  guest.send(established(1));
  await upstream.arrivals.count(1);
  for (const [from, to] of [
    [guest, upstream],
    [upstream, guest],
  ] as const) {
    to.arrivals.frames.length = 0;
    to.link.pause();
    const make = (number: number) =>
      from === guest
        ? tcp({ to: PUBLIC }, { from: 1, to: 443, flags: 'A', data: data(number, 60_000) })
        : tcp(
            { from: PUBLIC, to: GUEST.ipv4 },
            { from: 443, to: 1, flags: 'A', data: data(number, 60_000) },
            outer,
          );
    let sent = 0;
    // Until nobody takes any more: all buffers on the way are full.
    for (let idle = 0; idle < 50; ) {
      if (from.link.pressed) idle++;
      else {
        from.send(make(sent++));
        idle = 0;
      }
      await turn();
    }
    t.ok(sent > 10, `${sent} frames are on their way`);
    t.equal(to.arrivals.frames.length, 0);
    to.link.resume();
    await to.arrivals.count(sent);
    t.same(
      to.arrivals.frames.map((frame) => Buffer.from(frame).readUInt32BE(54)),
      Array.from({ length: sent }, (_, n) => n),
    );
    from.send(make(sent));
    await to.arrivals.count(sent + 1);
  }
  t.same(filter.stats().dropped, {});
});

t.test('the way out ends: connections are reset, new ones refused; another takes over', async (t) => {
  const { filter, guest, upstream, log } = open(t);
  guest.send(
    established(1),
    tcp({ to: PUBLIC }, { from: 1, to: 443, flags: 'A', sequence: 1001, acknowledgement: 77 }),
  );
  guest.send(established(2), udp({ to: PUBLIC }, { to: 9 }));
  await upstream.arrivals.count(4);
  upstream.link.close();
  await guest.arrivals.count(2);
  t.match(guest.arrivals.frames.map(read), [
    { ports: [443, 2], flags: 'RA', acknowledgement: 1001 },
    { ports: [443, 1], flags: 'R', sequence: 77 },
  ]);
  guest.send(established(3));
  await guest.arrivals.count(3);
  t.match(read(guest.arrivals.frames[2]!), { ports: [443, 3], flags: 'RA' });
  t.match(filter.stats().refusals, [{ reason: 'no-way-out' }]);
  t.equal(filter.stats().flows, 0);
  t.ok(log.some((line) => line.includes('way out is gone')));

  const cable = makeCable(native, 'unix');
  filter.replaceUpstream(cable.near.fd);
  const second = end(t, cable.backend.fd);
  guest.send(established(4));
  await second.arrivals.count(1);
  // Replaced while it works: what it had ends.
  const third = makeCable(native, 'unix');
  filter.replaceUpstream(third.near.fd);
  const last = end(t, third.backend.fd);
  await guest.arrivals.count(4);
  t.match(read(guest.arrivals.frames[3]!), { ports: [443, 4], flags: 'RA' });
  guest.send(established(5));
  await last.arrivals.count(1);
  await second.arrivals.until((arrivals) => arrivals.end !== undefined);
});

t.test('an upstream that sends garbage is as good as gone', async (t) => {
  const { guest, upstream } = open(t);
  guest.send(established(1));
  await upstream.arrivals.count(1);
  upstream.link.sendFramed(Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4);
  await guest.arrivals.count(1);
  t.match(read(guest.arrivals.frames[0]!), { ports: [443, 1], flags: 'RA' });
});

t.test('a guest that is gone takes its way out with it', async (t) => {
  const { guest, upstream, log } = open(t);
  guest.link.close();
  await upstream.arrivals.until((arrivals) => arrivals.end !== undefined);
  t.same(
    log.filter((line) => !line.startsWith('debug')),
    [],
  );
});

t.test('ping: as if the guest had, whose own echoes are its own', async (t) => {
  const { filter, guest, upstream, log } = open(t, { urls: [`https://${PUBLIC}`, 'https://[2606:4700::1]'] });
  const reply = () => {
    const frame = Buffer.from(upstream.arrivals.frames.at(-1)!);
    const asked = read(frame);
    const ipv4 = asked.protocol === 1;
    const header = frame.subarray(ipv4 ? 34 : 54);
    return icmp(
      { from: asked.to, to: asked.from },
      {
        type: ipv4 ? 0 : 129,
        id: header.readUInt16BE(4),
        sequence: header.readUInt16BE(6),
        data: asked.data,
      },
      outer,
    );
  };
  let frames = 0;
  for (const address of [PUBLIC, '2606:4700::1']) {
    const ping = filter.ping(address, 60_000);
    await upstream.arrivals.count(++frames);
    t.match(read(upstream.arrivals.frames.at(-1)!), {
      to: address,
      sound: true,
      macs: `${GUEST.mac} > ${GATEWAY.mac}`,
    });
    upstream.send(reply());
    const { milliseconds } = await ping;
    t.ok(milliseconds >= 0 && milliseconds < 60_000);
  }
  const ping = filter.ping(PUBLIC, 20_000);
  await upstream.arrivals.count(++frames);
  const answer = reply();
  guest.send(icmp({ to: PUBLIC }, { id: 5 }));
  await upstream.arrivals.count(++frames);
  upstream.send(reply(), answer);
  await ping;
  await guest.arrivals.count(1);
  t.equal(guest.arrivals.frames.length, 1, 'its own reply, and not ours');

  await t.rejects(filter.ping('10.0.0.1', 10), { code: 'YAVM_E_NET_PING', message: /private/ });
  await t.rejects(filter.ping('1.1.1.1', 10), { code: 'YAVM_E_NET_PING', message: /not-listed/ });
  await t.rejects(filter.ping('name', 10), { code: 'YAVM_E_NET_ADDRESS' });
  await t.rejects(filter.ping(PUBLIC, 10), { code: 'YAVM_E_NET_PING', hint: /doctor/ });
  t.same(filter.stats().refusals, [], 'the task has not tried');
  upstream.link.close();
  while (!log.some((line) => line.includes('way out is gone'))) await turn();
  await t.rejects(filter.ping(PUBLIC, 10), { code: 'YAVM_E_NET_PING', message: /no-way-out/ });
});
