/** The relay between a bus, a cable and siblings that the test plays; and upstream's recorded calls, played to it. */
import t from 'tap';
import { decodeBody } from '../../host/gsb/body.ts';
import { type CallRequest, PacketDecoder } from '../../host/gsb/packet.ts';
import { type Flex, FlexUInts } from '../../host/gsb/types.ts';
import { flexList, flexMap } from '../../host/gsb/values.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import { buildEcho } from '../../host/network/frame/icmp.ts';
import { readU16 } from '../../host/network/frame/layout.ts';
import type { NetworkSource } from '../../host/network/vpn/networks.ts';
import { noRecordings, readRecording } from '../lib/gsb-recordings.ts';
import { advertisement, arp, echo, guestMac, nodeId, peerMac, udp } from '../lib/vpn-frames.ts';
import { BB, CC, DD, ME, playRelay, SOURCE } from '../lib/vpn-relay.ts';

const RAW = '/public/vpn/n/raw';
const CONTROL = '/public/vpn/n/VpnControl';
const PACKET = '/public/vpn/n/VpnPacket';

t.test('names, frames both ways, one write for each batch, counters', async (t) => {
  const { bus, link, counters, open } = playRelay(t);
  const relay = await open();
  t.same([...bus.bindings.keys()].sort(), [CONTROL, PACKET, RAW].sort());
  const [one, two] = [udp('10.5.0.2', '10.5.0.1'), udp('10.5.0.2', '10.5.0.3')];
  const flushes = bus.flushes;
  link.bring(one, two);
  t.equal(bus.flushes, flushes + 1);
  t.same(bus.pushed, [
    { address: `/udp/net/${BB}/vpn/n/raw`, caller: ME, frame: one },
    { address: `/udp/net/${CC}/vpn/n/raw`, caller: ME, frame: two },
  ]);
  const back = udp('10.5.0.1', '10.5.0.2');
  bus.bring(RAW, BB, back, back);
  t.same(link.sent, [back, back]);
  t.same([...counters], [2, 2 * back.length, 2, one.length + two.length], 'as the guest counts');
  const stats = relay.stats();
  t.match(stats, {
    nic: { framesIn: 2, framesOut: 2 },
    dropped: {},
    networks: [{ id: 'n', range: '10.5.0.0/24', role: 'owner', dropped: {} }],
  });
  t.match(stats.networks[0]?.peers, [
    { address: '10.5.0.1', framesIn: 2, framesOut: 1, lastSeen: 1000, kind: 'node' },
    { address: '10.5.0.2', kind: 'self' },
    { address: '10.5.0.3', framesIn: 0, framesOut: 1, lastSeen: null },
  ]);
  t.ok(relay.knows('10.5.0.77'));
  t.notOk(relay.knows('10.6.0.1'));
  t.notOk(relay.knows('fd00::1'));
});

t.test('close gives the names back, then the place among siblings, then the rest', async (t) => {
  const { bus, link, siblings, open } = playRelay(t, { requestorId: 'r' });
  const relay = await open();
  t.equal(bus.bindings.size, 3);
  await relay.close();
  await relay.close();
  t.same([bus.bindings.size, bus.closed, link.closed, siblings[0]?.closed], [0, true, true, true]);
});

t.test('packets of older nodes: a vector or a blob', async (t) => {
  const { bus, link, open } = playRelay(t);
  const relay = await open();
  const frame = udp('10.5.0.1', '10.5.0.2');
  for (const body of [new FlexUInts(frame), frame, Array.from(frame)]) {
    t.equal(await bus.callBound(PACKET, body, BB), null);
  }
  t.same(link.sent, [frame, frame, frame]);
  const wrong: Flex[] = [null, 'text', { a: 1 }, [1, 'x'], 7];
  for (const body of wrong) t.match(await bus.callBound(PACKET, body, BB), { kind: 'badRequest' });
  t.same(relay.stats().networks[0]?.dropped, { 'not-bytes': wrong.length });
});

