import t from 'tap';
import { decodeBody } from '../../host/gsb/body.ts';
import { PacketDecoder } from '../../host/gsb/packet.ts';
import { flexList, flexMap } from '../../host/gsb/values.ts';
import { describeError } from '../../host/lib/errors.ts';
import {
  checkNetworks,
  MAX_NETWORKS,
  MAX_NODES,
  type NetworkSource,
  parseNetworks,
} from '../../host/network/vpn/networks.ts';
import { noRecordings, readRecording } from '../lib/gsb-recordings.ts';

const BB = `0x${'0'.repeat(38)}bb`;
const CC = `0x${'0'.repeat(38)}cc`;

function source(change: Partial<NetworkSource> = {}): NetworkSource {
  return { id: 'n', ip: '192.168.8.0', nodeIp: '192.168.8.7', nodes: {}, ...change };
}

/** As the requestor reads it, hints left out. */
function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return describeError(error).replace(/\n[\s\S]*$/, '');
  }
  return 'nothing was refused';
}

t.test('networks of upstream: address with prefix or mask, host bits kept', async (t) => {
  const range = (change: Partial<NetworkSource>) => {
    const [{ address, prefix } = { address: '', prefix: 0 }] = parseNetworks([source(change)]);
    return `${address}/${prefix}`;
  };
  t.equal(range({}), '192.168.8.0/24', 'the default mask');
  t.equal(range({ ip: '192.168.8.9/20' }), '192.168.8.9/20');
  t.equal(range({ ip: '192.168.8.9/20', mask: '255.0.0.0' }), '192.168.8.9/20', 'the prefix counts');
  t.equal(range({ mask: '255.255.240.0' }), '192.168.8.0/20');
  t.equal(range({ mask: '255.0.255.0' }), '192.168.8.0/8', 'leading ones');
  t.equal(range({ mask: '' }), '192.168.8.0/24');
  t.equal(range({ ip: '0.0.0.0/0' }), '0.0.0.0/0');
  t.equal(range({ ip: '10.0.0.1/32' }), '10.0.0.1/32');
  t.equal(range({ ip: 'FD00:0::/64', nodeIp: 'fd00::1' }), 'fd00::/64');
  t.equal(range({ ip: 'fd00::5', nodeIp: 'fd00::1' }), 'fd00::5/64');
  t.equal(range({ ip: 'fd00::', mask: 'ffff:ff00::', nodeIp: 'fd00::1' }), 'fd00::/24');
});

t.test('addresses in one spelling, node ids in lower case, no gateway that is none', async (t) => {
  const nodes = { '192.168.8.1': BB.toUpperCase().replace('0X', '0x'), '192.168.8.7': CC };
  const [network] = parseNetworks([source({ gateway: '192.168.8.1', nodes })]);
  t.same(
    { ...network, nodes: { ...network?.nodes } },
    {
      ...{ id: 'n', address: '192.168.8.0', prefix: 24, nodeIp: '192.168.8.7', gateway: '192.168.8.1' },
      nodes: { '192.168.8.1': BB, '192.168.8.7': CC },
    },
  );
  t.notOk('gateway' in (parseNetworks([source({ gateway: '' })])[0] ?? {}));
  const twice = { 'fd00::1': BB, 'fd00:0::1': BB };
  const [six] = parseNetworks([source({ ip: 'fd00::/64', nodeIp: 'fd00::a', nodes: twice })]);
  t.same(Object.entries(six?.nodes ?? {}), [['fd00::1', BB]], 'the same pair twice');
});

