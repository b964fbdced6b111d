/** Who has which address: the requestor's word, what frames teach, and what VMs of this host say. */
import t from 'tap';
import { formatIp, ipv4Bytes, parseIp } from '../../host/network/frame/address.ts';
import { AddressTable } from '../../host/network/vpn/address-table.ts';
import { MAX_NODES, parseNetworks } from '../../host/network/vpn/networks.ts';
import { MAX_LEARNED, VpnTable } from '../../host/network/vpn/table.ts';
import { Random } from '../lib/random.ts';
import { nodeId } from '../lib/vpn-frames.ts';

const ME = nodeId('aa');
const [BB, CC, DD] = ['bb', 'cc', 'dd'].map(nodeId) as [string, string, string];

t.test('addresses of both families are found, whatever else is there and was', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const table = new AddressTable<string>();
  const model = new Map<string, string>();
  // Few addresses, so that they meet, leave and come back; all bits used, the highest too.
  const addresses = Array.from({ length: 300 }, () => random.bytes(random.chance(2) ? 4 : 16));
  for (let round = 0; round < 20_000; round++) {
    const address = random.pick(addresses);
    const text = formatIp(address);
    if (random.chance(3)) {
      table.delete(address);
      model.delete(text);
    } else if (random.chance(2)) {
      table.set(address, `${round}`);
      model.set(text, `${round}`);
    }
    if (table.get(address) !== model.get(text)) t.fail(`${text} in round ${round}`);
  }
  t.equal(table.size, model.size);
  t.same([...table.values()].sort(), [...model.values()].sort());
  const memory = new Uint8Array(40).fill(9);
  for (const address of addresses) {
    memory.set(address, 11);
    const found = address.length === 4 ? table.find4(memory, 11) : table.find6(memory, 11);
    if (found !== model.get(formatIp(address))) t.fail(`${formatIp(address)}, where it lies`);
  }
});

function setUp(nodes: Record<string, string> = { '10.5.0.1': BB }) {
  const pushers: string[] = [];
  const networks = parseNetworks([
    { id: 'n', ip: '10.5.0.0/16', nodeIp: '10.5.0.2', nodes },
    { id: 'six', ip: 'fd00::/64', nodeIp: 'fd00::2', nodes: {} },
  ]);
  const table = new VpnTable(networks, ME, (node, network) => {
    pushers.push(`${node} ${network}`);
    return { push: () => true };
  });
  const network = table.network('n');
  /** `address kind node` of each, the VM's own left out. */
  const peers = (id = 'n') =>
    table
      .stats(table.network(id))
      .filter(({ kind }) => kind !== 'self')
      .map(({ address, kind, nodeId: node }) => `${address} ${kind} ${node.slice(-2)}`);
  const learn = (address: string, caller: string, now = 0) => {
    const bytes = parseIp(address);
    const of = bytes.length === 4 ? network : table.network('six');
    const memory = Buffer.concat([Buffer.alloc(7), bytes]);
    const peer = table.learn(of, memory, 7, bytes.length === 4 ? 4 : 6, caller, now);
    // A Buffer's memory is used again.
    memory.fill(0);
    return peer;
  };
  const fanOut = (id = 'n') =>
    table
      .network(id)
      .fanOut.map(({ node }) => node?.id.slice(-2))
      .sort();
  const failure = (work: () => void) => {
    try {
      work();
    } catch (error) {
      return (error as Error).message;
    }
    return 'nothing failed';
  };
  return { table, network, pushers, peers, learn, fanOut, failure };
}

t.test('nodes are added in order, up to the first that cannot be', async (t) => {
  const { table, peers, fanOut, failure, pushers } = setUp();
  table.add('n', { '10.5.0.3': CC, '10.5.0.4': CC.toUpperCase().replace('0X', '0x') });
  table.add('n', { '10.5.0.3': CC, '10.5.0.1': BB });
  t.same(
    peers(),
    ['10.5.0.1 node bb', '10.5.0.3 node cc', '10.5.0.4 node cc'],
    'the same pair again is fine',
  );
  t.same(fanOut(), ['bb', 'cc'], 'a node with two addresses gets one copy');
  t.equal(
    failure(() => table.add('n', { '10.5.0.6': DD, '10.5.0.3': DD, '10.5.0.7': DD })),
    'IP address is taken: 10.5.0.3',
  );
  t.same(peers().slice(3), ['10.5.0.6 node dd'], 'what came before stays');
  const refused: [Record<string, string>, string][] = [
    [{ '10.6.0.1': DD }, 'Invalid network IP address: 10.6.0.1'],
    [{ 'fd00::1': DD }, 'Invalid network IP address: fd00::1'],
    [{ '10.5.0.2': DD }, 'IP address is taken: 10.5.0.2'],
    [{ '127.0.0.1': DD }, 'IP address not allowed: 127.0.0.1'],
    [{ x: DD }, 'Invalid IP address: invalid IP address syntax'],
    [{ '10.5.0.8': 'dd' }, "Invalid node id: 'dd'"],
  ];
  for (const [nodes, text] of refused)
    t.equal(
      failure(() => table.add('n', nodes)),
      text,
    );
  t.equal(
    failure(() => table.add('m', { '10.5.0.8': DD })),
    'Network not found',
  );
  t.equal(
    failure(() => table.remove('m', [DD])),
    'Network not found',
  );
  t.same(pushers, [`${BB} n`, `${CC} n`, `${DD} n`], 'one way to a node and network');
});