t.test('the requestor changes the network', async (t) => {
  const { bus, link, siblings, open } = playRelay(t, { requestorId: 'r' });
  await open();
  const call = (body: Flex) => bus.callBound(CONTROL, body);
  const add = (nodes: Record<string, string>, network_id = 'n') => call({ addNodes: { network_id, nodes } });
  const remove = (node_ids: string[], network_id = 'n') => call({ removeNodes: { network_id, node_ids } });
  const reach = (address: string) => {
    link.bring(udp('10.5.0.2', address));
    return bus.sentTo;
  };
  t.same(reach('10.5.0.9'), []);
  t.equal(await add({ '10.5.0.9': DD }), null);
  t.same(reach('10.5.0.9'), ['dd']);
  t.equal(await remove([DD, nodeId('99')]), null);
  t.same(reach('10.5.0.9'), []);
  t.same(await add({ '10.5.0.1': DD }), { kind: 'service', text: 'IP address is taken: 10.5.0.1' });
  t.same(await add({ '10.6.0.1': DD }), { kind: 'service', text: 'Invalid network IP address: 10.6.0.1' });
  t.same(await add({}, 'm'), { kind: 'service', text: 'Network not found' });
  t.same(await remove([], 'm'), { kind: 'service', text: 'Network not found' });
  t.same(
    siblings[0]?.changes.map(({ kind }) => kind),
    ['add', 'remove', 'add', 'add'],
    'siblings are told, of what is refused as well: earlier pairs count',
  );
  const wrong: Flex[] = [
    ...[null, 'addNodes', {}, [], { other: {} }, { addNodes: 1 }, { addNodes: {} }, { removeNodes: {} }],
    { addNodes: { network_id: 'n' } },
    { addNodes: { network_id: 'n', nodes: { '10.5.0.9': 1 } } },
    { addNodes: { network_id: 1, nodes: {} } },
    { removeNodes: { network_id: 'n', node_ids: [1] } },
    { removeNodes: { network_id: 'n', node_ids: 'x' } },
    { addNodes: { network_id: 'n', nodes: {} }, removeNodes: { network_id: 'n', node_ids: [] } },
  ];
  for (const body of wrong) t.match(await call(body), { kind: 'badRequest' }, JSON.stringify(body));
  t.same(reach('10.5.0.1'), ['bb'], 'nothing of that changed anything');
});

t.test('names that are taken: one warning, and frames once they are free', async (t) => {
  const { bus, records, open } = playRelay(t);
  for (const name of [RAW, CONTROL, PACKET]) bus.taken.add(name);
  const relay = await open();
  t.equal(relay.stats().networks[0]?.role, 'waiting');
  const warnings = () => records.filter(({ level }) => level === 'warn').map(({ message }) => message);
  t.match(warnings(), [/another activity has/]);
  bus.free();
  await new Promise(setImmediate);
  t.equal(relay.stats().networks[0]?.role, 'owner');
  t.match(warnings(), [/another activity has/, /free/]);
  t.same(records[0]?.fields, { network: 'n' });
});

t.test('siblings: who does not own has no names, and takes over', async (t) => {
  const { bus, link, siblings, open } = playRelay(t, { requestorId: 'r', role: 'sibling' });
  const relay = await open();
  const [others] = siblings;
  if (others === undefined) throw new Error('siblings were not asked for');
  t.match(others.setup, {
    folder: '/nowhere',
    nodeId: ME,
    requestorId: 'r',
    networkId: 'n',
    addresses: ['10.5.0.2'],
  });
  t.equal(bus.bindings.size, 0);
  t.equal(relay.stats().networks[0]?.role, 'sibling');
  const frame = udp('10.5.0.1', '10.5.0.2');
  others.events.onFrame(frame, 0, frame.length);
  t.same(link.sent.splice(0), [frame]);
  others.setLocal('10.5.0.50');
  link.bring(udp('10.5.0.2', '10.5.0.50'), udp('10.5.0.2', '10.5.0.3'));
  t.equal(others.sent.length, 1);
  t.same(bus.sentTo, ['cc'], 'its own frames go over its own connection');
  others.events.onChange({ kind: 'add', nodes: { '10.5.0.9': DD, '10.5.0.1': DD } });
  others.events.onChange({ kind: 'remove', nodeIds: [CC] });
  link.bring(udp('10.5.0.2', '10.5.0.9'), udp('10.5.0.2', '10.5.0.3'));
  t.same(bus.sentTo, ['dd'], 'what the owner was told counts here');
  others.become('waiting');
  t.equal(relay.stats().networks[0]?.role, 'waiting');
  others.become('owner');
  await new Promise(setImmediate);
  t.equal(bus.bindings.size, 3);
  t.equal(relay.stats().networks[0]?.role, 'owner');
  others.become('sibling');
  await new Promise(setImmediate);
  t.equal(bus.bindings.size, 0);
  others.dropped.room = 3;
  t.match(relay.stats().networks[0]?.dropped, { 'local-room': 3 });
});