const REFUSED_AT_DEPLOY: [change: Partial<NetworkSource>, text: string][] = [
  ...[
    { ip: 'bad' },
    { ip: '' },
    { ip: '192.168.8.0/33' },
    { ip: '192.168.8.0/' },
    { ip: '192.168.8.0/2x' },
    { ip: '192.168.8.0/24/24' },
    { ip: '192.168.8.0/-1' },
    { ip: '1.2.3' },
    { ip: 'fd00::/129' },
    { ip: 'fe80::1%eth0/64' },
    { mask: 'x' },
    { mask: 'ffff::' },
    { nodeIp: 'x' },
    { nodeIp: '192.168.8.7/24' },
    { gateway: 'x' },
    { nodes: { x: BB } },
  ].map((change): [Partial<NetworkSource>, string] => [
    change,
    'Invalid IP address: invalid IP address syntax (YAVM_E_NET_ADDRESS)',
  ]),
  ...['127.0.0.1', '127.255.0.1', '0.0.0.0', '224.0.0.1', '239.255.255.255', '255.255.255.255', '::', '::1']
    .concat('ff02::1')
    .map((address): [Partial<NetworkSource>, string] => [
      { nodes: { [address]: BB } },
      `IP address not allowed: ${address} (YAVM_E_NET_ADDRESS)`,
    ]),
  [{ nodeIp: '127.0.0.1' }, 'IP address not allowed: 127.0.0.1 (YAVM_E_NET_ADDRESS)'],
  [{ nodes: { '192.168.8.1': 'bb' } }, "Invalid node id: 'bb' (YAVM_E_NET_NODE)"],
  [{ nodes: { '192.168.8.1': `${BB}0` } }, `Invalid node id: '${BB}0' (YAVM_E_NET_NODE)`],
  [{ nodes: { '192.168.8.1': `${BB}/../x` } }, `Invalid node id: '${BB}/../x' (YAVM_E_NET_NODE)`],
  [
    { ip: 'fd00::', nodes: { 'fd00::1': BB, 'fd00:0::1': CC } },
    'IP address is taken: fd00::1 (YAVM_E_NET_TAKEN)',
  ],
  [{ id: '' }, "Invalid network id: '' (YAVM_E_NET_NETWORK)"],
  [{ id: 'a/b' }, "Invalid network id: 'a/b' (YAVM_E_NET_NETWORK)"],
  [{ id: 'a b' }, "Invalid network id: 'a b' (YAVM_E_NET_NETWORK)"],
];

for (const [change, text] of REFUSED_AT_DEPLOY) {
  t.test(`refused at deploy: ${JSON.stringify(change)}`, async (t) => {
    t.equal(
      refusal(() => parseNetworks([source(change)])),
      text,
    );
  });
}

t.test('bounds', async (t) => {
  const many = (count: number) => Array.from({ length: count }, (_, at) => source({ id: `n${at}` }));
  t.equal(parseNetworks(many(MAX_NETWORKS)).length, MAX_NETWORKS);
  t.match(
    refusal(() => parseNetworks(many(MAX_NETWORKS + 1))),
    /33 networks.*YAVM_E_NET_NETWORK/,
  );
  const nodes = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`10.0.${at >> 8}.${at & 255}`, BB]));
  t.equal(parseNetworks([source({ nodes: nodes(MAX_NODES) })]).length, 1);
  t.match(
    refusal(() => parseNetworks([source({ nodes: nodes(MAX_NODES + 1) })])),
    /4097 nodes.*YAVM_E_NET_NETWORK/,
  );
});

const REFUSED_AT_START: [name: string, networks: Partial<NetworkSource>[], text: string][] = [
  [
    'a node outside',
    [{ nodes: { '10.1.1.1': BB } }],
    'Invalid network IP address: 10.1.1.1 (YAVM_E_NET_ADDRESS)',
  ],
  ['a node of another family', [{ nodes: { 'fd00::1': BB } }], /fd00::1.*YAVM_E_NET_ADDRESS/.source],
  [
    'own address outside',
    [{ nodeIp: '10.0.0.1' }],
    'Invalid network IP address: 10.0.0.1 (YAVM_E_NET_ADDRESS)',
  ],
  ['own address of another family', [{ nodeIp: 'fd00::1' }], /fd00::1.*YAVM_E_NET_ADDRESS/.source],
  [
    'a range within',
    [{ id: 'm', ip: '192.168.8.0/25' }, {}],
    'Network IP address taken: 192.168.8.0 (YAVM_E_NET_TAKEN)',
  ],
  ['a range around', [{ id: 'm' }, { ip: '192.168.8.77/25' }], /192\.168\.8\.0 .YAVM_E_NET_TAKEN/.source],
  ['the same range', [{ id: 'm' }, {}], 'Network IP address taken: 192.168.8.0 (YAVM_E_NET_TAKEN)'],
  [
    'everything',
    [{ id: 'm' }, { ip: '1.0.0.0/0', nodeIp: '1.2.3.4' }],
    /0\.0\.0\.0 .YAVM_E_NET_TAKEN/.source,
  ],
  ['the same id', [{}, { ip: '10.0.0.0', nodeIp: '10.0.0.1' }], 'Network id taken: n (YAVM_E_NET_TAKEN)'],
].map(([name, networks, text]) => [name, networks, text] as [string, Partial<NetworkSource>[], string]);

