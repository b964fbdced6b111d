import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import type { Act } from '../../host/cli/commands.ts';
import { execScript } from '../../host/cli/exec-script.ts';
import type { startLocalActivity } from '../../host/cli/local-activity.ts';
import { manifestFor } from '../../host/cli/net-manifest.ts';
import {
  addNetworkOptions,
  linkOf,
  parsePublish,
  parseVpn,
  readNetworkOptions,
} from '../../host/cli/network-options.ts';
import { runProgram } from '../../host/cli/program.ts';
import { define as defineRun, run } from '../../host/cli/run.ts';
import { define as defineShell, shell } from '../../host/cli/shell.ts';
import { LocalExchange } from '../../host/exe-unit/local.ts';
import type { LocalNetworkOptions } from '../../host/exe-unit/local-network.ts';
import { type Manifest, parseManifest } from '../../host/exe-unit/manifest.ts';
import { outboundPolicy } from '../../host/exe-unit/network-plan.ts';
import { testContext } from '../lib/cli.ts';
import { fakeVm } from '../lib/cli-vm.ts';

const USAGE = { code: 'YAVM_E_USAGE' };

/** The options as `run` reads them. */
function read(words: readonly string[], env: Record<string, string> = {}): LocalNetworkOptions | null {
  const command = new Command().exitOverride().argument('[command...]').passThroughOptions();
  command.configureOutput({ writeErr: () => {} });
  addNetworkOptions(command);
  command.parse(['node', 'ya-vm', ...words]);
  return readNetworkOptions(command.opts(), env);
}

const anywhere = { unrestricted: true, rules: [] };

t.test('none, unless it is asked for', async (t) => {
  t.equal(read([]), null);
  t.equal(read(['--net', 'none']), null);
  t.equal(read([], { YA_VM_VPN_LINK: 'nonsense' }), null, 'what concerns no VPN is not looked at');
  const internet = { internet: { policy: anywhere, publish: [] }, vpn: [] };
  t.same(read(['--net']), internet);
  t.same(read(['--net', 'internet', 'wget', 'x']), internet);
  t.same(read(['--net', '--', 'wget', 'x']), internet);
  t.throws(() => read(['--net', 'wget']), { ...USAGE, message: /--net: 'wget' is no network/, hint: /--/ });
});

t.test('a list of what may be reached', async (t) => {
  t.same(read(['--allow', 'https://Example.org/path', '--allow', 'udp://192.0.2.1:53'])?.internet?.policy, {
    unrestricted: false,
    rules: [
      { host: { name: 'example.org' }, protocol: 'tcp', port: 443 },
      { host: { address: '192.0.2.1' }, protocol: 'udp', port: 53 },
    ],
  });
  t.throws(() => read(['--allow', 'example.org']), { ...USAGE, message: /--allow: .*example\.org/ });
  t.throws(() => read(['--net', 'none', '--allow', 'https://a.example']), {
    ...USAGE,
    message: /excludes --allow/,
  });
});

t.test('ports, as docker has them', async (t) => {
  t.same(parsePublish('8080:80'), { protocol: 'tcp', hostPort: 8080, guestPort: 80 });
  t.same(parsePublish('127.0.0.1:8080:80/tcp'), {
    protocol: 'tcp',
    hostAddress: '127.0.0.1',
    hostPort: 8080,
    guestPort: 80,
  });
  t.same(parsePublish('[0:0::1]:53:5353/udp'), {
    protocol: 'udp',
    hostAddress: '::1',
    hostPort: 53,
    guestPort: 5353,
  });
  t.same(read(['-p', '1:2', '--publish', '1:3/udp'])?.internet, {
    policy: anywhere,
    publish: [
      { protocol: 'tcp', hostPort: 1, guestPort: 2 },
      { protocol: 'udp', hostPort: 1, guestPort: 3 },
    ],
  });
  for (const text of [
    ...[
      '',
      '80',
      '80:',
      ':80',
      '0:80',
      '80:0',
      '65536:80',
      '80:65536',
      'x:80',
      '80:x',
      '-1:80',
      '+1:2',
      ' 1:2',
    ],
    ...[
      '1:2/sctp',
      '1:2/',
      '1:2/tcp/udp',
      '8000-8010:80',
      'host:1:2',
      '::1:1:2',
      '[::1]1:2',
      '[127.0.0.1]:1:2',
    ],
    ...['[fe80::1%eth0]:1:2', '256.0.0.1:1:2', '1.2.3.4:5:6:7', '1:2\n', '1:2\0'],
  ]) {
    t.throws(() => parsePublish(text), USAGE, JSON.stringify(text));
  }
  t.throws(() => read(['-p', '1:2', '-p', '1:3']), {
    ...USAGE,
    message: /1\/tcp of this host is given twice/,
  });
  t.doesNotThrow(() => read(['-p', '127.0.0.1:1:2', '-p', '127.0.0.2:1:2']));
});

t.test('the MTU', async (t) => {
  t.equal(read(['--mtu', '1500'])?.internet?.mtu, 1500);
  for (const text of ['1279', '65521', 'x', '1e4', '']) t.throws(() => read(['--mtu', text]), USAGE, text);
});

