/** `--net`, `--allow` and `--publish` of `run` and `exec-script`, and `ya-vm net` beside them; the internet is the test's own. */
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Zone } from '../lib/dns-server.ts';
import { SERVERS, startInternet } from '../lib/internet.ts';
import { contentHash } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { readCapture } from '../lib/pcap-reader.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { bytes } from '../lib/scale.ts';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, runCli, startCli } from '../lib/ya-vm.ts';

inNamespaces(import.meta.url);
t.setTimeout(0);

const MIB = 1024 ** 2;
const zone: Zone = {
  'files.example': [{ type: 'A', data: SERVERS.one, ttl: 60 }],
  'other.example': [{ type: 'A', data: SERVERS.two, ttl: 60 }],
};

t.test('run --net: a file by its name, whole', async (t) => {
  await startInternet(t, { zone });
  const env = privateEnvironment(t);
  const size = bytes(1024 * MIB);
  const pcap = join(env.XDG_RUNTIME_DIR as string, 'small.pcapng');
  const line = `wget -q -O - http://files.example/bytes/${size} | sha256sum`;
  const { code, stdout, stderr } = await runCli(t, ['run', ...ACCEL, '--net', '--', 'sh', '-c', line], {
    env,
  });
  t.equal(code, 0, stderr);
  t.equal(stdout.toString().split(' ')[0], contentHash(size), stderr);

  const words = ['run', ...ACCEL, '--net', '--mtu', '1500', '--pcap', pcap, '--'];
  const small = await runCli(t, [...words, 'wget', '-q', '-O', '-', 'http://files.example/'], { env });
  t.equal(small.code, 0, small.stderr);
  t.equal(small.stdout.toString(), 'hello');
  const { nics, packets } = readCapture(pcap);
  t.match(nics, [{ name: 'eth1' }]);
  t.ok(packets.length > 8, 'names, a connection, its end');
  t.ok(
    packets.every(({ frame }) => frame.length <= 1514),
    'no frame is longer than the MTU',
  );
});

t.test('run --pcap: a full disk ends the file, and nothing else', async (t) => {
  await startInternet(t, { zone });
  const env = privateEnvironment(t);
  const pcap = join(ramFolders(t, '1m')(), 'net.pcapng');
  const size = 4 * MIB;
  const line = `wget -q -O - http://files.example/bytes/${size} | sha256sum`;
  const words = ['run', ...ACCEL, '--net', '--pcap', pcap, '--', 'sh', '-c', line];
  const { code, stdout, stderr } = await runCli(t, words, { env });
  t.equal(code, 0, stderr);
  t.equal(stdout.toString().split(' ')[0], contentHash(size));
  const { packets, statistics } = readCapture(pcap);
  t.ok(packets.length > 5, 'it has its beginning');
  t.same(statistics, [], 'and no end');
});

t.test('run --allow: there, and nowhere else; who looks on sees both', async (t) => {
  await startInternet(t, { zone });
  const env = privateEnvironment(t);
  const get = (url: string) => `wget -q -O - ${url} || echo "no \${?}"`;
  const lines = [
    get('http://files.example/'),
    'echo',
    `s=$(date +%s); ${get(`http://${SERVERS.two}/`)}; echo "after $(($(date +%s) - s)) s"`,
    get(`http://${SERVERS.one}:8080/`),
    'echo done; exec sleep 600',
  ];
  const words = ['run', ...ACCEL, '--allow', 'http://files.example', '--', 'sh', '-c', lines.join('\n')];
  const vm = startCli(t, words, { env });
  await vm.says('done');
  const [hello, other, after, port] = vm.stdout.toString().split('\n');
  t.equal(hello, 'hello');
  t.equal(other, 'no 1');
  t.match(after, /after \d s/, 'refused, not left without an answer');
  t.equal(port, 'no 1', 'the port is part of the rule');

  const stats = JSON.parse((await runCli(t, ['net', 'stats', '--json'], { env })).stdout.toString());
  const refused = stats.outbound.refusals.map(({ destination }: { destination: string }) => destination);
  t.ok(refused.includes(`tcp ${SERVERS.two}:80`), JSON.stringify(refused));
  t.ok(refused.includes(`tcp ${SERVERS.one}:8080`), JSON.stringify(refused));
  t.equal(stats.vpn, null);
  const text = (await runCli(t, ['net', 'stats'], { env })).stdout.toString();
  t.match(text, /internet, eth1 +received .*\n(.*\n)* +refused +tcp /);
  t.match((await runCli(t, ['net', 'peers'], { env })).stdout.toString(), /^NETWORK .*\n$/, 'nobody');
});

t.test('run --publish: a server in the VM is reached at a port of this host', async (t) => {
  await startInternet(t, { zone });
  const env = privateEnvironment(t);
  const serve = 'mkdir /www; echo from the VM >/www/index.html; httpd -p 80 -h /www; echo up; exec sleep 600';
  const vm = startCli(t, ['run', ...ACCEL, '-p', '127.0.0.1:8099:80', '--', 'sh', '-c', serve], { env });
  await vm.says('up');
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(8099, '127.0.0.1', () => socket.end('GET /index.html HTTP/1.0\r\n\r\n'));
    let text = '';
    socket.setTimeout(60_000, () => reject(new Error('no answer')));
    socket.on('data', (piece) => {
      text += piece;
    });
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
  t.match(answer, /from the VM/);
  const again = await runCli(t, ['run', ...ACCEL, '-p', '127.0.0.1:8099:80', '--', 'true'], { env });
  t.equal(again.code, 125);
  t.match(again.stderr, /8099.*YAVM_E_NET_PUBLISH/s);
});

t.test('exec-script --net: the script’s activity has a manifest that lets it out', async (t) => {
  await startInternet(t, { zone });
  const env = privateEnvironment(t);
  const file = join(env.XDG_RUNTIME_DIR as string, 'script.json');
  const get = {
    entry_point: '/bin/sh',
    args: ['-c', 'wget -q -O - http://files.example/; wget -q -O - http://other.example/'],
    capture: { stdout: { stream: {} } },
  };
  writeFileSync(file, JSON.stringify([{ deploy: {} }, { start: {} }, { run: get }]));
  const all = await runCli(t, ['exec-script', file, ...ACCEL, '--net'], { env });
  t.equal(all.code, 0, all.stderr);
  t.equal(all.stdout.toString().match(/hello/g)?.length, 2, 'both servers');
  const one = await runCli(t, ['exec-script', file, ...ACCEL, '--allow', 'http://files.example'], { env });
  t.equal(one.code, 1, one.stderr);
  t.equal(one.stdout.toString().match(/hello/g)?.length, 1, 'the one that is listed');
});