t.test('nodes are removed with all their addresses, and come back', async (t) => {
  const { table, peers, fanOut } = setUp({ '10.5.0.1': BB, '10.5.0.3': CC, '10.5.0.4': CC, '10.5.0.9': ME });
  table.remove('n', [CC.toUpperCase(), nodeId('77'), 'nonsense']);
  t.same(peers(), ['10.5.0.1 node bb']);
  t.same(fanOut(), ['bb']);
  table.add('n', { '10.5.0.4': DD });
  t.same(fanOut(), ['bb', 'dd']);
  const own = () =>
    table
      .stats(table.network('n'))
      .filter(({ kind }) => kind === 'self')
      .map(({ address }) => address);
  t.same(own(), ['10.5.0.2', '10.5.0.9']);
  table.remove('n', [ME]);
  t.same(own(), ['10.5.0.2'], 'the VM keeps what its NIC has');
  table.add('n', { '10.5.0.9': ME, '10.5.0.2': ME });
  t.same(own(), ['10.5.0.2', '10.5.0.9']);
});

t.test('the VM has its own address, whatever the deployment says of it', async (t) => {
  const { table } = setUp({ '10.5.0.2': BB });
  t.match(table.stats(table.network('n')), [{ address: '10.5.0.2', kind: 'self', nodeId: ME }]);
});

t.test('addresses are learned from callers that nobody told of', async (t) => {
  const { peers, learn, fanOut } = setUp();
  t.ok(learn('10.5.0.7', CC));
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.7 learned cc']);
  t.same(fanOut(), ['bb', 'cc']);
  t.equal(learn('10.5.0.8', CC), null, 'one for each caller');
  t.equal(learn('10.5.0.8', BB), null, 'not from a node that has one');
  t.equal(learn('10.6.0.1', DD), null, 'not outside');
  t.equal(learn('10.5.255.255', DD), null, 'not the broadcast address');
  t.equal(learn('10.5.0.0', DD), null, 'not the network’s');
  t.equal(learn('10.5.0.8', ME), null, 'not from this node');
  for (const caller of ['local', '', '0xdd', DD.toUpperCase(), `${DD}/x`])
    t.equal(learn('10.5.0.8', caller), null);
  t.ok(learn('fd00::7', CC), 'in another network');
  t.same(peers('six'), ['fd00::7 learned cc']);
});

t.test('what the requestor says wins over what was learned, and never the other way', async (t) => {
  const { table, peers, learn } = setUp();
  learn('10.5.0.7', CC);
  table.add('n', { '10.5.0.7': DD });
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.7 node dd']);
  learn('10.5.0.8', CC);
  table.add('n', { '10.5.0.8': CC });
  t.same(peers().at(-1), '10.5.0.8 node cc', 'the same pair: told now');
  table.remove('n', [CC]);
  t.ok(learn('10.5.0.8', CC));
  table.remove('n', [CC]);
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.7 node dd'], 'learned ones go, too');
});

t.test('learned addresses are bounded; who is silent makes room', async (t) => {
  const { network, learn } = setUp();
  const learnMany = (first: number, count: number, now: number) => {
    let learned = 0;
    for (let at = first; at < first + count; at++) {
      const peer = learn(formatIp(ipv4Bytes(0x0a050100 + at)), nodeId(`${at}`), now);
      if (peer) peer.lastSeen = now;
      if (peer) learned++;
    }
    return learned;
  };
  t.equal(learnMany(0, MAX_LEARNED + 10, 100_000), MAX_LEARNED);
  t.equal(learnMany(5000, 10, 150_000), 0, 'all are in use');
  t.equal(learnMany(6000, 10, 170_000), 10, 'none was, for a minute');
  t.equal(network.counts.learned, 10);
});

t.test('nodes are bounded', async (t) => {
  const { table, failure } = setUp();
  const nodes = (first: number, count: number) =>
    Object.fromEntries(
      Array.from({ length: count }, (_, at) => [formatIp(ipv4Bytes(0x0a050100 + first + at)), CC]),
    );
  table.add('n', nodes(0, MAX_NODES - 2));
  t.match(
    failure(() => table.add('n', nodes(MAX_NODES, 1))),
    /at most 4096 nodes/,
  );
});

t.test('VMs of this host', async (t) => {
  const { table, network, peers, learn } = setUp({ '10.5.0.1': BB, '10.5.0.9': ME });
  table.setLocal(network, ['10.5.0.9', '10.5.0.50', '10.5.0.51']);
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.9 local aa', '10.5.0.50 local aa', '10.5.0.51 local aa']);
  t.equal(learn('10.5.0.50', CC), null, 'a local address is not free');
  table.add('n', { '10.5.0.51': CC });
  t.same(peers().at(-1), '10.5.0.51 node cc', 'the requestor’s word wins');
  t.equal(network.locals, 2);
  table.setLocal(network, ['10.5.0.50', '10.5.0.51']);
  t.same(
    peers(),
    ['10.5.0.1 node bb', '10.5.0.50 local aa', '10.5.0.51 node cc'],
    '.9 is the VM’s own again',
  );
  table.setLocal(network, []);
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.51 node cc']);
  t.equal(network.locals, 0);
  table.remove('n', [CC]);
  table.setLocal(network, ['10.5.0.9']);
  table.remove('n', [ME]);
  t.same(peers(), ['10.5.0.1 node bb', '10.5.0.9 local aa'], 'it is there, whatever the requestor says');
});
