/** Bytes from the host that are no frames at all, on each port of a real guest, and ports that are closed. */
import { join } from 'node:path';
import t from 'tap';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import {
  encodeCredit,
  encodeFrame,
  FrameType,
  MAX_CONTROL_PAYLOAD,
  STREAM_WINDOW,
} from '../../guest/protocol/frames.ts';
import type { Request } from '../../guest/protocol/messages.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { findDamage, readFileIn } from '../lib/ext4.ts';
import { Random } from '../lib/random.ts';
import { isWell, RawVm } from '../lib/raw-vm.ts';
import { count } from '../lib/scale.ts';
import { privateEnvironment } from '../lib/vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;

/** Bytes after which a port cannot be read any more. */
const BROKEN: [name: string, make: () => Uint8Array][] = [
  ['a length of 0', () => new Uint8Array(64)],
  ['a length of 4 GiB', () => new Uint8Array(64).fill(0xff)],
  ['a length beyond the bound', () => header(MAX_CONTROL_PAYLOAD + 6)],
  ['a credit of 3 bytes', () => encodeFrame(FrameType.credit, 1, new Uint8Array(3))],
  ['an end with a payload', () => encodeFrame(FrameType.end, 1, new Uint8Array(1))],
  ['random bytes', () => Buffer.concat([Uint8Array.of(0, 0, 0, 0x80), random.bytes(5000)])],
  [
    'a good frame, then half of one, then garbage',
    () =>
      Buffer.concat([
        encodeFrame(FrameType.message, 0, encodeMessage({ id: 1, op: 'none' } as unknown as Request)),
        encodeFrame(FrameType.message, 0, new Uint8Array(1000)).subarray(0, 500),
        new Uint8Array(2000).fill(0xfe),
      ]),
  ],
];

function header(length: number): Uint8Array {
  const bytes = new Uint8Array(64);
  new DataView(bytes.buffer).setUint32(0, length, true);
  return bytes;
}

/** Bytes that end the data port although they are frames: more than the stream's credit. */
async function beyondTheCredit(vm: RawVm): Promise<Uint8Array> {
  await vm.run('sleep 1000', { stdin: 90 });
  await vm.until(() => vm.credits.has(90), 'credit');
  return Buffer.concat([
    encodeFrame(FrameType.data, 90, new Uint8Array(STREAM_WINDOW)),
    encodeFrame(FrameType.data, 90, new Uint8Array(STREAM_WINDOW)),
  ]);
}

const first = random.between(0, BROKEN.length);
for (let round = 0; round < count(60); round++) {
  const [name, make] = BROKEN[(first + round) % BROKEN.length] as (typeof BROKEN)[number];
  const keepsLog = round % 2 === 0;
  t.test(`no frames: data, then ${keepsLog ? '' : 'log, then '}control; ${name}`, async (t) => {
    const disk = join(folder, `broken-${round}.disk`);
    const vm = await RawVm.start(t, { rootDisk: disk });
    await vm.run('trap "echo terminated >/terminated; exit" TERM; while :; do sleep 0.1; done', {
      stdout: 50,
    });
    vm.send('data', round === 0 ? await beyondTheCredit(vm) : make());
    const event = await vm.event(
      'protocol-error',
      ({ port, message }) => port === 'yavm.data' && message.startsWith('protocol: '),
    );
    t.ok(event.message.length > 'protocol: '.length, event.message);
    await isWell(t, vm, 'without a data port');
    const quiet = await vm.run('echo x >/without; exit 3');
    t.match(await vm.event('exited', (event) => event.process === quiet), { code: 3 });
    const refused = await vm
      .run('sleep 2000', { stdin: 60, stdout: 61 })
      .catch((error: { code: string }) => error);
    t.match(refused, { code: 'spawn-failed' }, 'a command with streams is refused');
    const sleeping = await vm.run('! ps | grep "[s]leep 2000"');
    t.match(await vm.event('exited', (event) => event.process === sleeping), { code: 0 }, 'and not started');

    if (!keepsLog) {
      vm.send('log', encodeFrame(FrameType.log, 0, random.bytes(50)), encodeCredit(3, 7));
      await vm.event(
        'protocol-error',
        ({ port, message }) => port === 'yavm.log' && /frame of type 5/.test(message),
      );
      vm.send('log', make());
      await vm.event(
        'protocol-error',
        ({ port, message }) => port === 'yavm.log' && /^protocol: /.test(message),
      );
      await isWell(t, vm, 'without a log port');
    }

    vm.send('control', make());
    t.match(await withDeadline(vm.qemu.exited, 30_000, 'power-off'), { code: 0 }, 'the machine powers off');
    const reason = vm.records.find(({ msg }) => msg === 'port yavm.control ended');
    if (keepsLog) t.match(reason, { level: 50, reason: 'protocol', detail: /./ }, 'and says why');
    t.equal(findDamage(disk), '', 'in order: the disk is clean');
    t.equal(readFileIn(disk, '/upper/without').toString(), 'x\n');
    t.equal(readFileIn(disk, '/upper/terminated').toString(), 'terminated\n', 'commands were told to end');
  });
}

t.test('no host: closed ports', async (t) => {
  const vm = await RawVm.start(t);
  vm.data.destroy();
  t.match(await vm.event('protocol-error', ({ port }) => port === 'yavm.data'), { message: /^closed: / });
  vm.log.destroy();
  await vm.event('protocol-error', ({ port }) => port === 'yavm.log');
  await isWell(t, vm, 'with control alone');
  // In the middle of a frame.
  vm.control.end(encodeFrame(FrameType.message, 0, new Uint8Array(100)).subarray(0, 50));
  t.match(await withDeadline(vm.qemu.exited, 30_000, 'power-off'), { code: 0 }, 'the machine powers off');
});
