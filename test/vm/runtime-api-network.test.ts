/**
 * Networks of a stock exe-unit: a supervisor of the test's own has the other ends of the NICs' cables, by UDP and by TCP,
 * and the VM is its runtime's, with its command lines.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import type { ApiClient } from '../lib/api-client.ts';
import {
  arpRequest,
  destinationIp,
  type FramePeer,
  framed,
  isIpv4,
  sourceIp,
  streamPeer,
  udpPeer,
} from '../lib/frame-peer.ts';
import { DEADLINE, deploy, runtimeActivity, start } from '../lib/runtime-activity.ts';

const VPN = {
  networks: [
    {
      address: '192.168.8.0',
      gateway: '192.168.8.1',
      mask: '255.255.255.0',
      interfaceAddress: '192.168.8.7',
    },
  ],
  hosts: [{ key: 'db', value: '192.168.8.9' }],
};
const INET = {
  networks: [
    {
      address: '10.42.42.1',
      gateway: '10.42.42.1',
      mask: '255.255.255.0',
      interfaceAddress: '10.42.42.2',
    },
  ],
  interface: 1,
};

/** What a script prints. @throws {Error} with its stderr when it fails */
async function shell(api: ApiClient, script: string): Promise<string> {
  const { run, error } = await api.run('/bin/sh', '-c', script);
  if (!run) throw new Error(error?.message);
  const { returnCode, stdout, stderr } = await api.end(run.pid);
  if (returnCode === 0) return stdout.trim();
  throw new Error(`"${script}" ended with ${returnCode}: ${stderr || stdout}`);
}

/** A length that no frame has, and more than QEMU's buffer (68 KiB) of what would belong to it: only then it gives up. */
const GARBAGE = Buffer.alloc(100_000, 0xff);

const ping = (address: string, more = '') => `ping -c 1 -W 20 ${more} ${address} >/dev/null && echo ok`;
const macOf = (link: string) => `cat /sys/class/net/${link}/address`;

/** A request's answer: where the runtime's end is. */
async function create(api: ApiClient, network: object): Promise<string> {
  const { network: endpoint, error } = await api.call({ network });
  const address = endpoint?.udpDatagram ?? endpoint?.tcpStream;
  if (address === undefined) throw new Error(error?.message ?? 'no endpoint');
  return address;
}

