/**
 * Any bytes from the host on any of the three ports of a real guest: the agent neither crashes nor hangs, and its memory
 * stays small. The other direction, a hostile guest, is test/fuzz/runtime-ports.test.ts.
 */
import { Encoder } from 'cbor-x';
import t, { type Test } from 'tap';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import {
  encodeCredit,
  encodeFrame,
  FrameType,
  MAX_CONTROL_PAYLOAD,
  MAX_DATA_PAYLOAD,
} from '../../guest/protocol/frames.ts';
import type { Request, RequestBody } from '../../guest/protocol/messages.ts';
import { sleep, withDeadline } from '../../host/lib/deadline.ts';
import { requestExamples } from '../lib/messages.ts';
import { Random } from '../lib/random.ts';
import { type Answer, isWell, MOST_MEMORY, messageFrame, RawVm } from '../lib/raw-vm.ts';
import { count, soak } from '../lib/scale.ts';
import { sha256 } from '../lib/vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

const NOTHING = new Uint8Array(0);

/** A command's streams work: bytes go through `cat` as they are. */
async function passesBytes(t: Test, vm: RawVm, streams: { stdin: number; stdout: number }): Promise<void> {
  const bytes = random.bytes(700_001);
  const process = await vm.run('cat', streams);
  await vm.feed(streams.stdin, bytes);
  await vm.event('exited', (event) => event.process === process);
  await vm.until(() => vm.ended.has(streams.stdout), 'the end of the stream');
  const received = Buffer.concat(vm.received.get(streams.stdout) ?? []);
  t.equal(sha256(received), sha256(bytes), 'and data passes as before');
}

// ---------------------------------------------------------------- control: frames whose content is wrong

const plain = new Encoder({ useRecords: false, tagUint8Array: false });

/** Any CBOR value, not too large. */
function anything(depth: number = 0): unknown {
  const kind = random.between(0, depth > 3 ? 6 : 9);
  if (kind === 0) return random.next() - 2 ** 31;
  if (kind === 1)
    return random.pick([null, undefined, true, false, Number.NaN, Infinity, -0, 2 ** 53, 1e300]);
  if (kind === 2) return random.bytes(random.between(0, 40));
  if (kind === 3) return Buffer.from(random.bytes(random.between(0, 40))).toString('latin1');
  if (kind === 4) return random.pick(['', 'run', '/', '..', '\0', '__proto__', 'x'.repeat(5000)]);
  if (kind === 5) return random.next() / 7;
  if (kind === 6) return Array.from({ length: random.between(0, 6) }, () => anything(depth + 1));
  const names = [
    'id',
    'op',
    'argv',
    'env',
    'path',
    'stream',
    'mount',
    'kind',
    'size',
    '__proto__',
    'constructor',
  ];
  return Object.fromEntries(
    Array.from({ length: random.between(0, 6) }, () => [random.pick(names), anything(depth + 1)]),
  );
}

/** Requests that may be sent mutated. Not the one that ends the VM: that it is obeyed proves nothing. */
const { shutdown: _, ...EXAMPLES } = requestExamples;

function hostileMessage(): Uint8Array {
  const example = random.pick(Object.values(EXAMPLES)) as RequestBody;
  const request = { ...example, id: random.between(1, 40) } as Request;
  const kind = random.between(0, 6);
  if (kind === 0) return random.bytes(random.between(0, 200));
  if (kind === 1) return plain.encode(anything());
  if (kind === 2) return encodeMessage(request);
  // One field of a request that is right is anything.
  if (kind === 3) return plain.encode({ ...request, [random.pick(Object.keys(request))]: anything() });
  return random.mutate(encodeMessage(request));
}

/** Messages as large as may be, of what takes most memory once it is decoded. */
const LARGEST: [name: string, payload: Uint8Array][] = [
  ...([0x80, 0xa0, 0x60, 0x40, 0xf6, 0x00, 0x81, 0x9b, 0xff] as const).map((filler): [string, Uint8Array] => {
    const payload = new Uint8Array(MAX_CONTROL_PAYLOAD).fill(filler);
    // {"id": 1, "op": "run", "argv": [as many as there is room for]}
    const head = Buffer.from([0xa3, 0x62, 0x69, 0x64, 1, 0x62, 0x6f, 0x70, 0x63, 0x72, 0x75, 0x6e, 0x64]);
    payload.set(Buffer.concat([head, Buffer.from('argv'), Buffer.from([0x9a])]));
    new DataView(payload.buffer).setUint32(head.length + 5, payload.length - head.length - 9);
    return [`a list of a million items 0x${filler.toString(16)}`, payload];
  }),
  [
    'a map of many names',
    plain.encode(Object.fromEntries(Array.from({ length: 80_000 }, (_, n) => [`k${n}`, n]))),
  ],
  ['a name as long as may be', plain.encode({ id: 1, op: 'x'.repeat(MAX_CONTROL_PAYLOAD - 40) })],
];

