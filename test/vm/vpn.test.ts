/** VMs of several nodes in one VPN: each has its own relay and its own router, joined as a network of nodes is. */
import t from 'tap';
import { count, soak } from '../lib/scale.ts';
import { address6Of, addressOf, NETWORK, nodeIdOf, VpnLab, type VpnVm } from '../lib/vpn-vms.ts';

/** A soak moves 3 GB between emulated VMs: 2 GB alone were not through within 9 minutes on a busy machine. */
const LONG = { timeout: soak ? 2 * 3_600_000 : 600_000 };
/** One transfer: whole copies of busybox (2 MB), so that the guest can make them without a generator. */
const COPIES = (soak ? 1000 : 8) / 2;

const SOURCE = `i=0; while [ $i -lt ${COPIES} ]; do cat /bin/busybox; i=$((i+1)); done`;

/** Sends the copies over TCP from one VM to another; both ends' hashes. */
async function send(from: VpnVm, to: VpnVm, address = to.address): Promise<[sent: string, got: string]> {
  const receiving = to.shell('guest-net take 7001 | sha1sum');
  const giving = await from.shell(`(${SOURCE}) | guest-net give ${address} 7001 && (${SOURCE}) | sha1sum`);
  const taken = await receiving;
  return [giving.stdout.trim() || giving.stderr, taken.stdout.trim() || taken.stderr];
}

t.test('two VMs', LONG, async (t) => {
  const lab = new VpnLab(t, { ipv6: true });
  const [a, b] = (await lab.start(1, 2)) as [VpnVm, VpnVm];

  await t.test('interface, addresses, names', async (t) => {
    const { stdout } = await a.shell('ip addr show eth0; ip route; ip -6 route; cat /etc/hosts');
    t.match(stdout, /mtu 1280/, 'IPv6 has no less');
    t.match(stdout, /link\/ether 90:13:0a:4d:00:01/);
    t.match(stdout, /inet 10\.77\.0\.1\/24/);
    t.match(stdout, /inet6 fd77::1\/64/);
    t.match(stdout, /10\.77\.0\.2\s+vm2/);
  });

  await t.test('ping by address and by name, IPv4 and IPv6, all sizes', async (t) => {
    t.match(await a.shell(`ping -c 3 -W 5 ${b.address}`), { ok: true, stdout: /3 packets received/ });
    t.match(await b.shell('ping -c 3 -W 5 vm1'), { ok: true, stdout: /3 packets received/ });
    t.match(await a.shell(`ping -6 -c 3 -W 5 ${address6Of(2)}`), { ok: true, stdout: /3 packets received/ });
    const sizes = Array.from({ length: count(200) }, (_, index) => Math.round((index * 1252) / count(200)));
    const lines = [...sizes, 1252].map(
      (size) => `ping -c 1 -W 5 -s ${size} ${b.address} >/dev/null || echo ${size}`,
    );
    t.match(await a.shell(lines.join('\n')), { ok: true, stdout: '' }, 'up to the MTU');
    t.match(await a.shell(`ping -c 1 -W 5 -s 4000 ${b.address}`), { ok: true }, 'in fragments');
  });

  await t.test('TCP both ways, the same bytes', async (t) => {
    const [forth, back] = await Promise.all([send(a, b), send(b, a)]);
    t.equal(forth[1], forth[0]);
    t.match(forth[0], /^[0-9a-f]{40}/);
    t.equal(back[1], back[0]);
    const six = await send(a, b, address6Of(2));
    t.equal(six[1], six[0], 'over IPv6');
  });

  await t.test('UDP of each size', async (t) => {
    const sizes = Array.from({ length: count(300) }, (_, index) => Math.round((index * 1232) / count(300)));
    const words = [...sizes, 1252 - 20, 4000].join(' ');
    await b.begin('guest-net echo-udp 9000');
    // It may take its time to come up.
    await a.shell(
      `n=0; until guest-net udp ${b.address} 9000 1 | grep -qx 1 || [ $n -ge 20 ]; do n=$((n+1)); done`,
    );
    const { stdout } = await a.shell(`guest-net udp ${b.address} 9000 ${words}`);
    t.equal(stdout.trim().replaceAll('\n', ' '), words);
  });

  await t.test('a peer that leaves, and comes back', async (t) => {
    await lab.stop(b);
    t.match(await a.shell(`ping -c 1 -W 1 ${b.address}`), { ok: false });
    await lab.start(2);
    t.match(await a.shell(`ping -c 2 -W 5 ${b.address}`), { ok: true });
  });

  await t.test('what is not of the network, or not the VM’s own, goes nowhere', async (t) => {
    t.match(await a.shell('ping -c 1 -W 1 10.77.0.200'), { ok: false });
    const spoof = `ip addr add 10.77.0.3/32 dev eth0; ping -c 1 -W 1 -I 10.77.0.3 ${b.address}; ip addr del 10.77.0.3/32 dev eth0`;
    const { stdout } = await a.shell(spoof);
    t.match(stdout, /0 packets received/, "another node's address is not taken");
  });
});

