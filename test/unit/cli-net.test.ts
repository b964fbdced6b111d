import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { startTimeOf } from '../../host/lib/process.ts';
import { NETWORK_SOCKET, type NetworkControlServer } from '../../host/network/control-face.ts';
import { serveNetworkControl } from '../../host/network/control-server.ts';
import { type TestContext, testContext } from '../lib/cli.ts';
import { FakeControl, SAMPLE_STATS } from '../lib/network-control.ts';

interface Running {
  control: FakeControl;
  server: NetworkControlServer;
  folder: string;
  /** `ya-vm net` with these words. */
  net(...words: string[]): { context: TestContext; code: Promise<number> };
}

/** A VM that runs, by what its run folder says, with a network that answers as the test wants. */
async function running(t: { teardown(fn: () => unknown): void }): Promise<Running> {
  const runtime = mkdtempSync(join(tmpdir(), 'yavm-clinet-'));
  const folder = join(runtime, 'ya-vm', 'tobikuda');
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'vm.json'),
    JSON.stringify({
      id: 'tobikuda',
      title: 'demo.gvmi: sleep 60',
      supervisor: { pid: process.pid, startTime: startTimeOf(process.pid) },
      qemu: null,
      state: 'running',
      started: new Date().toISOString(),
      memoryMiB: 512,
      cpus: 1,
      accel: 'tcg',
      layers: [],
      hostname: 'golem',
      console: null,
    }),
  );
  const control = new FakeControl();
  const server = await serveNetworkControl(control, join(folder, NETWORK_SOCKET), silentLogger);
  t.teardown(async () => {
    await server.close();
    rmSync(runtime, { recursive: true, force: true });
  });
  return {
    control,
    server,
    folder,
    net(...words) {
      const context = testContext();
      context.env.XDG_RUNTIME_DIR = runtime;
      return { context, code: runProgram(['net', ...words], context) };
    },
  };
}

