/** A real guest's NICs at each kind of cable; who is at the other end is made of frames. */
import { readdirSync } from 'node:fs';
import t from 'tap';
import { formatMac } from '../../host/network/frame/mac.ts';
import { makeCable } from '../../host/network/nic/cable.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import { StreamLink } from '../../host/network/nic/stream-link.ts';
import { INET, type LinkKind, MTU, type NicBackend } from '../../host/network/types.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { startVm } from '../../host/runtime/index.ts';
import { USER_NETWORK } from '../../host/runtime/user-network.ts';
import { Arrivals, native } from '../lib/cables.ts';
import { FrameHost } from '../lib/frame-host.ts';
import { Random } from '../lib/random.ts';
import { soak } from '../lib/scale.ts';
import { type Owner, sha256, shell, startTestVm, vmSpec } from '../lib/vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

/** Ethernet, IPv4 and ICMP headers in front of what ping sends. */
const HEADERS = 14 + 20 + 8;
const GREETING = random.bytes(20_000);
const SAID = 30_000;

interface Wired {
  host: FrameHost;
  /** Its address, as text. */
  address: string;
}

/** NIC `index` at a cable of a kind, with a host at its other end. */
function wire(t: Owner, kind: LinkKind, index: number): Wired & { backend: NicBackend } {
  const { near, backend } = makeCable(native, kind);
  const link = openFrameLink(native, near);
  t.teardown(() => link.close());
  const ip = [10, 9, index, 1];
  const host = new FrameHost(link, { ip, mac: [0xa0, 0x13, ...ip], greeting: GREETING });
  return { host, address: ip.join('.'), backend };
}

function linkSpec(index: number, mtu: number) {
  const ip = [10, 9, index, 2];
  const mac = formatMac([0x90, 0x13, ...ip]);
  return { mac, name: `eth${index}`, mtu, addresses: [`${ip.join('.')}/24`] };
}

/** Pings with frames of 60 bytes up to the MTU: each size in a soak, else a few dozen. */
async function pings(t: Tap, vm: Vm, { host, address }: Wired, mtu: number): Promise<void> {
  const most = mtu + 14 - HEADERS;
  const step = soak ? Math.ceil(most / 1500) : Math.ceil(most / 24);
  const sizes = `$(seq 18 ${step} ${most}) ${most}`;
  await shell(vm, `for s in ${sizes}; do ping -q -c 1 -W 20 -s $s ${address} || { echo $s; exit 1; }; done`, {
    deadline: 1_800_000,
  });
  t.equal(host.echoes[0], 60, 'the smallest');
  t.equal(Math.max(...host.echoes), mtu + 14, 'the largest');
}

/** Datagrams and a connection that carries bytes both ways, with checksums that are right. */
async function transports(t: Tap, vm: Vm, { host, address }: Wired): Promise<void> {
  await shell(vm, `nslookup name.example ${address} || true`, { deadline: 120_000 });
  t.ok(host.datagrams.length > 0, 'datagrams came');
  const hash = `dd if=/dev/zero bs=${SAID} count=1 2>/dev/null | tr '\\0' x | nc ${address} 80 | sha256sum`;
  const got = await shell(vm, hash);
  t.equal(got.split(' ')[0], sha256(GREETING), 'what the connection was told');
  const [said = []] = host.said.values();
  t.equal(Buffer.concat(said).toString(), 'x'.repeat(SAID), 'and what it said');
  t.same(host.wrong, [], 'checksums');
}

type Tap = typeof t;

for (const kinds of [
  ['udp', 'unix-datagram'],
  ['tcp', 'unix'],
] as const) {
  t.test(`NICs at ${kinds.join(' and ')}`, async (t) => {
    const mtus = [MTU.vpn, kinds[1] === 'unix' ? MTU.outbound : MTU.vpnIpv6];
    const wired = kinds.map((kind, index) => wire(t, kind, index));
    const network = { links: mtus.map((mtu, index) => linkSpec(index, mtu)) };
    const vm = await startTestVm(t, { network }, { nics: wired.map(({ backend }) => backend) });
    for (const [index, one] of wired.entries()) {
      await t.test(kinds[index] as string, async (t) => {
        await pings(t as unknown as Tap, vm, one, mtus[index] as number);
        await transports(t as unknown as Tap, vm, one);
      });
    }
  });
}