t.test('four VMs, one of them told of the others at run time', LONG, async (t) => {
  const lab = new VpnLab(t, { known: [1, 2, 3] });
  const [a, b, c] = (await lab.start(1, 2, 3)) as [VpnVm, VpnVm, VpnVm];
  for (const [from, to] of [
    [a, b],
    [b, c],
    [c, a],
  ] as const) {
    t.match(await from.shell(`ping -c 2 -W 5 ${to.address}`), { ok: true }, `${from.number} → ${to.number}`);
  }
  const [d] = (await lab.start(4)) as [VpnVm];
  t.match(await a.shell(`ping -c 1 -W 1 ${d.address}`), { ok: false }, 'nobody told it');
  const nodes = { [d.address]: nodeIdOf(4) };
  for (const vm of [a, b, c]) {
    t.equal(await lab.control(vm, { addNodes: { network_id: NETWORK, nodes } }), null);
    t.equal(await lab.control(vm, { addNodes: { network_id: NETWORK, nodes } }), null, 'the same again');
  }
  for (const vm of [a, b, c]) {
    t.match(await vm.shell(`ping -c 2 -W 5 ${d.address}`), { ok: true }, `${vm.number} → 4`);
  }
  // busybox' ping needs no socket option for it, and takes the first answer.
  t.match(
    await a.shell('ping -c 2 -W 5 10.77.0.255 2>&1; ip neigh').then(({ stdout }) => stdout),
    /10\.77\.0\./,
  );
  t.equal(await lab.control(a, { removeNodes: { network_id: NETWORK, node_ids: [nodeIdOf(4)] } }), null);
  t.match(await a.shell(`ping -c 1 -W 1 ${d.address}`), { ok: false }, 'removed');
});

t.test('siblings: activities of one requestor on one node', LONG, async (t) => {
  const lab = new VpnLab(t, { oneNode: true });
  const [a, b] = (await lab.start(1, 2)) as [VpnVm, VpnVm];
  t.match(await a.shell(`ping -c 3 -W 5 ${b.address}`), { ok: true });
  t.match(await b.shell(`ping -c 3 -W 5 ${a.address}`), { ok: true });
  const [c] = (await lab.start(3)) as [VpnVm];
  t.match(await c.shell(`ping -c 2 -W 5 ${a.address} && ping -c 2 -W 5 ${b.address}`), { ok: true });
  // The first one has the names; the others go on without it.
  await lab.stop(a);
  t.match(
    await c.shell(
      `n=0; until ping -c 1 -W 1 ${b.address} >/dev/null || [ $n -ge 10 ]; do n=$((n+1)); done; echo $n`,
    ),
    { ok: true, stdout: /^[0-2]\n$/ },
  );
  t.equal(addressOf(1), a.address);
});