t.test('a bus that is congested holds the guest back; one that is gone does not', async (t) => {
  const { bus, link, open } = playRelay(t);
  const relay = await open();
  bus.room = 1;
  link.bring(udp('10.5.0.2', '10.5.0.1'), udp('10.5.0.2', '10.5.0.1'));
  t.equal(link.paused, true);
  while (link.paused) await new Promise(setImmediate);
  t.equal(link.pauses, 1);
  bus.state = 'down';
  link.bring(udp('10.5.0.2', '10.5.0.1'));
  t.equal(link.paused, false);
  t.same(relay.stats().networks[0]?.dropped, { 'bus-full': 2 });
});

t.test('a tap sees both directions, until it is taken away', async (t) => {
  const { bus, link, open } = playRelay(t);
  const relay = await open();
  const seen: [direction: string, frame: Uint8Array][] = [];
  relay.tap((bytes, offset, length, direction) =>
    seen.push([direction, Uint8Array.from(bytes.subarray(offset, offset + length))]),
  );
  const [there, foreign, back] = [
    udp('10.5.0.2', '10.5.0.1'),
    udp('9.9.9.9', '10.5.0.1'),
    udp('10.5.0.1', '10.5.0.2'),
  ];
  link.bring(there, foreign);
  bus.bring(RAW, BB, back);
  link.room = 0;
  bus.bring(RAW, BB, back);
  t.same(
    seen,
    [
      ['out', there],
      ['out', foreign],
      ['in', back],
    ],
    'what the guest sends, and what it gets',
  );
  relay.tap(null);
  link.bring(there);
  t.equal(seen.length, 3);
});

t.test('ping, as the guest: ARP first, and the reply is not the guest’s', async (t) => {
  const { bus, link, open } = playRelay(t);
  const relay = await open();
  const pinged = relay.ping('10.5.0.1', 10_000);
  const [question] = bus.pushed.splice(0);
  t.same(question, {
    address: `/udp/net/${BB}/vpn/n/raw`,
    caller: ME,
    frame: arp('request', '10.5.0.2', '10.5.0.1'),
  });
  const answer = arp('reply', '10.5.0.1', '10.5.0.2', peerMac('10.5.0.1'));
  bus.bring(RAW, BB, answer);
  await new Promise(setImmediate);
  const request = bus.pushed.splice(0).at(-1)?.frame ?? new Uint8Array(0);
  const [id, sequence, data] = [readU16(request, 38), readU16(request, 40), request.subarray(42)];
  t.same(request.subarray(0, 6), peerMac('10.5.0.1'));
  t.same(request.subarray(6, 12), guestMac('10.5.0.2'));
  const ends = {
    ...{ sourceMac: peerMac('10.5.0.1'), destinationMac: guestMac('10.5.0.2') },
    ...{ source: parseIp('10.5.0.1'), destination: parseIp('10.5.0.2') },
  };
  const other = Uint8Array.from(data, (byte) => byte ^ 1);
  const guests = buildEcho(ends, { kind: 'reply', id, sequence, data: other });
  bus.bring(RAW, BB, guests, buildEcho(ends, { kind: 'reply', id, sequence, data }));
  const { milliseconds } = await pinged;
  t.ok(milliseconds >= 0 && milliseconds < 10_000);
  t.same(link.sent, [answer, guests], 'a ping of the guest’s own with the same id is left to it');
  bus.bring(RAW, BB, buildEcho(ends, { kind: 'reply', id, sequence, data }));
  t.equal(link.sent.length, 3, 'and so is everything once nobody pings');
});