t.test('QEMU listens, and its user network beside it', async (t) => {
  const [listening, port] = native.tcpListen();
  const mine = makeCable(native, 'unix');
  const outside = new StreamLink(native, mine.near.fd);
  t.teardown(() => outside.close());
  const network = { links: [linkSpec(0, MTU.vpn)] };
  const vm = await startTestVm(
    t,
    { network },
    {
      nics: [{ kind: 'stream-listener', fd: listening }],
      userNetwork: { fd: mine.backend.fd, ipv6: true, published: [] },
    },
  );
  const fd = native.tcpConnect('127.0.0.1', port);
  const link = new StreamLink(native, fd);
  t.teardown(() => link.close());
  const ip = [10, 9, 0, 1];
  const host = new FrameHost(link, { ip, mac: [0xa0, 0x13, ...ip], greeting: GREETING });
  await pings(t as unknown as Tap, vm, { host, address: '10.9.0.1' }, MTU.vpn);
  await transports(t as unknown as Tap, vm, { host, address: '10.9.0.1' });

  const arrivals = new Arrivals(outside);
  const guest = INET.guest.split('.').map(Number);
  const gateway = INET.gateway.split('.').map(Number);
  const mac = INET.guestMac.split(':').map((byte) => Number.parseInt(byte, 16));
  const request = Uint8Array.from([
    ...[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...mac, 8, 6],
    ...[0, 1, 8, 0, 6, 4, 0, 1, ...mac, ...guest, 0, 0, 0, 0, 0, 0, ...gateway],
  ]);
  outside.send(request, 0, request.length);
  const isReply = (frame: Uint8Array) => frame[12] === 8 && frame[13] === 6 && frame[21] === 2;
  await arrivals.until(({ frames }) => frames.some(isReply));
  const reply = arrivals.frames.find(isReply) as Uint8Array;
  t.equal(formatMac(reply.slice(22, 28)), USER_NETWORK.gatewayMac, "the gateway's own MAC");
  t.same([...reply.slice(28, 32)], gateway);
});

t.test('a start that fails closes what was for QEMU', async (t) => {
  const open = () => readdirSync('/proc/self/fd').length;
  const network = { links: [linkSpec(0, MTU.vpn)] };
  const cases = {
    'before QEMU': { spec: vmSpec({ network, memoryMiB: 1 }), code: 'YAVM_E_VM_SPEC' },
    'a cable too many': { spec: vmSpec({}), code: 'YAVM_E_VM_SPEC' },
    'no kernel': {
      spec: vmSpec({ network, assets: { kernel: '/nowhere', initramfs: '/nowhere', manifest: '/nowhere' } }),
      code: 'YAVM_E_ASSETS',
    },
  };
  for (const [name, { spec, code }] of Object.entries(cases)) {
    const before = open();
    const { near, backend } = makeCable(native, 'unix');
    const way = makeCable(native, 'unix');
    const userNetwork = { fd: way.backend.fd, ipv6: false, published: [] };
    await t.rejects(startVm(spec, { nics: [backend], userNetwork }), { code }, name);
    native.close(near.fd);
    native.close(way.near.fd);
    t.equal(open(), before, `${name}: nothing is left open`);
  }
});

t.test('a cable whose NIC is gone ends', async (t) => {
  const { near, backend } = makeCable(native, 'tcp');
  const link = openFrameLink(native, near);
  const arrivals = new Arrivals(link);
  const network = { links: [linkSpec(0, MTU.vpn)] };
  const vm = await startTestVm(t, { network }, { nics: [backend] });
  await vm.kill();
  await arrivals.until(({ end }) => end !== undefined);
  t.equal(arrivals.end, null);
});
