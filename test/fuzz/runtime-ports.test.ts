/** Any bytes from the guest on any of the three ports: the named error or nothing; no crash, hang or growth. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import { encodeCredit, encodeFrame, FrameType, STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import type { Notification } from '../../guest/protocol/messages.ts';
import { commandSpec, type Session, startSession } from '../lib/guest-session.ts';
import { notificationExamples } from '../lib/messages.ts';
import { Random } from '../lib/random.ts';

const ROUNDS = Number(process.env.YAVM_FUZZ_ROUNDS) || 150;
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED), ${ROUNDS} rounds (YAVM_FUZZ_ROUNDS)`);

const messageFrame = (message: object) =>
  encodeFrame(FrameType.message, 0, encodeMessage(message as Notification));

/** Bytes that are valid for the port, to be mutated; `process` and `stream` are ones that exist. */
function validBytes(port: 'control' | 'data' | 'log', process: number, stream: number): Uint8Array {
  if (port === 'log') return encodeFrame(FrameType.log, 0, Buffer.from('{"level":30,"msg":"x"}'));
  if (port === 'data') {
    return random.pick([
      encodeFrame(FrameType.data, stream, random.bytes(random.between(0, 2000))),
      encodeFrame(FrameType.end, stream, new Uint8Array(0)),
      encodeCredit(stream, random.next()),
    ]);
  }
  return messageFrame(
    random.pick<object>([
      { ...notificationExamples.exited, process },
      { ...notificationExamples['out-of-memory'], process },
      { id: process, ok: { pid: 1 } },
      { id: process + 1, error: { code: 'internal', message: 'x' } },
    ]),
  );
}

/** Sends hostile bytes, then waits until the host has dealt with them: it ended the session, or answers as before. */
async function attack(session: Session, port: 'control' | 'data' | 'log', bytes: Uint8Array): Promise<void> {
  const { client, guest, ended } = session;
  guest.answer = ({ id }) => guest.reply(id, {});
  guest[port].write(bytes);
  const alive = client.request({ op: 'log-level', level: 'info' }, { deadline: 60_000 }).then(
    () => null,
    (error: unknown) => error,
  );
  const outcome = await Promise.race([ended, alive]);
  // `alive` may fail by the end of the session, or by its answer standing behind half a frame of the attack.
  if (outcome === null) return;
  const { code } = outcome as { code?: string };
  if (code !== 'YAVM_E_GUEST_PROTOCOL') throw new Error(`${port}: ${outcome}`);
}

for (const port of ['control', 'data', 'log'] as const) {
  t.test(`${port}: mutated and random bytes`, async (t) => {
    let ended = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const cleanups: (() => void)[] = [];
      const session = await startSession({ teardown: (cleanup) => void cleanups.push(cleanup) });
      const command = await session.client.run(commandSpec({ stdin: true }));
      const request = await session.guest.requested('run');
      const stream = random.pick([
        (request.stdout as { stream: number }).stream,
        request.stdin as number,
        random.between(0, 10),
      ]);
      const valid = Array.from({ length: random.between(1, 4) }, () => validBytes(port, command.id, stream));
      const bytes = random.chance(4)
        ? random.bytes(random.between(1, 400))
        : random.mutate(Buffer.concat(valid));
      // Complete whatever frame the attack has left open, so that the answer behind it is seen or refused at once.
      await attack(session, port, Buffer.concat([bytes, new Uint8Array(2 * 1024 * 1024).fill(0xff)]));
      ended += session.ends.length;
      for (const cleanup of cleanups) cleanup();
    }
    t.ok(ended > 0, `${ended} of ${ROUNDS} sessions were ended`);
  });
}

t.test('data beyond the credit ends the session', async (t) => {
  const session = await startSession(t);
  await session.client.run(commandSpec());
  const stream = ((await session.guest.requested('run')).stdout as { stream: number }).stream;
  for (let sent = 0; sent <= STREAM_WINDOW; sent += 65536) {
    session.guest.frame(FrameType.data, stream, new Uint8Array(65536));
  }
  t.match(await session.ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /more data than credit/ });
});

t.test('data for streams that do not exist is dropped, however much', async (t) => {
  const session = await startSession(t);
  const before = process.memoryUsage().rss;
  for (let sent = 0; sent < 200; sent++) {
    session.guest.frame(FrameType.data, 1000 + sent, new Uint8Array(256 * 1024));
    if (session.guest.data.writableNeedDrain) {
      await new Promise((resolve) => session.guest.data.once('drain', resolve));
    }
  }
  await session.client.request({ op: 'log-level', level: 'info' });
  t.strictSame(session.ends, []);
  t.ok(process.memoryUsage().rss - before < 60e6, 'memory does not grow with it');
});

t.test('floods: notifications end the session, log lines are slowed', async (t) => {
  const flooded = await startSession(t);
  const event = messageFrame(notificationExamples['out-of-memory']);
  flooded.guest.control.write(Buffer.concat(Array(5000).fill(event)));
  t.match(await flooded.ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /flood/ });

  const logging = await startSession(t);
  const line = encodeFrame(
    FrameType.log,
    0,
    Buffer.from(JSON.stringify({ level: 30, msg: 'x'.repeat(1000) })),
  );
  logging.guest.log.write(Buffer.concat(Array(8000).fill(line)));
  await logging.client.request({ op: 'log-level', level: 'info' });
  const waiting = logging.guest.log.writableLength;
  t.ok(waiting > 1_000_000, 'most of it waits in the guest');
  const deadline = Date.now() + 60_000;
  while (logging.guest.log.writableLength === waiting && Date.now() < deadline) await delay(50);
  t.ok(logging.guest.log.writableLength < waiting, 'and is read later');
  t.strictSame(logging.ends, []);
});

t.test('credit without end, and data on the wrong streams', async (t) => {
  const endless = await startSession(t);
  await endless.client.run(commandSpec({ stdin: true }));
  const stdin = (await endless.guest.requested('run')).stdin as number;
  endless.guest.data.write(encodeCredit(stdin, 0xffffffff));
  t.match(await endless.ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /credit of/ });

  const wrong = await startSession(t);
  await wrong.client.run(commandSpec({ stdin: true }));
  wrong.guest.frame(FrameType.data, (await wrong.guest.requested('run')).stdin as number, new Uint8Array(1));
  t.match(await wrong.ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /to the guest/ });
});

t.test('a guest that does not read does not make the host queue without end', async (t) => {
  const { client, guest, ended } = await startSession(t);
  guest.control.pause();
  const long = commandSpec({ env: [`X=${'x'.repeat(500_000)}`] });
  for (let count = 0; count < 20; count++) client.run(long, { deadline: 60_000 }).catch(() => {});
  t.match(await ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /does not read/ });
});
