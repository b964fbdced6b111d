/** A supervisor's endpoints and its network requests: what is understood, what is refused, and what a guest is told. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import t from 'tap';
import { decodeRequest, encodeMessage } from '../../guest/protocol/codec.ts';
import {
  type EndpointUrl,
  openEndpoint,
  openEndpoints,
  parseEndpoint,
} from '../../host/runtime-api/endpoint.ts';
import type { ApiNetwork, NetworkInterface } from '../../host/runtime-api/messages.ts';
import {
  bareLinks,
  inetMtu,
  type NetworkState,
  noNetworks,
  planNetwork,
} from '../../host/runtime-api/networks.ts';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';

const native = loadNative() as HostNative;

// ---------------------------------------------------------------- endpoints

t.test('an endpoint is read strictly', async (t) => {
  t.strictSame(parseEndpoint('udp://127.0.0.1:35389'), { kind: 'udp', address: '127.0.0.1', port: 35389 });
  t.strictSame(parseEndpoint('tcp-connect://10.1.2.3:65535'), {
    kind: 'tcp-connect',
    address: '10.1.2.3',
    port: 65535,
  });
  t.strictSame(parseEndpoint('tcp-listen://127.0.0.1:0'), {
    kind: 'tcp-listen',
    address: '127.0.0.1',
    port: 0,
  });
  const bad: [string, RegExp][] = [
    ['', /no endpoint/],
    ['127.0.0.1:5', /no endpoint/],
    ['udp:127.0.0.1:5', /no endpoint/],
    ['UDP://127.0.0.1:5', /no endpoint/],
    ['unix:///run/x.sock', /Unix sockets are not supported/],
    ['tcp://127.0.0.1:5', /kind 'tcp' are not supported/],
    ['udp://localhost:5', /no IPv4 address/],
    ['udp://[::1]:5', /no IPv4 address/],
    ['udp://127.0.0.1', /no IPv4 address/],
    ['udp://127.0.0.1:', /no IPv4 address/],
    ['udp://127.0.0.1:5/', /no IPv4 address/],
    ['udp://127.0.0.1:5\n', /no IPv4 address/],
    ['udp://127.0.0.01:5', /no IPv4 address/],
    ['udp://a@127.0.0.1:5', /no IPv4 address/],
    ['udp://127.0.0.1:-5', /no IPv4 address/],
    ['udp://127.0.0.1:123456', /no IPv4 address/],
    ['udp://127.0.0.1:65536', /no port/],
    ['udp://127.0.0.1:0', /port 0/],
    ['tcp-connect://127.0.0.1:0', /port 0/],
    ['udp://192.168.1.1:5', /loopback/],
    ['tcp-listen://0.0.0.0:0', /loopback/],
  ];
  for (const [text, message] of bad) {
    t.throws(() => parseEndpoint(text), { code: 'YAVM_E_USAGE', message, hint: /udp:/ }, text);
  }
});

t.test('UDP: our port is told, and only the supervisor is heard', async (t) => {
  const [supervisor, stranger] = [createSocket('udp4'), createSocket('udp4')];
  for (const socket of [supervisor, stranger]) {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
  }
  const url: EndpointUrl = { kind: 'udp', address: '127.0.0.1', port: supervisor.address().port };
  const { nic, answer } = await openEndpoint(url, native);
  t.teardown(() => native.close(nic.fd));
  t.teardown(() => {
    supervisor.close();
    stranger.close();
  });
  t.equal(nic.kind, 'datagram');
  t.match(answer, { kind: 'udp-datagram', address: /^127\.0\.0\.1:\d+$/ });
  const port = Number('address' in answer && answer.address.split(':')[1]);

  const frame = Buffer.from('a frame of Ethernet');
  await new Promise((sent) => stranger.send(frame, port, '127.0.0.1', sent));
  // QEMU would take an empty one for the end.
  for (const length of [0, 1, 13]) {
    await new Promise((sent) => supervisor.send(frame.subarray(0, length), port, '127.0.0.1', sent));
  }
  await new Promise((sent) => supervisor.send(frame, port, '127.0.0.1', sent));
  await new Promise((sent) => supervisor.send(frame.subarray(0, 14), port, '127.0.0.1', sent));
  const [into, lengths] = [new Uint8Array(4096), new Uint32Array(4)];
  const came: number[] = [];
  while (came.length < 2) {
    const count = native.receiveDatagrams(nic.fd, into, 1024, lengths);
    came.push(...lengths.subarray(0, count));
    await new Promise(setImmediate);
  }
  t.strictSame(came, [frame.length, 14]);
  const back = once(supervisor, 'message');
  native.sendDatagrams(nic.fd, Buffer.from('back'), Uint32Array.of(0), Uint32Array.of(4), 0, 1);
  const [bytes, from] = await back;
  t.strictSame([bytes.toString(), from.port], ['back', port]);
});

t.test('TCP: connected, or listening for the supervisor', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection');
  const out = await openEndpoint({ kind: 'tcp-connect', address: '127.0.0.1', port }, native);
  t.strictSame(out.answer, { kind: 'tcp-stream', address: `127.0.0.1:${port}` });
  t.equal(out.nic.kind, 'stream');
  const [socket] = await accepted;
  socket.destroy();
  native.close(out.nic.fd);

  const listening = await openEndpoint({ kind: 'tcp-listen', address: '127.0.0.1', port: 0 }, native);
  t.teardown(() => native.close(listening.nic.fd));
  t.equal(listening.nic.kind, 'stream-listener');
  t.match(listening.answer, { kind: 'tcp-stream', address: /^127\.0\.0\.1:[1-9]\d*$/ });
  const at = Number('address' in listening.answer && listening.answer.address.split(':')[1]);
  const client = connect(at, '127.0.0.1');
  t.teardown(() => client.destroy());
  await once(client, 'connect');
});

t.test('who is not there: a named error, and nothing stays open', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const inet: EndpointUrl = { kind: 'tcp-connect', address: '127.0.0.1', port };
  const vpn: EndpointUrl = { kind: 'tcp-listen', address: '127.0.0.1', port: 0 };
  const closed: number[] = [];
  const watched = {
    ...(Object.fromEntries(
      (['udpConnect', 'tcpConnect', 'tcpListen', 'sendBytes'] as const).map((name) => [
        name,
        native[name].bind(native),
      ]),
    ) as Partial<HostNative>),
    close(fd: number) {
      closed.push(fd);
      native.close(fd);
    },
  } as HostNative;
  await t.rejects(openEndpoints({ vpn, inet }, watched), {
    code: 'YAVM_E_NET_ENDPOINT',
    message: `tcp-connect://127.0.0.1:${port}: cannot be opened`,
  });
  t.equal(closed.length, 2, "the one's listening socket, and the other's that found nobody");
  const given = AbortSignal.abort(new Error('given up'));
  // Connecting, for as long as anybody asks.
  const never = { tcpConnect: () => native.tcpListen()[0], sendBytes: () => -1, close: watched.close };
  await t.rejects(openEndpoint(inet, never as unknown as HostNative, given), { message: 'given up' });
  t.equal(closed.length, 3);
});

// ---------------------------------------------------------------- requests

const STARTED = noNetworks({ vpn: 'datagram', inet: 'datagram' });
const VPN: ApiNetwork = {
  address: '192.168.8.0',
  gateway: '192.168.8.1',
  mask: '255.255.255.0',
  interfaceAddress: '192.168.8.7',
};
const INET: ApiNetwork = {
  address: '10.42.42.1',
  gateway: '10.42.42.1',
  mask: '255.255.255.0',
  interfaceAddress: '10.42.42.2',
};

function plan(state: NetworkState, name: NetworkInterface, networks: ApiNetwork[], hosts = {}) {
  const planned = planNetwork(state, { interface: name, networks, hosts });
  // What the guest would refuse as no message at all.
  decodeRequest(encodeMessage({ id: 1, op: 'network', network: planned.spec }));
  return planned;
}

t.test('links at the start: in their places, with names, without addresses', async (t) => {
  const [vpn, inet] = bareLinks(STARTED);
  t.strictSame(vpn, { mac: '90:13:00:00:00:01', name: 'eth0', mtu: 1220, addresses: [] });
  t.strictSame(inet, { mac: '90:13:00:00:00:02', name: 'eth1', mtu: 65_493, addresses: [] });
  t.strictSame(bareLinks(noNetworks({ inet: 'stream' })), [{ ...inet, mtu: 65_521 }], 'alone it is eth1 too');
  t.strictSame(bareLinks(noNetworks({})), []);
});

t.test('MTU: the largest frame fits into what carries it', async (t) => {
  t.equal(inetMtu('datagram') + 14, 65_507);
  t.equal(inetMtu('stream'), 65_521);
  t.equal(inetMtu('stream-listener'), 65_521);
});

t.test('a VPN: address, MAC and names; no route but its own', async (t) => {
  const { spec } = plan(STARTED, 'vpn', [VPN], { db: '192.168.8.9' });
  t.strictSame(spec, {
    links: [
      {
        mac: '90:13:00:00:00:01',
        setMac: '90:13:c0:a8:08:07',
        name: 'eth0',
        mtu: 1220,
        addresses: ['192.168.8.7/24'],
      },
    ],
    hosts: { db: '192.168.8.9' },
  });
});

t.test('INET: the default route, and the resolvers that upstream has', async (t) => {
  const { spec } = plan(STARTED, 'inet', [INET]);
  t.match(spec, {
    links: [
      {
        setMac: '90:13:0a:2a:2a:02',
        name: 'eth1',
        addresses: ['10.42.42.2/24'],
        routes: [{ to: 'default', via: '10.42.42.1' }],
      },
    ],
    nameservers: ['1.1.1.1', '8.8.8.8'],
  });
  const { spec: without } = plan(STARTED, 'inet', [{ ...INET, gateway: '' }]);
  t.equal(without.links?.[0]?.routes, undefined);
});

t.test('requests add up, and a repeated one is no error', async (t) => {
  const first = plan(STARTED, 'vpn', [VPN], { a: '192.168.8.1', b: '192.168.8.2' });
  const again = plan(first.state, 'vpn', [VPN, VPN], { a: '192.168.8.1' });
  t.strictSame(again.spec, first.spec);
  const ipv6 = {
    address: 'fd00:5::',
    gateway: '',
    mask: 'ffff:ffff:ffff:ffff::',
    interfaceAddress: 'fd00:5:0::7',
  };
  const more = plan(
    again.state,
    'vpn',
    [
      { ...VPN, mask: '255.255.255.128' },
      { ...VPN, address: '10.0.0.0', interfaceAddress: '10.0.0.7' },
      ipv6,
    ],
    { b: '10.0.0.2', c: '10.0.0.3' },
  );
  t.strictSame(more.spec.links, [
    {
      mac: '90:13:00:00:00:01',
      setMac: '90:13:c0:a8:08:07',
      name: 'eth0',
      mtu: 1280,
      addresses: ['192.168.8.7/24', '192.168.8.7/25', '10.0.0.7/24', 'fd00:5::7/64'],
    },
  ]);
  t.strictSame(more.spec.hosts, { a: '192.168.8.1', b: '10.0.0.2', c: '10.0.0.3' });
  const inet = plan(more.state, 'inet', [INET]);
  t.strictSame(
    inet.spec.links?.map(({ name }) => name),
    ['eth1'],
    "the other's link is left alone",
  );
  t.strictSame(inet.spec.hosts, more.spec.hosts);
  const names = plan(inet.state, 'vpn', [], { d: '10.0.0.4' });
  t.equal(Object.keys(names.spec.hosts ?? {}).length, 4, 'a request may be of names alone');
});

t.test('what makes no sense is refused, and says which field', async (t) => {
  const cases: [string, Partial<ApiNetwork>, RegExp][] = [
    ['no address', { address: '' }, /addr: '' is no IP address/],
    ['no address at all', { address: 'x'.repeat(5000) }, /addr: 'x{100}' is no IP address/],
    ['a gateway that is none', { gateway: '192.168.8' }, /gateway: '192\.168\.8'/],
    ['no mask', { mask: '' }, /mask: ''/],
    ['a prefix for a mask', { mask: '24' }, /mask: '24'/],
    ['a mask with a hole', { mask: '255.0.255.0' }, /no netmask/],
    ['a mask of IPv6', { mask: 'ffff::' }, /no netmask/],
    ['two families', { address: 'fd00::' }, /two families/],
    ['a gateway of IPv6', { gateway: 'fd00::1' }, /two families/],
    ['an address with leading zeros', { interfaceAddress: '192.168.08.7' }, /syntax/],
    ['an address with a zone', { interfaceAddress: 'fe80::1%eth0' }, /syntax/],
    ['nobody', { interfaceAddress: '' }, /syntax/],
    ['the loopback', { interfaceAddress: '127.0.0.1' }, /not allowed/],
    ['all of them', { interfaceAddress: '255.255.255.255' }, /not allowed/],
    ['a group', { interfaceAddress: '224.0.0.1' }, /not allowed/],
  ];
  for (const [name, change, message] of cases) {
    const code = /syntax|allowed/.test(message.source) ? 'YAVM_E_NET_ADDRESS' : 'YAVM_E_RUNTIME_REQUEST';
    t.throws(() => plan(STARTED, 'vpn', [{ ...VPN, ...change }]), { code, message }, name);
  }
  t.throws(() => plan(noNetworks({ vpn: 'stream' }), 'inet', [INET]), {
    code: 'YAVM_E_RUNTIME_REQUEST',
    message: /no --inet-endpoint/,
  });
  const many = Array.from({ length: 65 }, (_, i) => ({ ...VPN, interfaceAddress: `192.168.8.${i + 1}` }));
  t.throws(() => plan(STARTED, 'vpn', many), { code: 'YAVM_E_RUNTIME_REQUEST', message: /65 networks/ });
  const hosts = Object.fromEntries(Array.from({ length: 4097 }, (_, i) => [`h${i}`, '10.0.0.1']));
  t.throws(() => plan(STARTED, 'vpn', [], hosts), { code: 'YAVM_E_RUNTIME_REQUEST', message: /4097/ });
});
