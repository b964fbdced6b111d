import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, linkSync, openSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { deferred } from '../../host/lib/deferred.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { openCapture } from '../../host/network/pcap.ts';
import { readCapture } from '../lib/pcap-reader.ts';
import { ramFolders } from '../lib/ram-folders.ts';

const logger = silentLogger;
const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => (index * 31) >> 3);
/** An ARP request, whole: what tcpdump shows of it is known. */
const ARP = Buffer.from(
  'ffffffffffff90130a05000208060001080006040001' + '90130a0500020a050002' + '0000000000000a050003',
  'hex',
);

t.test('frames of two NICs, of every length that pads differently, come back as they were', async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  let time = 1_796_000_000_123_456;
  const capture = openCapture(file, { logger, now: () => time++ });
  const lengths = [14, 15, 16, 17, 42, 60, 1234, 65_534, 65_535];
  for (const [index, length] of lengths.entries()) {
    const nic = index % 3 === 0 ? 'eth1' : 'eth0';
    capture.frame(nic, bytes, index, length, index % 2 === 0 ? 'in' : 'out');
  }
  await capture.close();
  capture.frame('eth0', bytes, 0, 60, 'in');
  await capture.close();
  const { nics, packets, statistics } = readCapture(file);
  t.same(nics, [
    { link: 1, snap: 65_535, name: 'eth1', resolution: 6 },
    { link: 1, snap: 65_535, name: 'eth0', resolution: 6 },
  ]);
  t.same(
    packets.map(({ nic, flags, original }) => [nic, flags, original]),
    lengths.map((length, index) => [index % 3 === 0 ? 0 : 1, index % 2 === 0 ? 1 : 2, length]),
  );
  t.ok(packets.every(({ frame }, index) => frame.equals(bytes.subarray(index, index + lengths[index]!))));
  t.same(
    packets.map(({ microseconds }) => microseconds),
    lengths.map((_, index) => 1_796_000_000_123_457 + index),
  );
  t.match(statistics, [
    { nic: 0, received: 3n, dropped: 0n, start: 1_796_000_000_123_456 },
    { nic: 1, received: 6n, dropped: 0n },
  ]);
  t.equal(statSync(file).mode & 0o777, 0o600);
});

t.test('a frame that is longer than any is cut, and says how long it was', async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  const capture = openCapture(file, { logger });
  capture.frame('eth0', bytes, 0, 70_000, 'out');
  await capture.close();
  const [packet] = readCapture(file).packets;
  t.equal(packet?.frame.length, 65_535);
  t.equal(packet?.original, 70_000);
  t.ok(Math.abs((packet?.microseconds ?? 0) / 1000 - Date.now()) < 3_600_000, 'the time is the wall clock’s');
});

t.test('what is captured is in the file soon, without a close', async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  const capture = openCapture(file, { logger });
  capture.frame('eth0', ARP, 0, ARP.length, 'out');
  for (let wait = 0; wait < 3000 && readPackets(file) === 0; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.equal(readPackets(file), 1);
  await capture.close();

  function readPackets(path: string): number {
    return statSync(path).size === 0 ? 0 : readCapture(path).packets.length;
  }
});

t.test('a slow disk costs frames, which are counted, and no memory', async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  const gate = deferred<void>();
  const written: Buffer[] = [];
  const capture = openCapture(file, {
    logger,
    buffer: 64 * 1024,
    write: async (_fd, from, offset, length) => {
      await gate.promise;
      // Less than asked for, as a disk may.
      const some = Math.min(length, 10_000);
      written.push(Buffer.from(from.subarray(offset, offset + some)));
      return { bytesWritten: some };
    },
  });
  for (let count = 0; count < 1000; count++) capture.frame('eth0', bytes, 0, 1000, 'in');
  t.ok(capture.dropped > 800 && capture.dropped < 1000, `${capture.dropped} of 1000 frames`);
  gate.resolve();
  await capture.close();
  t.equal(capture.failure, null);
  writeFileSync(file, Buffer.concat(written));
  const { packets, statistics } = readCapture(file);
  t.equal(packets.length, 1000 - capture.dropped);
  t.match(statistics, [{ received: 1000n, dropped: BigInt(capture.dropped) }]);
});