for (const [name, networks, text] of REFUSED_AT_START) {
  t.test(`refused at start: ${name}`, async (t) => {
    const parsed = parseNetworks(networks.map(source));
    const found = refusal(() => checkNetworks(parsed));
    t.ok(found === text || new RegExp(text).test(found), found);
  });
}

t.test('networks that are apart, of both families', async (t) => {
  const networks = [
    source({ nodes: { '192.168.8.255': BB, '192.168.8.0': CC } }),
    source({ id: 'm', ip: '192.168.9.0', nodeIp: '192.168.9.7' }),
    source({ id: '6', ip: 'fd00::/64', nodeIp: 'fd00::7', nodes: { 'fd00::1': BB } }),
    source({ id: '66', ip: 'fd00:0:0:1::/64', nodeIp: 'fd00:0:0:1::7' }),
  ];
  t.doesNotThrow(() => checkNetworks(parseNetworks(networks)));
});

t.test('upstream’s own words, from its recordings', { skip: noRecordings }, async (t) => {
  t.same(await replay(t, 'vpn-errors'), [
    'Invalid IP address: invalid IP address syntax',
    'Invalid IP address: invalid IP address syntax',
    'IP address not allowed: 127.0.0.1',
    // Upstream asks for its id before it looks at what start refuses, and gets no answer.
    'Gsb error: Bad request: endpoint address not found → Invalid network IP address: 10.1.1.1',
  ]);
  t.same(await replay(t, 'vpn-start-errors'), [
    'Gsb error: Bad request: endpoint address not found → nothing was refused',
    'Invalid network IP address: 10.1.1.1',
    'Network IP address taken: 192.168.8.0',
    // A network of an earlier deployment was still there.
    'Network IP address taken: 192.168.8.0 → nothing was refused',
  ]);
});

/** The recorded message of each batch with networks; where ours differs, both. */
async function replay(t: Tap, name: string): Promise<string[]> {
  const decoders = new Map<string, PacketDecoder>();
  const deployed: NetworkSource[][] = [];
  const messages: string[] = [];
  for (const { dir, frame } of readRecording(name)) {
    if (frame === undefined) continue;
    const decoder = decoders.get(dir) ?? new PacketDecoder();
    decoders.set(dir, decoder);
    for (const packet of decoder.push(frame)) {
      if (packet.kind === 'callRequest' && packet.address.endsWith('/Exec')) {
        const commands = flexList(flexMap(decodeBody(packet.data))?.exeScript) ?? [];
        const nets = commands.map((command) => flexMap(flexMap(command)?.deploy)?.net).find(Boolean);
        if (nets !== undefined) deployed.push(nets as unknown as NetworkSource[]);
      } else if (packet.kind === 'callReply' && packet.code === 0 && packet.data.length > 0) {
        const results = flexList(flexMap(decodeBody(packet.data))?.Ok) ?? [];
        const message = flexMap(results.at(-1))?.message;
        if (typeof message === 'string') messages.push(message.replace('Net error: ', ''));
      }
    }
  }
  t.equal(deployed.length, messages.length);
  return deployed.map((networks, index) => {
    const sources = networks.map((network) => ({ ...network, mask: network.mask ?? undefined }));
    const ours = refusal(() => checkNetworks(parseNetworks(sources))).replace(/ \(YAVM_.*$/, '');
    return ours === messages[index] ? ours : `${messages[index]} → ${ours}`;
  });
}

type Tap = Pick<typeof t, 'equal'>;
