/** The task's network on real links: a pair of virtual Ethernet links in a network namespace of the test's own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type NetworkContext, TaskNetwork } from '../../guest/net/configure.ts';
import type { LinkSpec } from '../../guest/protocol/messages.ts';
import { loadNative } from '../../native/load.ts';
import { inNamespaces } from '../lib/namespaces.ts';

inNamespaces(import.meta.url);
// The runner has a deadline for the whole file.
t.setTimeout(0);

const native = loadNative();
const top = mkdtempSync(join(tmpdir(), 'yavm-net-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));
// Per-namespace settings appear beneath a /proc that was mounted in it.
execFileSync('mount', ['-t', 'proc', 'proc', '/proc']);

const ip = (...args: string[]): string => execFileSync('ip', args).toString();
const canVeth =
  spawnSync('ip', ['link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1']).status === 0;
if (canVeth) ip('link', 'del', 'probe0');
const skip = canVeth ? false : 'this kernel has no veth';

let pairs = 0;
/** A new link with a peer; `eth…` as the kernel would name it. */
function makeLink(name: string): { mac: string; peer: string } {
  const peer = `peer${pairs++}`;
  const mac = `52:54:00:00:00:${(pairs + 16).toString(16)}`;
  ip('link', 'add', name, 'address', mac, 'type', 'veth', 'peer', 'name', peer);
  ip('link', 'set', peer, 'up');
  t.teardown(() => spawnSync('ip', ['link', 'del', peer]));
  return { mac, peer };
}

interface LinkState {
  address: string;
  mtu: number;
  up: boolean;
  addresses: string[];
}