t.test('a full disk ends the capture, with a file that can be read, and nothing else', async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  const errors: unknown[] = [];
  let room = 300_000;
  const capture = openCapture(file, {
    logger: { ...silentLogger, error: (fields: unknown) => void errors.push(fields) },
    buffer: 128 * 1024,
    write: async (fd, from, offset, length) => {
      if (room === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      const bytesWritten = writeSync(fd, from, offset, Math.min(room, length));
      room -= bytesWritten;
      return { bytesWritten };
    },
  });
  for (let count = 0; count < 1000 && capture.failure === null; count++) {
    capture.frame('eth0', bytes, 0, 1000, 'in');
    if (count % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await capture.close();
  t.match(capture.failure, { code: 'YAVM_E_NET_CAPTURE', hint: /full/ });
  t.match(errors, [{ err: { code: 'YAVM_E_NET_CAPTURE' } }]);
  t.equal(errors.length, 1);
  capture.frame('eth0', bytes, 0, 1000, 'in');
  const { packets } = readCapture(file);
  t.ok(packets.length > 100, `${packets.length} frames are there`);
});

const root = process.getuid?.() === 0;

t.test(
  'a disk that is full in fact',
  { skip: root ? false : 'needs root, for a small file system' },
  async (t) => {
    const folder = ramFolders(t, '512k')();
    const capture = openCapture(join(folder, 'net.pcapng'), { logger });
    for (let count = 0; count < 2000 && capture.failure === null; count++) {
      capture.frame('eth0', bytes, 0, 1500, 'out');
      if (count % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await capture.close();
    t.match(capture.failure, { code: 'YAVM_E_NET_CAPTURE', cause: { code: 'ENOSPC' }, hint: /full/ });
    t.ok(readCapture(join(folder, 'net.pcapng')).packets.length > 100, 'what was written before can be read');
  },
);

t.test('where it may be', async (t) => {
  const folder = t.testdir({ old: 'something longer than a header'.repeat(100), two: '' });
  const at = (name: string) => join(folder, name);
  symlinkSync(at('target'), at('link'));
  linkSync(at('two'), at('names'));
  execFileSync('mkfifo', [at('pipe')]);
  for (const [name, message] of [
    ['link', /link: the network cannot be captured/],
    ['names', /names/],
    ['pipe', /pipe/],
    ['', /cannot be captured/],
    ['none/file', /none/],
  ] as const) {
    t.throws(() => openCapture(at(name), { logger }), { code: 'YAVM_E_NET_CAPTURE', message }, name);
  }
  t.throws(() => statSync(at('target')), 'nothing was made behind the link');
  const capture = openCapture(at('old'), { logger });
  await capture.close();
  t.same(readCapture(at('old')), { nics: [], packets: [], statistics: [] }, 'replaced as a whole');
  t.equal(statSync(at('old')).mode & 0o777, 0o600);
});

t.test('a pipe with a reader is none either: what it reads would be the network’s pace', async (t) => {
  const pipe = join(t.testdir({}), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const reader = openSync(pipe, 'r+');
  t.teardown(() => closeSync(reader));
  t.throws(() => openCapture(pipe, { logger }), { code: 'YAVM_E_NET_CAPTURE' });
});

const tcpdump = spawnSync('tcpdump', ['--version']).error === undefined;

t.test('tcpdump reads it', { skip: tcpdump ? false : 'tcpdump is not installed' }, async (t) => {
  const file = join(t.testdir({}), 'net.pcapng');
  const capture = openCapture(file, { logger });
  capture.frame('eth0', ARP, 0, ARP.length, 'out');
  capture.frame('eth1', ARP, 0, ARP.length, 'in');
  await capture.close();
  const shown = execFileSync('tcpdump', ['-n', '-r', file], { encoding: 'utf8', stdio: 'pipe' });
  const lines = shown.trimEnd().split('\n');
  t.equal(lines.length, 2);
  for (const line of lines) t.match(line, /ARP, Request who-has 10\.5\.0\.3 tell 10\.5\.0\.2/);
});
