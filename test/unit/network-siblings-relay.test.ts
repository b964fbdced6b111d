/** Relays of one requestor on one host, on the embedded node's bus: what only the owner hears of, all know. */
import t from 'tap';
import { formatIp } from '../../host/network/frame/address.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { echo, nodeId } from '../lib/vpn-frames.ts';
import { type RelayAt, relayAt, TestNodes, TestRequestor, until } from '../lib/vpn-nodes.ts';

const [ME, STRANGER] = ['aa', 'bb'].map(nodeId) as [string, string];

t.test('nodes that nobody told of are learned by all, late ones too', async (t) => {
  const nodes = new TestNodes(t);
  const [provider, other] = [await nodes.start(ME), await nodes.start(STRANGER)];
  const options = { requestorId: 'r', siblings: socketFolder(t) };
  const open = (nodeIp: string) =>
    relayAt(t, provider, [{ id: 'n', ip: '10.5.0.0/24', nodeIp, nodes: {} }], options);
  const stranger = await TestRequestor.at(t, other, 'n');
  const echoes = async (from: string) => {
    stranger.push(ME, 'n', echo('request', '10.5.0.77', from));
    await until(() => stranger.frames.length > 0, `an echo of ${from}`);
    return formatIp(stranger.frames.splice(0)[0]?.frame.subarray(26, 30) ?? []);
  };
  const knows = ({ relay }: RelayAt) =>
    relay.stats().networks[0]?.peers.find(({ address }) => address === '10.5.0.77')?.kind;
  await open('10.5.0.2');
  const second = await open('10.5.0.3');
  t.equal(await echoes('10.5.0.3'), '10.5.0.3', 'by way of the owner, which learns and tells');
  t.equal(knows(second), 'learned');
  const third = await open('10.5.0.4');
  await until(() => knows(third) === 'learned', 'what was learned before');
  t.equal(await echoes('10.5.0.4'), '10.5.0.4');
  t.equal(await echoes('10.5.0.2'), '10.5.0.2');
});

t.test('a change that makes no sense ends no sibling', async (t) => {
  const nodes = new TestNodes(t);
  const [provider, other] = [await nodes.start(ME), await nodes.start(STRANGER)];
  const options = { requestorId: 'r', siblings: socketFolder(t) };
  const network = (nodeIp: string) => [
    { id: 'n', ip: '10.5.0.0/24', nodeIp, nodes: { '10.5.0.9': STRANGER } },
  ];
  await relayAt(t, provider, network('10.5.0.2'), options);
  const { relay, records } = await relayAt(t, provider, network('10.5.0.3'), options);
  const requestor = await TestRequestor.at(t, other, 'n');
  const add = (pairs: Record<string, string>) =>
    requestor.gsb
      .call(
        `/net/${ME}/vpn/n/VpnControl`,
        { addNodes: { network_id: 'n', nodes: pairs } },
        { deadline: 60_000 },
      )
      .catch(() => {});
  await add({ 'no address': 'no id' });
  await add({ ['1'.repeat(500)]: '2'.repeat(500) });
  await add({ '10.5.0.8': STRANGER, '10.9.0.1': STRANGER });
  const addresses = () => relay.stats().networks[0]?.peers.map(({ address }) => address);
  await until(() => addresses()?.includes('10.5.0.8') === true, 'the part that made sense');
  t.same(addresses(), ['10.5.0.2', '10.5.0.3', '10.5.0.8', '10.5.0.9']);
  t.equal(relay.stats().networks[0]?.role, 'sibling');
  t.same(
    records.filter(({ level }) => level === 'warn'),
    [],
  );
});