t.test('networks among VMs, in the words of a script', async (t) => {
  t.same(parseVpn('lab=10.5.0.2/24'), { id: 'lab', ip: '10.5.0.0/24', nodeIp: '10.5.0.2', nodes: {} });
  t.same(parseVpn('a.b-c=FD00:0::2/64'), { id: 'a.b-c', ip: 'fd00::/64', nodeIp: 'fd00::2', nodes: {} });
  t.same(parseVpn('p2p=10.0.0.0/31'), { id: 'p2p', ip: '10.0.0.0/31', nodeIp: '10.0.0.0', nodes: {} });
  for (const text of [
    ...[
      '',
      'lab',
      'lab=',
      '=10.0.0.1/8',
      'lab=10.0.0.1',
      'lab=10.0.0.1/',
      'lab=10.0.0.1/33',
      'lab=10.0.0.1/32',
    ],
    ...[
      'lab=10.0.0.1/0',
      'lab=10.0.0.0/24',
      'lab=10.0.0.255/24',
      'lab=127.0.0.1/8',
      'lab=224.0.0.1/8',
      'lab=::1/64',
    ],
    ...[
      'lab=fe80::1%eth0/64',
      'a/b=10.0.0.1/8',
      '-x=10.0.0.1/8',
      'lab=10.0.0.1/8/9',
      'lab=fd00::1/128',
      'ä=10.0.0.1/8',
    ],
    `${'x'.repeat(65)}=10.0.0.1/8`,
  ]) {
    t.throws(() => parseVpn(text), USAGE, JSON.stringify(text));
  }
  t.match(read(['--vpn', 'a=10.0.0.1/24', '--vpn', 'b=10.0.1.1/24']), {
    internet: null,
    vpn: [{ id: 'a' }, { id: 'b' }],
  });
  t.throws(() => read(['--vpn', 'a=10.0.0.1/24', '--vpn', 'a=10.0.1.1/24']), {
    ...USAGE,
    message: /id taken: a/,
  });
  t.throws(() => read(['--vpn', 'a=10.0.0.1/24', '--vpn', 'b=10.0.0.2/16']), USAGE);
});

t.test('captures and links', async (t) => {
  t.equal(read(['--net', '--pcap', 'x.pcapng'])?.pcap, join(process.cwd(), 'x.pcapng'));
  t.throws(() => read(['--pcap', 'x']), { ...USAGE, message: /no network/ });
  const vpn = ['--vpn', 'a=10.0.0.1/24'];
  t.equal(read(vpn)?.link, undefined);
  t.equal(read([...vpn, '--vpn-link', 'unix'])?.link, 'unix');
  t.equal(read(vpn, { YA_VM_VPN_LINK: 'tcp' })?.link, 'tcp');
  t.equal(read([...vpn, '--vpn-link', 'udp'], { YA_VM_VPN_LINK: 'tcp' })?.link, 'udp');
  t.throws(() => read(vpn, { YA_VM_VPN_LINK: 'pipe' }), { ...USAGE, message: /YA_VM_VPN_LINK: 'pipe'/ });
  t.throws(() => read(['--net', '--vpn-link', 'udp']), { ...USAGE, message: /there is none/ });
  t.throws(() => read([...vpn, '--vpn-link', 'pipe']), USAGE);
  t.equal(linkOf({ YA_VM_VPN_LINK: '' }), undefined);
});

t.test('run and shell pass them on to who starts the VM', async (t) => {
  for (const [name, define, call] of [
    ['run', defineRun, run],
    ['shell', defineShell, shell],
  ] as const) {
    const vm = await fakeVm(t);
    const context = testContext();
    context.env.YAVM_ASSETS = vm.assets;
    const networks: unknown[] = [];
    const start: typeof vm.start = (spec, hooks) => {
      networks.push(hooks.network);
      return vm.start(spec, hooks);
    };
    const load = async () => ({
      define: (command: Parameters<typeof define>[0], act: Act) =>
        define(command, (defined) => {
          act(defined, (inner, options, [given]) => call(inner, options, given as never, start));
        }),
    });
    const words = ['--net', '--vpn', 'lab=10.5.0.2/24', ...(name === 'run' ? ['--', 'job'] : [])];
    const code = runProgram([name, ...words], context, [{ name, summary: name, load }]);
    vm.guest.exit((await vm.guest.requested('run')).id);
    t.equal(await code, 0, name);
    t.match(networks, [{ internet: { policy: anywhere }, vpn: [{ id: 'lab', nodeIp: '10.5.0.2' }] }], name);
  }
});

t.test('a running VM gets no more networks', async (t) => {
  const vm = await fakeVm(t);
  const context = testContext();
  context.env.YAVM_ASSETS = vm.assets;
  t.equal(await runProgram(['shell', 'tobikuda', '--net'], context), 125);
  t.match(context.err(), /gets its networks at its start/);
});