t.test('both networks, by UDP as a stock exe-unit does', { timeout: 4 * DEADLINE }, async (t) => {
  const at = runtimeActivity(t);
  t.match(await deploy(t, at), { code: 0 });
  const [vpn, inet] = [await udpPeer(t), await udpPeer(t)];
  const { api, ended } = start(t, at, ['--vpn-endpoint', vpn.url, '--inet-endpoint', inet.url]);

  // Asked for before the VM is up: it waits, as everything else.
  const outside = await create(api, INET);
  inet.connect(outside);
  t.match(outside, /^127\.0\.0\.1:\d+$/);
  t.equal(
    await shell(api, `${macOf('eth0')}; ip -o -4 addr show dev eth0; cat /sys/class/net/eth0/mtu`),
    '90:13:00:00:00:01\n1220',
    'the VPN is there before it has an address',
  );
  const inside = await create(api, VPN);
  vpn.connect(inside);
  t.not(inside, outside);

  await t.test('addresses, MACs, MTUs, names, resolvers and routes', async (t) => {
    const facts = await shell(
      api,
      `${macOf('eth0')}; ${macOf('eth1')}; cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu
       ip -o -4 addr show | awk '{print $2, $4}'; ip route; grep db /etc/hosts; cat /etc/resolv.conf`,
    );
    t.equal(
      facts.replace(/ +$/gm, ''),
      `90:13:c0:a8:08:07
90:13:0a:2a:2a:02
1220
65493
lo 127.0.0.1/8
eth0 192.168.8.7/24
eth1 10.42.42.2/24
default via 10.42.42.1 dev eth1
10.42.42.0/24 dev eth1 scope link  src 10.42.42.2
192.168.8.0/24 dev eth0 scope link  src 192.168.8.7
192.168.8.9\tdb
nameserver 1.1.1.1
nameserver 8.8.8.8`,
    );
  });

  await t.test('the guest reaches its peers: by name, and the way out', async (t) => {
    t.equal(await shell(api, `${ping('db')} && ${ping('192.168.8.1')}`), 'ok\nok');
    t.equal(await shell(api, `${ping('10.42.42.1')} && ${ping('93.184.216.34')}`), 'ok\nok');
    const outside = inet.peer.frames.filter(isIpv4).map(destinationIp);
    t.ok(outside.includes('93.184.216.34'), 'by INET');
    const own = [...vpn.peer.frames, ...inet.peer.frames].filter(isIpv4).map(sourceIp);
    t.strictSame([...new Set(own)].filter((address) => address !== '0.0.0.0').sort(), [
      '10.42.42.2',
      '192.168.8.7',
    ]);
    t.notOk(vpn.peer.frames.filter(isIpv4).some((frame) => destinationIp(frame) === '93.184.216.34'));
  });

  await t.test('peers reach the guest, at the MAC that follows from its address', async (t) => {
    t.equal(await vpn.peer.ping('192.168.8.1', '192.168.8.7'), '90:13:c0:a8:08:07');
    t.equal(await inet.peer.ping('10.42.42.1', '10.42.42.2'), '90:13:0a:2a:2a:02');
  });

  await t.test('frames up to the MTU arrive whole', async (t) => {
    // IPv4 and ICMP have 28 bytes, Ethernet 14.
    t.equal(await shell(api, ping('192.168.8.1', `-s ${1220 - 28}`)), 'ok');
    t.equal(await shell(api, ping('10.42.42.1', `-s ${65_493 - 28}`)), 'ok');
    const longest = (peer: FramePeer) => Math.max(...peer.frames.map(({ length }) => length));
    t.strictSame([longest(vpn.peer), longest(inet.peer)], [1234, 65_507]);
  });

  await t.test('nobody else can put frames in', async (t) => {
    const stranger = createSocket('udp4');
    const port = Number(inside.split(':')[1]);
    await new Promise((sent) =>
      stranger.send(arpRequest('192.168.8.66', '192.168.8.7'), port, '127.0.0.1', sent),
    );
    stranger.close();
    // Behind it: what is answered now was asked later.
    await vpn.peer.ping('192.168.8.1', '192.168.8.7');
    const heard = vpn.peer.frames.some((frame) => frame.includes(Buffer.from([192, 168, 8, 66])));
    t.notOk(heard);
  });

  await t.test('what is no frame stops nothing: nothing at all, too short, noise', async (t) => {
    vpn.peer.send(Buffer.alloc(0));
    for (const length of [1, 13, 14, 60]) vpn.peer.send(Buffer.alloc(length, 0xa5));
    t.equal(await vpn.peer.ping('192.168.8.1', '192.168.8.7'), '90:13:c0:a8:08:07');
  });

  await t.test('more networks and names later; what was there stays', async (t) => {
    const more = {
      networks: [
        { address: '10.9.0.0', mask: '255.255.0.0', interfaceAddress: '10.9.0.7' },
        ...VPN.networks,
        { address: 'fd00:9::', mask: 'ffff:ffff:ffff:ffff::', interfaceAddress: 'fd00:9::7' },
      ],
      hosts: [{ key: 'web', value: '10.9.0.3' }],
    };
    t.equal(await create(api, more), inside);
    t.equal(await create(api, more), inside, 'a second time is a success');
    t.equal(await shell(api, `${ping('db')} && ${ping('web')}`), 'ok\nok');
    t.equal(
      await shell(
        api,
        `${macOf('eth0')}; cat /sys/class/net/eth0/mtu; ip -o -6 addr show dev eth0 | grep -c fd00:9::7/64`,
      ),
      '90:13:c0:a8:08:07\n1280\n1',
    );
    t.equal(await vpn.peer.ping('10.9.0.1', '10.9.0.7'), '90:13:c0:a8:08:07');
    t.equal(await vpn.peer.ping('192.168.8.1', '192.168.8.7'), '90:13:c0:a8:08:07');
  });

  await t.test('a request that makes no sense is refused, and changes nothing', async (t) => {
    const bad = { ...VPN, networks: [{ ...VPN.networks[0], mask: '255.0.255.0' }] };
    t.match((await api.call({ network: bad })).error, { code: 2, message: /255\.0\.255\.0/ });
    const name = { networks: VPN.networks, hosts: [{ key: 'a b', value: '192.168.8.1' }] };
    t.match((await api.call({ network: name })).error, { code: 2, message: /YAVM_E_GUEST_BAD_REQUEST/ });
    t.equal(await shell(api, ping('db')), 'ok');
  });

  t.match(await api.call({ shutdown: {} }), { shutdown: {} });
  t.match(await ended, { code: 0 });
});