/** What the kernel has for a link; link-local addresses, which come by themselves, left out. */
function state(name: string): LinkState {
  const [link] = JSON.parse(ip('-j', 'addr', 'show', 'dev', name));
  const addresses = link.addr_info.filter(({ scope }: { scope: string }) => scope === 'global');
  return {
    address: link.address,
    mtu: link.mtu,
    up: link.flags.includes('UP'),
    addresses: addresses.map(
      ({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`,
    ),
  };
}

/** Routes that were configured, not those that come with an address. */
function routes(name: string): string[] {
  const lines = [ip('route', 'show', 'dev', name), ip('-6', 'route', 'show', 'dev', name)]
    .join('')
    .split('\n');
  return lines
    .filter((line) => line !== '' && !line.includes('proto kernel'))
    .map((line) => line.replace(/ (proto \S+|pref \S+|linkdown|scope link|metric 1024)/g, '').trim())
    .sort();
}

let roots = 0;
function makeNetwork(
  more: Partial<NetworkContext> = {},
  deadline = 200,
): { network: TaskNetwork; root: string } {
  const root = join(top, String(roots++));
  mkdirSync(root);
  const rootFd = native.open(root, 0o200000, 0);
  t.teardown(() => native.close(rootFd));
  const context = { native, rootFd, hostname: 'vm-1', loadDrivers: () => {}, ...more };
  return { network: new TaskNetwork(context, deadline), root };
}

t.test('without links: loopback is up, and names resolve', async (t) => {
  const { network, root } = makeNetwork({ loadDrivers: () => t.fail('no link, no driver') });
  await network.apply({});
  t.match(ip('addr', 'show', 'lo'), /UP[\s\S]*127\.0\.0\.1\/8[\s\S]*::1\/128/);
  t.match(
    readFileSync(join(root, 'etc/hosts'), 'utf8'),
    /^127\.0\.0\.1\tlocalhost\n[\s\S]*127\.0\.1\.1\tvm-1\n$/,
  );
  t.throws(
    () => readFileSync(join(root, 'etc/resolv.conf')),
    { code: 'ENOENT' },
    'without servers the image’s file stands',
  );
});

t.test('a link gets its name, MAC, MTU, addresses and routes', { skip }, async (t) => {
  const { mac } = makeLink('veth0');
  const loaded: string[] = [];
  const { network, root } = makeNetwork({ loadDrivers: () => loaded.push('x') });
  const link: LinkSpec = {
    mac: mac.toUpperCase(),
    name: 'eth0',
    setMac: '90:13:0a:00:00:02',
    mtu: 1400,
    offloads: false,
    addresses: ['10.0.0.2/24', 'fd00:0::2/64'],
    routes: [
      { to: 'default', via: '10.0.0.1', metric: 7 },
      { to: '10.9.1.1/16' },
      { to: 'fd01::/48', via: 'fd00::1' },
    ],
  };
  await network.apply({
    links: [link],
    hosts: { peer: '10.0.0.3' },
    nameservers: ['10.0.0.1'],
    searchDomains: ['vpn'],
  });
  t.strictSame(loaded, ['x']);
  t.strictSame(state('eth0'), {
    address: '90:13:0a:00:00:02',
    mtu: 1400,
    up: true,
    addresses: link.addresses.map((a) => a.replace(':0::', '::')),
  });
  t.strictSame(routes('eth0'), ['10.9.0.0/16', 'default via 10.0.0.1 metric 7', 'fd01::/48 via fd00::1']);
  t.equal(readFileSync('/proc/sys/net/ipv6/conf/eth0/accept_ra', 'utf8').trim(), '0');
  t.match(readFileSync(join(root, 'etc/hosts'), 'utf8'), /^10\.0\.0\.2\tvm-1\n10\.0\.0\.3\tpeer\n/m);
  t.equal(readFileSync(join(root, 'etc/resolv.conf'), 'utf8'), 'search vpn\nnameserver 10.0.0.1\n');

  const server = createServer();
  await new Promise<void>((resolve, reject) => server.on('error', reject).listen(0, 'fd00::2', resolve));
  t.pass('an IPv6 address can be bound to at once');
  await new Promise((resolve) => server.close(resolve));

  await network.apply({ links: [link] });
  t.strictSame(routes('eth0').length, 3, 'a second time changes nothing');
  t.match(readFileSync(join(root, 'etc/hosts'), 'utf8'), /peer/, 'what a later spec does not mention stays');

  await network.apply({
    links: [{ ...link, addresses: ['10.0.0.9/24', 'fd00::2/64'], routes: [{ to: '10.9.0.0/16' }] }],
  });
  t.strictSame(state('eth0').addresses, ['10.0.0.9/24', 'fd00::2/64']);
  t.strictSame(routes('eth0'), ['10.9.0.0/16'], 'what is no longer listed is gone');
  t.match(readFileSync(join(root, 'etc/hosts'), 'utf8'), /^10\.0\.0\.9\tvm-1$/m);

  await network.apply({
    links: [{ ...link, addresses: [], routes: [] }],
    hosts: {},
    nameservers: [],
    searchDomains: [],
  });
  t.strictSame(state('eth0').addresses, []);
  t.notMatch(readFileSync(join(root, 'etc/hosts'), 'utf8'), /peer/);
  t.equal(readFileSync(join(root, 'etc/resolv.conf'), 'utf8').trim(), '');
});

t.test(
  'of two addresses in one network, the first can be removed and the second stays',
  { skip },
  async (t) => {
    const { mac } = makeLink('veth0');
    const { network } = makeNetwork();
    const link = {
      mac,
      name: 'two',
      addresses: ['10.1.0.1/24', '10.1.0.2/24'],
      routes: [{ to: '10.5.0.0/16', via: '10.1.0.254' }],
    };
    await network.apply({ links: [link] });
    await network.apply({ links: [{ ...link, addresses: ['10.1.0.2/24'] }] });
    t.strictSame(state('two').addresses, ['10.1.0.2/24']);
    t.strictSame(routes('two'), ['10.5.0.0/16 via 10.1.0.254']);
  },
);

t.test('two links whose names are swapped, both up', { skip }, async (t) => {
  const a = makeLink('net0');
  const b = makeLink('net1');
  ip('link', 'set', 'net0', 'up');
  ip('link', 'set', 'net1', 'up');
  const { network } = makeNetwork();
  await network.apply({
    links: [
      { mac: a.mac, name: 'net1', addresses: ['10.2.0.1/24'] },
      { mac: b.mac, name: 'net0', addresses: ['10.3.0.1/24'] },
    ],
  });
  t.match(state('net1'), { address: a.mac, up: true, addresses: ['10.2.0.1/24'] });
  t.match(state('net0'), { address: b.mac, up: true, addresses: ['10.3.0.1/24'] });
});

t.test('a link that comes late is waited for, one that never comes is named', { skip }, async (t) => {
  const { network, root } = makeNetwork({}, 60_000);
  const mac = `52:54:00:00:00:${(pairs + 1 + 16).toString(16)}`;
  const waiting = network.apply({ links: [{ mac, name: 'late', addresses: ['10.4.0.1/24'] }] });
  await network.apply({ hosts: { meanwhile: '10.4.0.9' } });
  setTimeout(() => makeLink('unnamed'), 100);
  await waiting;
  t.match(state('late'), { address: mac, addresses: ['10.4.0.1/24'] });
  const hosts = readFileSync(join(root, 'etc/hosts'), 'utf8');
  t.match(hosts, '10.4.0.9\tmeanwhile', 'what came in between stays');
  await t.rejects(
    makeNetwork().network.apply({ links: [{ mac: '52:54:00:ff:ff:ff', name: 'x', addresses: [] }] }),
    {
      code: 'network-failed',
      message: /MAC 52:54:00:ff:ff:ff .*there: .*lo .*late/,
    },
  );
});

t.test('what fails is named, and can be put right afterwards', { skip }, async (t) => {
  const { mac } = makeLink('veth0');
  const { network } = makeNetwork();
  const link = { mac, name: 'fix', addresses: ['10.6.0.1/24'] };
  await t.rejects(network.apply({ links: [{ ...link, routes: [{ to: 'default', via: '192.0.2.1' }] }] }), {
    code: 'network-failed',
    errno: 'ENETUNREACH',
    message: /link 'fix': cannot add route default via 192\.0\.2\.1/,
  });
  await network.apply({ links: [{ ...link, addresses: ['10.6.0.2/24'] }] });
  t.strictSame(state('fix').addresses, ['10.6.0.2/24'], 'the address of the failed try is gone too');
  for (const bad of [{ addresses: ['10.0.0.0/33'] }, { routes: [{ to: 'x' }] }, { setMac: 'no' }]) {
    await t.rejects(network.apply({ links: [{ ...link, ...bad }] }), { code: 'bad-request' });
  }
  await t.rejects(network.apply({ links: [link, link] }), { code: 'bad-request', message: /two links/ });
  t.strictSame(state('fix').addresses, ['10.6.0.2/24'], 'a bad spec changes nothing');
  await t.rejects(network.apply({ links: [{ ...link, name: 'lo' }] }), {
    code: 'network-failed',
    message: /rename lo/,
  });
});

t.test('a resolv.conf that is a link is replaced, whatever it leads to', async (t) => {
  const { network, root } = makeNetwork();
  const victim = join(top, 'victim');
  writeFileSync(victim, 'untouched');
  mkdirSync(join(root, 'etc'));
  symlinkSync(victim, join(root, 'etc/resolv.conf'));
  symlinkSync('../run/none', join(root, 'etc/hosts'));
  await network.apply({ nameservers: ['192.0.2.53'] });
  t.equal(readFileSync(victim, 'utf8'), 'untouched');
  t.equal(readFileSync(join(root, 'etc/resolv.conf'), 'utf8'), 'nameserver 192.0.2.53\n');
  t.match(readFileSync(join(root, 'etc/hosts'), 'utf8'), /vm-1/);
});