t.test('ping over IPv6', async (t) => {
  const six = { id: 'n', ip: 'fd00::/64', nodeIp: 'fd00::2', nodes: { 'fd00::1': BB } };
  const { bus, link, open } = playRelay(t, { networks: [six] });
  const relay = await open();
  const pinged = relay.ping('fd00:0::1', 10_000);
  t.equal(bus.pushed.splice(0)[0]?.frame[54], 135);
  bus.bring(RAW, BB, advertisement('fd00::1', 'fd00::2'));
  await new Promise(setImmediate);
  const request = bus.pushed.splice(0).at(-1)?.frame ?? new Uint8Array(0);
  const ends = {
    ...{ sourceMac: peerMac('fd00::1'), destinationMac: guestMac('fd00::2') },
    ...{ source: parseIp('fd00::1'), destination: parseIp('fd00::2') },
  };
  const id = readU16(request, 58);
  bus.bring(RAW, BB, buildEcho(ends, { kind: 'reply', id, sequence: 1, data: request.subarray(62) }));
  t.ok((await pinged).milliseconds >= 0);
  t.equal(link.sent.length, 1, 'the advertisement alone');
});

t.test('pings that cannot be', async (t) => {
  const { open } = playRelay(t);
  const relay = await open();
  const refused = { code: 'YAVM_E_NET_PING' };
  await t.rejects(relay.ping('10.5.0.77', 1000), { ...refused, message: /10\.5\.0\.77: no node/ });
  await t.rejects(relay.ping('10.5.0.2', 1000), { ...refused, message: /own address/ });
  await t.rejects(relay.ping('10.5.0.1', 20), { ...refused, message: /10\.5\.0\.1 within.*MAC/ });
  await t.rejects(relay.ping('x', 20), { code: 'YAVM_E_NET_ADDRESS' });
  const many = Array.from({ length: 17 }, () => relay.ping('10.5.0.1', 20));
  const ends = (await Promise.allSettled(many)).map((end) => String((end as { reason?: unknown }).reason));
  t.equal(ends.filter((text) => /under way already/.test(text)).length, 1);
});