async function until(what: () => boolean): Promise<void> {
  for (let wait = 0; wait < 6000 && !what(); wait++) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** As Ctrl-C; this process listens for it as long as a command runs. */
const interrupt = () => process.emit('SIGINT');

t.test('peers as a table, and as JSON', async (t) => {
  const vm = await running(t);
  vm.control.current = structuredClone(SAMPLE_STATS);
  vm.control.current.vpn!.networks[0]!.id = 'l\u001bab';
  const { context, code } = vm.net('peers');
  t.equal(await code, 0);
  const lines = context.out().trimEnd().split('\n');
  t.match(lines[0], /^NETWORK +ADDRESS +NODE +KIND +FRAMES IN +IN +FRAMES OUT +OUT +SEEN$/);
  t.match(lines[1], /^l\\x1bab +10\.5\.0\.2 +0x1{40} +self +12 +3\.32 KiB +10 +2\.05 KiB +-$/);
  t.match(lines[2], /^l\\x1bab +10\.5\.0\.3 +0x2{40} +node .* ago$/);
  t.equal(lines.length, 3);

  vm.control.current = SAMPLE_STATS;
  const json = vm.net('peers', 'tobi', '--json');
  t.equal(await json.code, 0);
  t.match(JSON.parse(json.context.out()), [
    { network: 'lab', address: '10.5.0.2', kind: 'self', lastSeen: null },
    { network: 'lab', address: '10.5.0.3', kind: 'node', framesIn: 12 },
  ]);

  vm.control.current = { vpn: null, outbound: null };
  const none = vm.net('peers');
  t.equal(await none.code, 0);
  t.equal(none.context.out().split('\n').length, 2, 'the head alone');
});

t.test('stats: what passed, what was dropped and why, and what was refused', async (t) => {
  const vm = await running(t);
  const { context, code } = vm.net('stats');
  t.equal(await code, 0);
  const text = context.out();
  for (const line of [
    /^vpn, eth0 +received 3\.32 KiB in 12 frames$/m,
    /^ +dropped +2 unknown network$/m,
    /^network lab +10\.5\.0\.0\/24, owner, 2 peers$/m,
    /^ +dropped +5 no such address$/m,
    /^internet, eth1 +received/m,
    /^ +through +passt$/m,
    /^ +flows +3$/m,
    /^ +refused +tcp 169\.254\.169\.254:80: link-local, 4 times$/m,
    /^ +tcp 192\.0\.2\.7:443 \(example\.org\): not allowed, once$/m,
  ]) {
    t.match(text, line);
  }
  const json = vm.net('stats', '--json');
  t.equal(await json.code, 0);
  t.same(JSON.parse(json.context.out()), SAMPLE_STATS);
});

t.test('stats: hundreds of refusals are no page of text', async (t) => {
  const vm = await running(t);
  const stats = structuredClone(SAMPLE_STATS);
  stats.outbound!.restarts = 2;
  stats.outbound!.refusals = Array.from({ length: 300 }, (_, index) => ({
    destination: `tcp 192.0.2.1:${index + 1}`,
    reason: 'not allowed',
    count: index,
  }));
  vm.control.current = stats;
  const { context, code } = vm.net('stats');
  t.equal(await code, 0);
  t.match(context.out(), /refused +tcp 192\.0\.2\.1:300: not allowed, 299 times\n/);
  t.match(context.out(), /and 280 other destinations/);
  t.match(context.out(), /passt, started anew 2 times/);
  t.ok(context.out().split('\n').length < 50);
});

t.test('stats --watch: with rates, until Ctrl-C, or until the VM ends', async (t) => {
  const vm = await running(t);
  const { context, code } = vm.net('stats', '--watch');
  await until(() => context.out().includes('flows'));
  const more = structuredClone(SAMPLE_STATS);
  more.vpn!.nic.bytesIn += 10 * 1024 ** 2;
  vm.control.current = more;
  await until(() => context.out().includes('/s'));
  interrupt();
  t.equal(await code, 0);
  t.match(context.out(), /received 10 MiB in 12 frames, [\d.]+ MiB\/s/);

  const json = vm.net('stats', '--watch', '--json');
  await until(() => json.context.out().includes('\n'));
  await vm.server.close();
  t.equal(await json.code, 0);
  t.same(JSON.parse(json.context.out().split('\n')[0]!), more);
});

t.test('ping shows answers and a summary as ping does', async (t) => {
  const vm = await running(t);
  let count = 0;
  vm.control.onPing = async (address, milliseconds) => {
    if (++count === 2) throw new YavmError('YAVM_E_NET_PING', `${address}: no answer in ${milliseconds} ms`);
    return { milliseconds: count };
  };
  const { context, code } = vm.net('ping', 'tobikuda', '10.5.0.3', '-c', '3', '-i', '0.02', '-W', '0.5');
  t.equal(await code, 0);
  t.same(context.out().split('\n'), [
    'PING 10.5.0.3 from VM tobikuda',
    'reply from 10.5.0.3: icmp_seq=1 time=1.000 ms',
    'no reply: icmp_seq=2 10.5.0.3: no answer in 500 ms',
    'reply from 10.5.0.3: icmp_seq=3 time=3.000 ms',
    '',
    '--- 10.5.0.3 ping statistics ---',
    '3 packets transmitted, 2 received, 33% packet loss',
    'rtt min/avg/max = 1.000/2.000/3.000 ms',
    '',
  ]);
  t.same(vm.control.pings[0], { address: '10.5.0.3', milliseconds: 500 });
});

t.test('ping: nothing came back is exit code 1', async (t) => {
  const vm = await running(t);
  vm.control.onPing = async () => {
    throw new YavmError('YAVM_E_NET_PING', 'nobody has 10.5.0.9');
  };
  const { context, code } = vm.net('ping', 'tobikuda', '10.5.0.9', '-c', '2', '-i', '10ms');
  t.equal(await code, 1);
  t.match(
    context.out(),
    /no reply: icmp_seq=2 nobody has 10\.5\.0\.9\n\n---.*\n2 packets transmitted, 0 received, 100% packet loss\n$/,
  );
  t.notMatch(context.out(), /rtt/);
});

t.test('ping goes on until Ctrl-C, which prints the summary at once', async (t) => {
  const vm = await running(t);
  vm.control.onPing = async (_address, _milliseconds) => {
    if (vm.control.pings.length > 2) return await new Promise(() => {});
    return { milliseconds: 0.5 };
  };
  const { context, code } = vm.net('ping', 'tobikuda', 'fd00::3', '-i', '10ms');
  // More than are sent without an answer: it waits then.
  await until(() => vm.control.pings.length === 34);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(vm.control.pings.length, 34, 'a bound on what is under way');
  interrupt();
  t.equal(await code, 0);
  t.match(context.out(), /34 packets transmitted, 2 received, 94% packet loss\nrtt min\/avg\/max = 0\.500/);
});

t.test('ping: the VM ends meanwhile', async (t) => {
  const vm = await running(t);
  vm.control.onPing = () => new Promise(() => {});
  const { context, code } = vm.net('ping', 'tobikuda', '10.5.0.3');
  await until(() => vm.control.pings.length > 0);
  await vm.server.close();
  t.equal(await code, 125);
  t.match(context.out(), /1 packets transmitted, 0 received/);
  t.match(context.err(), /YAVM_E_NET_CONTROL/);
});

t.test('capture goes on until Ctrl-C, or until the VM ends', async (t) => {
  const vm = await running(t);
  const file = join(vm.folder, 'x.pcapng');
  writeFileSync(file, 'x'.repeat(2048));
  const { context, code } = vm.net('capture', '--pcap', file);
  await until(() => context.err().includes('Ctrl-C'));
  t.same(vm.control.captures, [file]);
  interrupt();
  t.equal(await code, 0);
  t.same(vm.control.captures, [file, null]);
  t.match(context.err(), /x\.pcapng: 2 KiB\n$/);

  const refused = vm.net('capture', '--pcap', '/refused');
  t.equal(await refused.code, 125);
  t.match(refused.context.err(), /YAVM_E_NET_CAPTURE/);

  const other = vm.net('capture', '--pcap', file);
  await until(() => other.context.err().includes('Ctrl-C'));
  await vm.server.close();
  t.equal(await other.code, 0);
  t.match(other.context.err(), /VM tobikuda has ended; /);
});

t.test('a service manager’s signal ends a capture in order, and is the exit code', async (t) => {
  const vm = await running(t);
  const { context, code } = vm.net('capture', '--pcap', join(vm.folder, 'x'));
  await until(() => context.err().includes('Ctrl-C'));
  process.emit('SIGTERM');
  t.equal(await code, 143);
  t.equal(vm.control.captures.at(-1), null);
});

t.test('what cannot be asked', async (t) => {
  const vm = await running(t);
  for (const [words, message] of [
    [['ping', 'tobikuda', 'example.org'], /'example\.org' is no address.*YAVM_E_USAGE/],
    [['ping', 'tobikuda'], /missing required argument 'address'/],
    [['ping', 'tobikuda', '10.0.0.1', '-c', '0'], /-c: '0' is no number/],
    [['ping', 'tobikuda', '10.0.0.1', '-i', 'x'], /-i: 'x' is not a duration/],
    [['ping', 'tobikuda', '10.0.0.1', '-W', '2m'], /-W: '2m' is longer/],
    [['capture'], /required option '--pcap <file>'/],
    [['peers', 'x'], /YAVM_E_NO_SUCH_VM/],
    [['stats', '--frob'], /unknown option/],
  ] as const) {
    const { context, code } = vm.net(...words);
    t.equal(await code, 125, words.join(' '));
    t.match(context.err(), message, words.join(' '));
  }
  await vm.server.close();
  const { context, code } = vm.net('stats');
  t.equal(await code, 125);
  t.match(context.err(), /the VM's network cannot be reached.*YAVM_E_NET_CONTROL\)\n +hint: .*--net/s);
});

t.test(
  'deadlines: a VM that does not answer a capture’s end does not hold its client for ever',
  async (t) => {
    const vm = await running(t);
    const gate = deferred<void>();
    const { context, code } = vm.net('capture', '--pcap', join(vm.folder, 'x'));
    await until(() => context.err().includes('Ctrl-C'));
    vm.control.gate = gate.promise;
    interrupt();
    const early = await Promise.race([code, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))]);
    t.equal(early, 'waits', 'the file is completed first');
    gate.resolve();
    t.equal(await code, 0);
  },
);
