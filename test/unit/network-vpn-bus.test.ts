/** Relays on the embedded node's bus: with a requestor that speaks GSB alone, as yagna does, and with each other. */
import t from 'tap';
import { type Flex, FlexUInts } from '../../host/gsb/types.ts';
import { formatIp, parseIp } from '../../host/network/frame/address.ts';
import { buildArp } from '../../host/network/frame/arp.ts';
import { readU16 } from '../../host/network/frame/layout.ts';
import type { LinkKind } from '../../host/network/types.ts';
import { RawPeer, socketFolder } from '../lib/gsb-peer.ts';
import { count, soak } from '../lib/scale.ts';
import { echo, nodeId, peerMac, udp } from '../lib/vpn-frames.ts';
import { relayAt, TestNodes, TestRequestor, until } from '../lib/vpn-nodes.ts';

const [A, B, C] = ['aa', 'bb', 'cc'].map(nodeId) as [string, string, string];
const soon = { deadline: 60_000 };

const FOUR = { id: 'n', ip: '10.5.0.0/24', nodes: { '10.5.0.1': B, '10.5.0.2': A, '10.5.0.3': C } };
const at = (nodeIp: string) => ({ ...FOUR, nodeIp });

/** As a requestor's stack asks: its MAC is A0:13 and its address, and the target's hardware address is all ones. */
function question(from: string, to: string): Uint8Array {
  const ends = { senderMac: peerMac(from), senderIp: parseIp(from), targetIp: parseIp(to) };
  const frame = buildArp({ operation: 'request', ...ends });
  frame.fill(0xff, 32, 38);
  return frame;
}

for (const kind of ['udp', 'tcp', 'unix', 'unix-datagram'] satisfies LinkKind[]) {
  t.test(`a requestor’s end: ARP, raw frames, packets; cable ${kind}`, async (t) => {
    const nodes = new TestNodes(t);
    const [provider, other] = [await nodes.start(A), await nodes.start(B)];
    const requestor = await TestRequestor.at(t, other, 'n');
    const { relay } = await relayAt(t, provider, [at('10.5.0.2')], { kind });
    t.ok(requestor.push(A, 'n', question('10.5.0.1', '10.5.0.2')));
    await until(() => requestor.frames.length === 1, 'the answer to ARP');
    const [reply] = requestor.frames.splice(0);
    t.equal(reply?.caller, A);
    t.same(reply?.frame.subarray(0, 6), peerMac('10.5.0.1'));
    t.equal(readU16(reply?.frame ?? new Uint8Array(22), 20), 2);
    t.ok(requestor.push(A, 'n', echo('request', '10.5.0.1', '10.5.0.2')));
    await until(() => requestor.frames.length === 1, 'the echo');
    t.same(requestor.frames.splice(0)[0]?.frame.subarray(34, 35), [0]);
    for (const body of [new FlexUInts(echo('request', '10.5.0.1', '10.5.0.2'))] satisfies Flex[]) {
      t.equal(await requestor.gsb.call(`/udp/net/${A}/vpn/n/VpnPacket`, body, soon), null);
    }
    await until(() => requestor.frames.length === 1, 'the echo of a packet');
    t.same(relay.stats().dropped, {});
  });
}