t.test('what is dropped is summed up, when there is more', async (t) => {
  const { link, records, open } = playRelay(t, { effects: { summaryEvery: 5 } });
  const relay = await open();
  const sums = () => records.filter(({ level }) => level === 'info');
  link.bring(udp('9.9.9.9', '10.5.0.1'), udp('10.5.0.2', '10.5.0.77'), new Uint8Array(3));
  while (sums().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(sums().length, 1, 'once');
  t.match(sums()[0]?.fields, {
    frames: 3,
    dropped: { 'foreign-source': 1, short: 1 },
    networks: [{ id: 'n', dropped: { 'unknown-destination': 1 } }],
  });
  link.counters.dropped = 4;
  t.equal(relay.stats().dropped.cable, 4);
});

t.test('what cannot be opened leaves nothing open', async (t) => {
  const outside = { ...SOURCE, nodes: { '10.6.0.1': BB } };
  const wrong = playRelay(t, { networks: [outside] });
  await t.rejects(wrong.open(), {
    code: 'YAVM_E_NET_ADDRESS',
    message: 'Invalid network IP address: 10.6.0.1',
  });
  t.same(wrong.closed, [99]);
  for (const identity of [null, {}, { nodeId: 'x' }, 7]) {
    const nobody = playRelay(t);
    nobody.bus.identity = identity;
    await t.rejects(nobody.open(), { code: 'YAVM_E_NET_NODE' });
    t.same([nobody.closed, nobody.bus.closed], [[99], true]);
  }
});

/** Plays a recording's calls to a relay in the same networks; returns what was compared. */
async function replay(t: Tap, name: string): Promise<string[]> {
  const compared: string[] = [];
  let played: ReturnType<typeof playRelay> | undefined;
  /** Answers that upstream gives, by the call's id. */
  const answers = new Map<string, string>();
  for (const { dir, packet } of packetsOf(name)) {
    if (packet.kind === 'callReply') {
      const ours = answers.get(packet.requestId);
      if (ours !== undefined) {
        t.equal(ours, JSON.stringify(decodeBody(packet.data)), packet.requestId);
        compared.push('answer');
      }
    }
    if (packet.kind !== 'callRequest') continue;
    const networks = deployed(packet);
    if (networks !== undefined) {
      played = playRelay(t, { networks });
      const own = recordedId(name);
      played.bus.identity = { nodeId: own };
      await played.open();
    } else if (packet.address.startsWith('/public/vpn/') && played !== undefined) {
      const kind = packet.address.split('/').at(-1) ?? '';
      compared.push(`${dir} ${kind}`);
      if (kind === 'raw') {
        played.bus.bring(packet.address, packet.caller, packet.data);
        t.same(played.link.sent.splice(0), [Uint8Array.from(packet.data)], 'the guest gets it as it came');
      } else {
        const answer = await played.bus.callBound(packet.address, decodeBody(packet.data), packet.caller);
        const error = answer as { kind?: string; text?: string } | null;
        const ours = error?.kind === undefined ? { Ok: answer } : { Err: { [error.kind]: error.text } };
        answers.set(packet.requestId, JSON.stringify(ours));
        played.link.sent.splice(0);
      }
    } else if (packet.address.startsWith('/udp/net/') && played !== undefined) {
      compared.push(`${dir} push`);
      played.link.bring(packet.data);
      const { address, caller } = packet;
      t.same(played.bus.pushed.splice(0), [{ address, caller, frame: Uint8Array.from(packet.data) }]);
    }
  }
  return compared;
}

function* packetsOf(name: string) {
  const decoders = { 'exe-unit→router': new PacketDecoder(), 'router→exe-unit': new PacketDecoder() };
  for (const { dir, frame } of readRecording(name)) {
    if (frame === undefined) continue;
    for (const packet of decoders[dir].push(frame))
      yield { dir: dir === 'exe-unit→router' ? 'out' : 'in', packet };
  }
}

/** The identity that the recorded node had. */
function recordedId(name: string): string {
  for (const { packet } of packetsOf(name)) {
    if (packet.kind !== 'callReply' || packet.code !== 0 || packet.data.length === 0) continue;
    const id = flexMap(flexMap(decodeBody(packet.data))?.Ok)?.nodeId;
    if (typeof id === 'string') return id;
  }
  throw new Error('no identity there');
}

function deployed({ address, data }: CallRequest): NetworkSource[] | undefined {
  if (!address.endsWith('/Exec')) return undefined;
  const commands = flexList(flexMap(decodeBody(data))?.exeScript) ?? [];
  const nets = commands.map((command) => flexMap(flexMap(command)?.deploy)?.net).find(Boolean);
  return flexList(nets)?.map((net) => {
    const network = net as unknown as NetworkSource;
    return { ...network, mask: network.mask ?? undefined, gateway: network.gateway ?? undefined };
  });
}

type Tap = Pick<typeof t, 'equal' | 'same' | 'teardown'>;

t.test('upstream’s calls, as recorded', { skip: noRecordings }, async (t) => {
  const control = Array.from({ length: 5 }, () => ['in VpnControl', 'answer']).flat();
  const frames = ['in raw', 'out push', 'in raw', 'out push', 'in VpnPacket', 'answer', 'out push'];
  t.same(await replay(t, 'vpn'), [...frames, ...control]);
  const asked = ['in raw', 'out push'];
  t.same(await replay(t, 'yagna-vpn'), [...asked, ...asked, ...asked]);
});

t.test('a peer that pings is answered by the guest, over the same node', async (t) => {
  const { bus, link, open } = playRelay(t);
  await open();
  bus.bring(RAW, DD, arp('request', '10.5.0.9', '10.5.0.2', peerMac('10.5.0.9')));
  link.bring(arp('reply', '10.5.0.2', '10.5.0.9'));
  t.same(bus.sentTo, ['dd'], 'its address was learned');
  bus.bring(RAW, DD, echo('request', '10.5.0.9', '10.5.0.2'));
  link.bring(echo('reply', '10.5.0.2', '10.5.0.9'));
  t.same(bus.sentTo, ['dd']);
  t.equal(link.sent.length, 2);
});