t.test('exec-script asks for the internet by a manifest, as a requestor does', async (t) => {
  const manifests: unknown[] = [];
  const start: typeof startLocalActivity = async (_context, { outbound }) => {
    manifests.push(outbound && parseManifest(manifestFor(outbound, new Date())));
    throw new Error('enough');
  };
  const folder = t.testdir({ 'x.json': '[]' });
  for (const options of [
    { net: true },
    { allow: ['https://a.example', 'udp://192.0.2.1:53'] },
    {},
    { net: 'none' },
  ] as const) {
    await t.rejects(
      execScript(
        testContext(),
        { ...options, allow: options.allow && [...options.allow] },
        join(folder, 'x.json'),
        start,
      ),
    );
  }
  t.same(
    manifests.map((manifest) => manifest && outboundPolicy(manifest as Manifest)),
    [
      anywhere,
      {
        unrestricted: false,
        rules: [
          { host: { name: 'a.example' }, protocol: 'tcp', port: 443 },
          { host: { address: '192.0.2.1' }, protocol: 'udp', port: 53 },
        ],
      },
      undefined,
      undefined,
    ],
  );
  const file = join(folder, 'x.json');
  for (const [words, message] of [
    [['--net', 'none', '--allow', 'https://a.example'], /excludes --allow/],
    [['--allow', 'a.example'], /--allow: /],
    [['--net', '--gsb-url', 'unix:/x', '--activity', 'y'], /for a new activity/],
  ] as const) {
    const context = testContext();
    t.equal(await runProgram(['exec-script', file, ...words], context), 125);
    t.match(context.err(), message);
  }
});

// ---------------------------------------------------------------- the folder of run and its exe-unit

function exchange(t: { teardown(fn: () => void): void }): { folder: string; local: LocalExchange } {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-local-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return { folder, local: new LocalExchange(folder) };
}

t.test('networks cross to the exe-unit as they are', async (t) => {
  const { local } = exchange(t);
  local.putNetwork(null);
  t.equal(local.network(), null);
  const network = read([
    ...[
      '--allow',
      'https://a.example',
      '--allow',
      'udp://192.0.2.1:53',
      '-p',
      '127.0.0.1:1:2/udp',
      '-p',
      '3:4',
    ],
    ...[
      '--vpn',
      'lab=10.5.0.2/24',
      '--vpn',
      'six=fd00::2/64',
      '--mtu',
      '1500',
      '--pcap',
      '/x',
      '--vpn-link',
      'tcp',
    ],
  ]);
  local.putNetwork(network);
  t.strictSame(JSON.parse(JSON.stringify(local.network())), JSON.parse(JSON.stringify(network)));
});

t.test('what else lies there is refused, with the place', async (t) => {
  const { folder, local } = exchange(t);
  const internet = { policy: anywhere, publish: [] };
  const rule = { host: { name: 'a' }, protocol: 'tcp', port: 1 };
  const port = { protocol: 'tcp', hostPort: 1, guestPort: 2 };
  const vpn = { id: 'a', ip: 'b', nodeIp: 'c', nodes: {} };
  const wrong: [unknown, RegExp][] = [
    [{}, /network/],
    [5, /network/],
    [{ internet: null }, /network\.vpn/],
    [{ internet: {}, vpn: [] }, /policy/],
    [{ internet: { ...internet, policy: { unrestricted: 1, rules: [] } }, vpn: [] }, /unrestricted/],
    [
      { internet: { ...internet, policy: { ...anywhere, rules: [{ ...rule, port: 0 }] } }, vpn: [] },
      /rules\[0\]\.port/,
    ],
    [
      {
        internet: { ...internet, policy: { ...anywhere, rules: [{ ...rule, host: { dns: 'a' } }] } },
        vpn: [],
      },
      /host/,
    ],
    [
      { internet: { ...internet, policy: { ...anywhere, rules: [{ ...rule, protocol: 'icmp' }] } }, vpn: [] },
      /protocol/,
    ],
    [
      { internet: { ...internet, publish: [{ ...port, hostPort: 70_000 }] }, vpn: [] },
      /publish\[0\]\.hostPort/,
    ],
    [{ internet: { ...internet, mtu: '1500' }, vpn: [] }, /mtu/],
    [{ internet: null, vpn: [{ ...vpn, nodeIp: 5 }] }, /vpn\[0\]\.nodeIp/],
    [{ internet: null, vpn: [{ ...vpn, nodes: { a: 5 } }] }, /vpn\[0\]\.nodes/],
    [{ internet: null, vpn: Array(33).fill(vpn) }, /more than 32/],
    [{ internet: null, vpn: [], pcap: 5 }, /pcap/],
    [{ internet: null, vpn: [], link: 'pipe' }, /link/],
  ];
  for (const [network, message] of wrong) {
    writeFileSync(join(folder, 'network.json'), JSON.stringify({ network }));
    t.throws(() => local.network(), { code: 'YAVM_E_LOCAL', message }, JSON.stringify(network).slice(0, 80));
  }
  rmSync(join(folder, 'network.json'));
  t.throws(() => local.network(), { code: 'YAVM_E_LOCAL' });
});