/** The most memory that the agent ever had, bytes. */
async function mostMemory(vm: RawVm): Promise<number> {
  await vm.run('grep VmHWM: /proc/1/status', { stdout: 900 });
  await vm.until(() => vm.ended.has(900), 'the end of the stream');
  return Number(/\d+/.exec(Buffer.concat(vm.received.get(900) ?? []).toString())?.[0]) * 1024;
}

t.test('control: messages that are none', async (t) => {
  const vm = await RawVm.start(t);
  let sent = 0;
  for (let batch = 0; batch < count(200); batch++) {
    for (let message = 0; message < 150; message++, sent++) {
      vm.send(
        'control',
        encodeFrame(FrameType.message, random.pick([0, 0, random.next()]), hostileMessage()),
      );
      if (random.chance(20))
        vm.send('control', encodeFrame(random.between(6, 256), random.next(), random.bytes(9)));
    }
    // Transfers that a mutation has started wait for their bytes; requests that wait are bounded too.
    for (let stream = 0; stream < 20; stream++) vm.frame(FrameType.end, stream);
    await isWell(t, vm, `${sent} messages`);
  }
  for (const [name, payload] of LARGEST) {
    vm.send('control', encodeFrame(FrameType.message, 0, payload));
    await isWell(t, vm, name);
  }
  const peak = await mostMemory(vm);
  t.ok(peak <= MOST_MEMORY, `at most it had ${Math.round(peak / 1024)} KiB`);
  // No garbage: it is kept, checked and passed on, for a moment.
  const long = encodeMessage({
    ...requestExamples.run,
    argv: Array(60_000).fill('x'),
    tty: undefined,
    id: 77,
  });
  vm.send('control', encodeFrame(FrameType.message, 0, long));
  await isWell(t, vm, 'after as many arguments as may be');
  t.equal((await vm.request({ op: 'shutdown', grace: 0 })).error, undefined);
  t.match(
    await withDeadline(vm.qemu.exited, 30_000, 'power-off'),
    { code: 0 },
    'and it powers off when it is told to',
  );
});

t.test('control: more requests at a time than are answered', async (t) => {
  const vm = await RawVm.start(t);

  await t.test('transfers whose bytes never come', async (t) => {
    for (let stream = 1000; stream < 1400; stream++) {
      const request = {
        op: 'write-files',
        path: `/tmp/${stream}`,
        stream,
        format: 'file',
        id: stream,
      } as const;
      vm.send('control', messageFrame(request));
    }
    await isWell(t, vm, 'among 400 transfers');
    for (let stream = 1000; stream < 1400; stream++) vm.frame(FrameType.end, stream);
    const { error } = await answersAgain(vm, {
      op: 'write-files',
      path: '/tmp',
      stream: 1500,
      format: 'file',
    });
    t.match(error, { code: 'file-failed', errno: 'EISDIR' }, 'there is room for others');
  });

  await t.test('while nobody reads the answers', async (t) => {
    vm.control.pause();
    const request = encodeMessage({
      op: 'read-files',
      path: 'x'.repeat(4000),
      stream: 1,
      format: 'tar',
      id: 5,
    });
    // Of 4 KB: more than the port's queue and the socket hold.
    const requests = soak ? 5000 : 2000;
    for (let sent = 0; sent < requests; sent++)
      vm.send('control', encodeFrame(FrameType.message, 0, request));
    await withDeadline(drained(vm.control), 60_000, 'the guest to take all requests');
    vm.control.resume();
    await isWell(t, vm, `after ${requests} requests`);
  });

  await t.test('disks that never come', async (t) => {
    const mount = { kind: 'disk', serial: 'none', path: '/mnt' } as const;
    let answer: Answer = {};
    // On a busy machine the first are given up before the guest has read the last.
    for (let round = 0; round < 5 && !answer.error; round++) {
      for (let id = 1; id <= 400; id++) vm.send('control', messageFrame({ op: 'mount', mount, id }));
      answer = await vm.request({ op: 'stats' });
    }
    t.match(answer.error, { code: 'bad-request', message: /requests are being answered/ });
    // Disks are waited for, ten seconds.
    if (!soak) return;
    await answersAgain(vm, { op: 'stats' });
    await isWell(t, vm, 'after 400 mounts');
  });
});

/** Sends a request until it is not refused for lack of room any more. */
async function answersAgain(vm: RawVm, request: RequestBody): Promise<Answer> {
  for (let attempt = 0; attempt < 300; attempt++) {
    const answer = await vm.request(request);
    if (!/being answered|run already/.test(answer.error?.message ?? '')) return answer;
    await sleep(100);
  }
  throw new Error('the agent has no room again');
}

async function drained(socket: RawVm['control']): Promise<void> {
  while (socket.writableLength > 0) await new Promise((resolve) => socket.once('drain', resolve));
}

// ---------------------------------------------------------------- data: frames that mean nothing