t.test('two guests: every size, both ways, IPv6, pings of the relays', async (t) => {
  const nodes = new TestNodes(t);
  const six = { id: 'six', ip: 'fd00::/64', nodes: { 'fd00::2': A, 'fd00::3': C } };
  const first = await relayAt(t, await nodes.start(A), [at('10.5.0.2'), { ...six, nodeIp: 'fd00::2' }]);
  const second = await relayAt(t, await nodes.start(C), [at('10.5.0.3'), { ...six, nodeIp: 'fd00::3' }]);
  const [one, two] = [first.guest, second.guest];
  const sizes = Array.from({ length: 1220 - 28 + 1 }, (_, size) => size).filter(
    (size) => soak || size % 20 < 2,
  );
  for (const size of sizes) {
    const payload = Buffer.alloc(size, size);
    one.send(udp('10.5.0.2', '10.5.0.3', { payload }));
    two.send(udp('10.5.0.3', '10.5.0.2', { payload }));
    if (size % 64 === 1) await until(() => one.received.length > 0 && two.received.length > 0, 'a datagram');
  }
  await until(
    () => one.received.length === sizes.length && two.received.length === sizes.length,
    'all sizes',
  );
  const sent = sizes.map((size) => udp('10.5.0.3', '10.5.0.2', { payload: Buffer.alloc(size, size) }));
  t.same(Buffer.concat(one.received.splice(0)), Buffer.concat(sent), 'in order, as they were');
  one.send(udp('fd00::2', 'fd00::3'));
  await until(() => two.received.length > sizes.length, 'IPv6');
  t.same(two.received.at(-1), udp('fd00::2', 'fd00::3'));
  const { milliseconds } = await first.relay.ping('10.5.0.3', 60_000);
  t.ok(milliseconds > 0);
  const inOut = first.relay.stats().nic;
  t.equal(inOut.framesOut, sizes.length + 1, 'what the relay sends itself is not the guest’s');
});

t.test('names that another activity has: they are ours as soon as it ends', async (t) => {
  const nodes = new TestNodes(t);
  const [provider, other] = [await nodes.start(A), await nodes.start(B)];
  const before = await RawPeer.connect(t, provider.address);
  for (const name of ['raw', 'VpnPacket', 'VpnControl']) {
    t.equal(await before.register(`/public/vpn/n/${name}`), 0);
  }
  const { relay, guest, records } = await relayAt(t, provider, [at('10.5.0.2')]);
  t.equal(relay.stats().networks[0]?.role, 'waiting');
  const requestor = await TestRequestor.at(t, other, 'n');
  guest.send(udp('10.5.0.2', '10.5.0.1'));
  await until(() => requestor.frames.length === 1, 'a frame of the guest: it needs no names');
  before.socket.destroy();
  await until(() => relay.stats().networks[0]?.role === 'owner', 'the names');
  requestor.push(A, 'n', echo('request', '10.5.0.1', '10.5.0.2'));
  await until(() => requestor.frames.length === 2, 'the echo');
  t.equal(records.filter(({ message }) => message.includes('another activity has')).length, 1);
});

t.test('two VMs of one requestor at one node: the first has the names, and the second follows', async (t) => {
  const nodes = new TestNodes(t);
  const [provider, other] = [await nodes.start(A), await nodes.start(B)];
  const table = { '10.5.0.1': B, '10.5.0.2': A, '10.5.0.3': A };
  const network = (nodeIp: string) => [{ ...FOUR, nodes: table, nodeIp }];
  const options = { requestorId: 'r', siblings: socketFolder(t) };
  const first = await relayAt(t, provider, network('10.5.0.2'), options);
  const second = await relayAt(t, provider, network('10.5.0.3'), options);
  const role = ({ relay }: typeof first) => relay.stats().networks[0]?.role;
  t.same([role(first), role(second)], ['owner', 'sibling']);
  const requestor = await TestRequestor.at(t, other, 'n');
  const echoes = async (from: string) => {
    requestor.push(A, 'n', echo('request', '10.5.0.1', from));
    await until(() => requestor.frames.length > 0, `an echo of ${from}`);
    return formatIp(requestor.frames.splice(0)[0]?.frame.subarray(26, 30) ?? []);
  };
  t.equal(await echoes('10.5.0.2'), '10.5.0.2');
  t.equal(await echoes('10.5.0.3'), '10.5.0.3', 'by way of the first');
  t.equal(first.guest.count, 1, 'which has not seen it');
  t.ok((await second.relay.ping('10.5.0.2', 60_000)).milliseconds > 0);
  t.ok((await first.relay.ping('10.5.0.3', 60_000)).milliseconds > 0);
  t.match(
    second.relay.stats().networks[0]?.peers.find(({ address }) => address === '10.5.0.2'),
    { kind: 'local', nodeId: A },
  );
  const nodesOf = { '10.5.0.9': C };
  const add = { addNodes: { network_id: 'n', nodes: nodesOf } };
  await requestor.gsb.call(`/net/${A}/vpn/n/VpnControl`, add, soon);
  const knows = () => second.relay.stats().networks[0]?.peers.some(({ address }) => address === '10.5.0.9');
  await until(() => knows() === true, 'the change, at the second');
  await first.relay.close();
  await until(() => role(second) === 'owner', 'the names');
  t.equal(await echoes('10.5.0.3'), '10.5.0.3');
});