t.test('a VPN by TCP, that we connect to', { timeout: 3 * DEADLINE }, async (t) => {
  const at = runtimeActivity(t);
  t.match(await deploy(t, at), { code: 0 });
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const connected = once(server, 'connection');
  const { api, ended } = start(t, at, ['--vpn-endpoint', `tcp-connect://${place}`]);
  const [socket] = (await connected) as [Socket];
  t.teardown(() => void socket.destroy());
  const peer = streamPeer(socket, 3);
  t.equal(await create(api, VPN), place);
  t.equal(await shell(api, ping('db', '-s 1192')), 'ok', 'answers come in pieces of three bytes');
  t.match((await api.call({ network: INET })).error, { code: 2, message: /--inet-endpoint/ });

  const from = peer.frames.length;
  const asked = ['192.168.8.31', '192.168.8.32', '192.168.8.33'];
  socket.write(framed(...asked.map((own) => arpRequest(own, '192.168.8.7'))));
  for (const own of asked) {
    const answered = (frame: Buffer) => frame.includes(Buffer.from(own.split('.').map(Number)));
    t.ok(await peer.frame(answered, `answer to ${own}`, from), 'several in one piece');
  }
  socket.write(framed(Buffer.alloc(1), Buffer.alloc(13), Buffer.alloc(70)));
  t.equal(await peer.ping('192.168.8.1', '192.168.8.7'), '90:13:c0:a8:08:07', 'short ones do not break it');

  const closed = once(socket, 'close');
  socket.write(GARBAGE);
  await closed;
  t.equal(
    await shell(api, 'echo up; ! ping -c 1 -W 1 db >/dev/null && echo cut'),
    'up\ncut',
    'the VM goes on',
  );
  t.match(await api.call({ shutdown: {} }), { shutdown: {} });
  t.match(await ended, { code: 0 });
});

t.test(
  'INET alone, by TCP, that we listen for: a supervisor may come again',
  { timeout: 3 * DEADLINE },
  async (t) => {
    const at = runtimeActivity(t);
    t.match(await deploy(t, at), { code: 0 });
    const { api, ended } = start(t, at, ['--inet-endpoint', 'tcp-listen://127.0.0.1:0']);
    const place = await create(api, INET);
    t.match(
      await shell(api, `ls /sys/class/net; ${macOf('eth1')}; cat /sys/class/net/eth1/mtu`),
      /^eth1\nlo\n90:13:0a:2a:2a:02\n65521$/,
    );
    const dial = async () => {
      const socket = connect(Number(place.split(':')[1]), '127.0.0.1');
      t.teardown(() => void socket.destroy());
      await once(socket, 'connect');
      return { socket, peer: streamPeer(socket) };
    };
    const first = await dial();
    t.equal(await shell(api, ping('10.42.42.1', `-s ${65_521 - 28}`)), 'ok');
    t.equal(Math.max(...first.peer.frames.map(({ length }) => length)), 65_535, 'the largest frame');
    const closed = once(first.socket, 'close');
    first.socket.write(GARBAGE);
    await closed;
    const second = await dial();
    t.equal(await shell(api, ping('8.8.8.8')), 'ok', 'after it sent what is no frame');
    t.ok(second.peer.frames.length > 0);
    api.close();
    t.match(await ended, { code: 0 });
  },
);

t.test('nobody is there: one line, before anything is booted', { timeout: DEADLINE }, async (t) => {
  const at = runtimeActivity(t);
  t.match(await deploy(t, at), { code: 0 });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const { api, ended } = start(t, at, ['--vpn-endpoint', `tcp-connect://127.0.0.1:${port}`]);
  t.match(await ended, {
    code: 1,
    stderr: /tcp-connect:\/\/127\.0\.0\.1:\d+: cannot be opened.*YAVM_E_NET_ENDPOINT/s,
  });
  t.strictSame(api.messages, []);
});
