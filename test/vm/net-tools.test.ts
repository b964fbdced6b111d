/** The launcher's networks as people use them: VMs of one host that ping each other, and `ya-vm net` beside them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LOCAL_IDENTITY } from '../../host/node/node.ts';
import { readCapture } from '../lib/pcap-reader.ts';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, type CliProcess, runCli, startCli } from '../lib/ya-vm.ts';

t.setTimeout(0);

type Test = Parameters<typeof privateEnvironment>[0];

/** ICMP echo requests and replies over IPv4 among the frames of a capture, with the addresses. */
function echoes(path: string): string[] {
  const shown: string[] = [];
  for (const { frame, flags } of readCapture(path).packets) {
    const type = frame[34];
    if (frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 1 || (type !== 8 && type !== 0)) continue;
    const [from, to] = [26, 30].map((at) => frame.subarray(at, at + 4).join('.'));
    shown.push(`${from} > ${to} ${type === 8 ? 'request' : 'reply'} ${flags === 1 ? 'in' : 'out'}`);
  }
  return shown;
}

/** A VM in network `lab` that does nothing, until the test ends. */
function idleVm(t: Test, env: Record<string, string | undefined>, address: string): CliProcess {
  const words = ['run', ...ACCEL, '--vpn', `lab=${address}`, '--', 'sh', '-c', 'echo up; exec sleep 600'];
  return startCli(t, words, { env });
}

t.test('two VMs of a host ping each other, and ya-vm net shows how', async (t) => {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  const call = async (...words: string[]) => {
    const { code, stdout, stderr } = await runCli(t, words, { env });
    return { code, out: stdout.toString(), stderr };
  };
  const first = idleVm(t, env, '10.5.0.2/24');
  await first.says('up');
  const [id = ''] = (await call('ps', '-q')).out.trim().split('\n');

  const captured = join(folder, 'second.pcapng');
  const words = ['run', ...ACCEL, '--vpn', 'lab=10.5.0.3/24', '--pcap', captured];
  const watched = join(folder, 'first.pcapng');
  const capture = startCli(t, ['net', 'capture', id, '--pcap', watched], { env });
  await capture.until(() => capture.stderr.includes('Ctrl-C'), 'capture');
  const second = await call(...words, '--', 'ping', '-c', '3', '10.5.0.2');
  t.equal(second.code, 0, second.stderr);
  t.match(second.out, /3 packets transmitted, 3 packets received/);
  const there = ['request out', 'reply in'].map((what) =>
    what.startsWith('request') ? `10.5.0.3 > 10.5.0.2 ${what}` : `10.5.0.2 > 10.5.0.3 ${what}`,
  );
  t.same(echoes(captured), [...there, ...there, ...there], '--pcap has what the pinging VM saw');
  t.match(readCapture(captured), { nics: [{ name: 'eth0' }], statistics: [{ nic: 0, dropped: 0n }] });

  capture.kill('SIGINT');
  t.equal((await capture.ended()).code, 0);
  const here = ['10.5.0.3 > 10.5.0.2 request in', '10.5.0.2 > 10.5.0.3 reply out'];
  t.same(echoes(watched), [...here, ...here, ...here], 'net capture has what the other one saw');

  const stats = JSON.parse((await call('net', 'stats', id, '--json')).out);
  t.match(stats, { vpn: { networks: [{ id: 'lab', range: '10.5.0.0/24', role: 'owner' }] }, outbound: null });
  t.ok(stats.vpn.nic.framesIn >= 4 && stats.vpn.nic.framesOut >= 4, 'three echoes and an ARP each way');

  const alone = await call('net', 'ping', id, '10.5.0.3', '-c', '1', '-W', '1');
  t.equal(alone.code, 1, 'it has left');
  const third = idleVm(t, env, '10.5.0.4/24');
  await third.says('up');
  const ping = await call('net', 'ping', id, '10.5.0.4', '-c', '2', '-i', '0.2', '-W', '10');
  t.equal(ping.code, 0, ping.out + ping.stderr);
  t.match(ping.out, /2 packets transmitted, 2 received, 0% packet loss\nrtt min\/avg\/max = /);
  const peers = JSON.parse((await call('net', 'peers', id, '--json')).out);
  t.match(peers.map((peer: { address: string; kind: string }) => `${peer.address} ${peer.kind}`).sort(), [
    '10.5.0.2 self',
    '10.5.0.4 local',
  ]);
});

t.test('a VM without a network says so', async (t) => {
  const env = privateEnvironment(t);
  const vm = startCli(t, ['run', ...ACCEL, '--', 'sh', '-c', 'ip -o link; echo up; exec sleep 600'], { env });
  await vm.says('up');
  t.notMatch(vm.stdout.toString(), /eth0/, 'not even a card');
  const { code, stderr } = await runCli(t, ['net', 'stats'], { env });
  t.equal(code, 125);
  t.match(stderr, /YAVM_E_NET_CONTROL\)\n +hint: .*--vpn/);
});

t.test('a script’s own networks, by exec-script', async (t) => {
  const env = privateEnvironment(t);
  const file = join(env.XDG_RUNTIME_DIR as string, 'script.json');
  const net = [
    {
      id: 'a1b2',
      ip: '10.6.0.0/24',
      nodeIp: '10.6.0.7',
      nodes: { '10.6.0.7': LOCAL_IDENTITY.nodeId },
    },
  ];
  const show = { entry_point: '/bin/sh', args: ['-c', 'ip -o -4 addr'], capture: { stdout: { stream: {} } } };
  writeFileSync(file, JSON.stringify([{ deploy: { net } }, { start: {} }, { run: show }]));
  const { code, stdout, stderr } = await runCli(t, ['exec-script', file, ...ACCEL], { env });
  t.equal(code, 0, stderr);
  t.match(stdout.toString(), /eth0 .*10\.6\.0\.7\/24/);
});