t.test('VMs of other requestors do not share a network, whatever its name', async (t) => {
  const nodes = new TestNodes(t);
  const provider = await nodes.start(A);
  const siblings = socketFolder(t);
  const first = await relayAt(t, provider, [at('10.5.0.2')], { requestorId: 'r', siblings });
  const second = await relayAt(t, provider, [at('10.5.0.2')], { requestorId: 's', siblings });
  t.equal(second.relay.stats().networks[0]?.role, 'waiting');
  t.match(second.records.map(({ message }) => message).join(), /another activity has/);
  await first.relay.close();
  await until(() => second.relay.stats().networks[0]?.role === 'owner', 'the names');
});

t.test('a bus that restarts', async (t) => {
  const nodes = new TestNodes(t);
  const provider = await nodes.start(A);
  const other = await nodes.start(B);
  const { relay } = await relayAt(t, provider, [at('10.5.0.2')]);
  const requestor = await TestRequestor.at(t, other, 'n');
  await provider.close();
  const again = await nodes.start(A, (provider.address as { path: string }).path);
  await until(() => {
    requestor.push(A, 'n', echo('request', '10.5.0.1', '10.5.0.2'));
    return requestor.count > 0;
  }, 'an echo');
  t.equal(relay.stats().networks[0]?.role, 'owner');
  t.ok(again);
});

t.test('no identity service, no bus', async (t) => {
  const nodes = new TestNodes(t);
  const provider = await nodes.start(A);
  await provider.gsb.unbind('/local/identity/Get');
  await t.rejects(relayAt(t, provider, [at('10.5.0.2')]), { code: 'YAVM_E_GSB_NO_ENDPOINT' });
});

t.test(
  'an ARP storm from a peer, and from the guest: control calls are answered all the while',
  async (t) => {
    const nodes = new TestNodes(t);
    const [provider, other] = [await nodes.start(A), await nodes.start(B)];
    const requestor = await TestRequestor.at(t, other, 'n');
    requestor.forgets = true;
    const { relay, guest } = await relayAt(t, provider, [at('10.5.0.2')]);
    const frames = count(150_000);
    let calls = 0;
    let over = false;
    const callOn = async () => {
      while (!over) {
        const nodes = { '10.5.0.9': C };
        await requestor.gsb.call(
          `/net/${A}/vpn/n/VpnControl`,
          { addNodes: { network_id: 'n', nodes } },
          soon,
        );
        calls++;
      }
    };
    const calling = callOn();
    const start = performance.now();
    let pushed = 0;
    let sent = 0;
    for (let at = 0; at < frames; at++) {
      // Sources of all kinds: they are not learned, and the table does not grow.
      const from = `10.5.0.${at % 250}`;
      if (requestor.push(A, 'n', question(from, '10.5.0.2'))) pushed++;
      if (at % 2 === 0) {
        guest.send(question('10.5.0.2', '10.5.0.1'));
        sent++;
      }
      if (at % 256 === 255) await new Promise(setImmediate);
    }
    const stats = () => relay.stats();
    await until(() => {
      const [network] = stats().networks;
      const full = network?.dropped['guest-full'] ?? 0;
      return stats().nic.framesIn + full >= pushed;
    }, `all ${pushed} frames`);
    const seconds = (performance.now() - start) / 1000;
    over = true;
    await calling;
    t.ok(calls > 1, `${calls} calls`);
    t.comment(`${Math.round((pushed + sent) / seconds)} frames/s, ${calls} control calls meanwhile`);
    t.ok(pushed > frames / 100, `${pushed} of ${frames} were taken by the bus`);
    t.ok((stats().networks[0]?.peers.length ?? 99) <= 4, 'nothing was learned');
    requestor.forgets = false;
    requestor.push(A, 'n', echo('request', '10.5.0.1', '10.5.0.2'));
    await until(() => requestor.frames.some(({ frame }) => frame.length === 98), 'an echo afterwards');
  },
);
