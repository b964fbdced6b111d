/** File transfers of a guest client that are given up, or whose VM ends: at once, whatever either side waits for. */
import { once } from 'node:events';
import t from 'tap';
import { FrameType, STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { startSession } from '../lib/guest-session.ts';

const enough = new Error('enough');

/** What never happens. */
const never = new Promise<never>(() => {});

t.test('a read is given up while the sink holds what came', async (t) => {
  const { client, guest } = await startSession(t);
  for (const answered of [false, true]) {
    guest.answer = (request) => {
      if (request.op !== 'read-files') return;
      guest.frame(FrameType.data, request.stream, new Uint8Array(5));
      guest.end(request.stream);
      if (answered) guest.reply(request.id, { bytes: 5, entries: 1 });
    };
    const stop = new AbortController();
    let holding = () => {};
    const held = new Promise<void>((resolve) => {
      holding = resolve;
    });
    const reading = client.readFiles(
      '/x',
      () => {
        holding();
        return never;
      },
      { signal: stop.signal },
    );
    const failed = t.rejects(reading, enough, `answered: ${answered}`);
    await held;
    const { id } = await guest.requested('read-files');
    // The answer, if there is one, has been read before what is asked after it is answered.
    guest.answer = (request) => void (request.op === 'log-level' && guest.reply(request.id, {}));
    await client.request({ op: 'log-level', level: 'info' });
    stop.abort(enough);
    await failed;
    t.match(await guest.requested('cancel'), { request: id });
  }
});

t.test('a write is given up while its source, or the guest, brings nothing', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = () => {};
  guest.granting = false;
  let ended = 0;
  async function* stalled() {
    yield new Uint8Array(5);
    await never;
  }
  async function* endless() {
    try {
      for (;;) yield new Uint8Array(65_536);
    } finally {
      ended++;
    }
  }
  for (const source of [stalled, endless]) {
    const stop = new AbortController();
    const failed = t.rejects(client.writeFiles('/x', source(), { signal: stop.signal }), enough);
    const { id, stream } = await guest.requested('write-files');
    while (guest.inputLength(stream) === 0) await once(guest.data, 'data');
    stop.abort(enough);
    await failed;
    t.match(await guest.requested('cancel'), { request: id });
    t.notOk(guest.inputEnded(stream), 'what came must not pass for all of it');
  }
  t.equal(ended, 1, 'the source was told');
});

t.test('what is given up before it begins reaches nobody', async (t) => {
  const { client, guest } = await startSession(t);
  const signal = AbortSignal.abort(enough);
  let asked = 0;
  function* source() {
    asked++;
    yield new Uint8Array(1);
  }
  await t.rejects(
    client.readFiles('/x', () => {}, { signal }),
    enough,
  );
  await t.rejects(client.writeFiles('/x', source(), { signal }), enough);
  await client.request({ op: 'log-level', level: 'info' });
  t.strictSame(
    guest.requests.map(({ op }) => op),
    ['log-level'],
  );
  t.equal(asked, 0);
});

t.test('when the VM ends, transfers in both directions fail with its error at once', async (t) => {
  const { client, guest, ended } = await startSession(t);
  guest.answer = () => {};
  async function* stalled() {
    yield new Uint8Array(5);
    await never;
  }
  const work = [
    client.readFiles('/x', () => never),
    client.readFiles('/y', () => {}, { format: 'tar' }),
    client.writeFiles('/x', stalled()),
    client.writeFiles('/y', stalled(), { format: 'tar' }),
  ];
  const failed = work.map((one) => t.rejects(one, { code: 'YAVM_E_GUEST_PANIC' }));
  const { stream } = await guest.requested('read-files');
  guest.frame(FrameType.data, stream, new Uint8Array(5));
  await guest.requested('write-files');
  guest.close();
  await ended;
  client.close(new YavmError('YAVM_E_GUEST_PANIC', 'boom'));
  await Promise.all(failed);
  await t.rejects(client.writeFiles('/z', []), { code: 'YAVM_E_GUEST_PANIC' }, 'and so do later ones');
});

t.test('attributes that were left out are told', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = (request) => {
    if (request.op !== 'read-files') return;
    guest.end(request.stream);
    guest.reply(request.id, { bytes: 0, entries: 0, leftOut: 3 });
  };
  t.strictSame(await client.readFiles('/x', () => {}, { format: 'tar' }), {
    bytes: 0,
    entries: 0,
    leftOut: 3,
  });
});

t.test('as many writes as the guest takes at a time wait for the port, not in it', async (t) => {
  const { client, guest, ends } = await startSession(t);
  guest.answer = async (request) => {
    if (request.op !== 'write-files') return guest.reply(request.id, {});
    const input = await guest.input(request.stream);
    guest.reply(request.id, { bytes: input.length, entries: 1 });
  };
  // It has given each of them its credit, and reads none of it yet.
  guest.data.pause();
  const size = 2 * STREAM_WINDOW;
  const work = Array.from({ length: 32 }, (_, index) =>
    client.writeFiles(`/${index}`, [new Uint8Array(size)]),
  );
  for (const _ of work) await guest.requested('write-files');
  await client.request({ op: 'log-level', level: 'info' });
  guest.data.resume();
  for (const one of work) t.strictSame(await one, { bytes: size, entries: 1 });
  t.strictSame(ends, []);
});

t.test('a read that came short is told at once, whatever the sink does', async (t) => {
  const { client, guest, ended } = await startSession(t);
  guest.answer = (request) => {
    if (request.op !== 'read-files') return;
    guest.frame(FrameType.data, request.stream, new Uint8Array(5));
    if (request.path === '/short') guest.end(request.stream);
    guest.reply(request.id, { bytes: 6, entries: 1 });
  };
  await t.rejects(
    client.readFiles('/short', () => never),
    { code: 'YAVM_E_TRANSFER_INCOMPLETE' },
  );
  // Here the rest has been announced, and the VM ends before it comes.
  const failed = t.rejects(
    client.readFiles('/ends', () => never),
    { code: 'YAVM_E_GUEST_PANIC' },
  );
  await guest.requested('read-files');
  guest.finish();
  await ended;
  client.close(new YavmError('YAVM_E_GUEST_PANIC', 'boom'));
  await failed;
});