/** Frames that are no error of the peer by themselves; `stdin` and `stdout` are streams of a command that runs. */
function strayFrame(stdin: number, stdout: number): Uint8Array {
  const kind = random.between(0, 7);
  if (kind === 0)
    return encodeFrame(FrameType.data, random.between(100, 200), random.bytes(random.between(0, 3000)));
  if (kind === 1) return encodeFrame(FrameType.end, random.pick([random.between(100, 200), stdout]), NOTHING);
  if (kind === 2) return encodeCredit(random.pick([random.between(100, 200), stdin]), random.next());
  if (kind === 3) return encodeCredit(stdout, random.pick([0, 1, 0xffffffff]));
  if (kind === 4) return encodeFrame(FrameType.data, stdout, random.bytes(random.between(0, 300)));
  if (kind === 5) return encodeFrame(FrameType.data, stdin, NOTHING);
  return encodeFrame(random.pick([0, 1, 5, 6, 255]), random.next(), random.bytes(random.between(0, 300)));
}

t.test('data: frames that mean nothing there are dropped, or told of', async (t) => {
  const vm = await RawVm.start(t);
  const process = await vm.run('cat', { stdin: 10, stdout: 11 });
  for (let round = 0; round < count(100); round++) {
    for (let frame = 0; frame < 400; frame++) vm.send('data', strayFrame(10, 11));
    await isWell(t, vm, `${(round + 1) * 400} frames`);
  }
  const told = vm.events.filter((event) => event.event === 'protocol-error');
  t.ok(told.length > 0 && told.every((event) => event.port === 'yavm.data'), `${told.length} events`);
  t.notOk(vm.ended.has(11), 'the command that was there goes on');
  await vm.feed(10, Buffer.from('still\n'));
  await vm.event('exited', (event) => event.process === process);
  await vm.until(() => vm.ended.has(11), 'the end of the stream');
  t.equal(Buffer.concat(vm.received.get(11) ?? []).toString(), 'still\n', 'with none of the stray bytes');
  await passesBytes(t, vm, { stdin: 20, stdout: 21 });

  await t.test('a flood of them neither fills memory nor keeps the agent from answering', async (t) => {
    const flood = encodeFrame(FrameType.data, 500, random.bytes(MAX_DATA_PAYLOAD));
    for (let sent = 0; sent < 100; sent++) vm.send('data', flood);
    await isWell(t, vm, 'in a flood');
    await withDeadline(drained(vm.data), 60_000, 'the guest to take 25 MB');
    await isWell(t, vm, 'after it');
  });

  await t.test('credit without end lets a command write, not the agent grow', async (t) => {
    for (let times = 0; times < 20; times++) vm.send('data', encodeCredit(31, 0xffffffff));
    const writer = await vm.run('exec cat /dev/zero', { stdout: 31 });
    vm.data.pause();
    for (let times = 0; times < 20; times++) vm.send('data', encodeCredit(31, 0xffffffff));
    await isWell(t, vm, 'a command that writes without end, and nobody who reads');
    await vm.request({ op: 'signal', process: writer, signal: 9, tree: true });
    vm.data.resume();
    await vm.event('exited', (event) => event.process === writer && event.signal === 9);
    await vm.until(() => vm.ended.has(31), 'the end of the stream');
  });

  await t.test('streams that are in use already are refused, and their owner keeps them', async (t) => {
    const owner = await vm.run('cat', { stdin: 40, stdout: 41 });
    const before = (await vm.request({ op: 'stats' })).ok?.processes;
    for (const streams of [
      { stdout: 41 },
      { stdin: 40 },
      { stdin: 40, stdout: 42 },
      { stdin: 43, stdout: 41 },
    ]) {
      const error = await vm.run('sleep 1000', streams).catch((error: { code: string }) => error);
      t.match(error, { code: 'spawn-failed' }, JSON.stringify(streams));
    }
    for (const op of ['read-files', 'write-files'] as const) {
      const stream = op === 'read-files' ? 41 : 40;
      const { error } = await vm.request({ op, path: '/etc/passwd', stream, format: 'file' });
      t.match(error, { code: 'file-failed' }, op);
    }
    t.equal((await vm.request({ op: 'stats' })).ok?.processes, before, 'no command is left of them');
    const sleeping = await vm.run('! ps | grep "[s]leep 1000"');
    t.match(await vm.event('exited', (event) => event.process === sleeping), { code: 0 }, 'nor a process');
    await vm.feed(40, Buffer.from('mine\n'));
    await vm.event('exited', (event) => event.process === owner);
    await vm.until(() => vm.ended.has(41), 'the end of the stream');
    t.equal(Buffer.concat(vm.received.get(41) ?? []).toString(), 'mine\n');
    // The numbers that only refused commands had are free.
    vm.ended.delete(42);
    await passesBytes(t, vm, { stdin: 45, stdout: 42 });
    const last = await vm.run('read line && test "$line" = yours', { stdin: 43 });
    await vm.feed(43, Buffer.from('yours\n'));
    t.match(await vm.event('exited', (event) => event.process === last), { code: 0 });
  });
});
