import { deflateSync } from 'node:zlib';
import t from 'tap';
import { decodeBody, encodeBody } from '../../host/gsb/body.ts';
import { type Flex, FlexUInts, RpcError } from '../../host/gsb/types.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { connectTo, FakeRouter, startRouter } from '../lib/gsb-router.ts';

const echo = { unary: (body: Flex) => body };
const soon = { deadline: 60_000 };
const text = (data: Uint8Array) => Buffer.from(data).toString();
const value = (data: Uint8Array) => meaning(decodeBody(data));

t.test('Hello, names and the first calls leave in one burst, before any answer', async (t) => {
  const router = await startRouter(t);
  router.register = () => null;
  const gsb = connectTo(t, router);
  const bound = [gsb.bind('/public/a/Exec', echo), gsb.bind('/public/a/GetState', echo)];
  const called = gsb.call('/local/activity/SetActivityState', { activityId: 'a' }, soon);
  const connection = await router.connection();
  const request = await connection.take('callRequest');
  t.equal(connection.bursts, 1);
  t.match(connection.received, [
    { kind: 'hello', name: 'ya-vm' },
    { kind: 'registerRequest', serviceId: '/public/a/Exec' },
    { kind: 'registerRequest', serviceId: '/public/a/GetState' },
  ]);
  t.equal((await connection.take('hello')).instanceId.length, 16);
  t.match(request, { caller: 'local', address: '/local/activity/SetActivityState', noReply: false });
  t.same(value(request.data), { activityId: 'a' });
  t.equal(gsb.state, 'down');
  connection.reply(request.requestId, { Ok: null });
  t.equal(await called, null, 'a call needs no registration');
  for (const _ of bound) connection.send({ kind: 'registerReply', code: 0, message: '' });
  await Promise.all(bound);
  t.equal(gsb.state, 'up');
});

t.test('pings are answered, and never sent; the bus’s Hello is taken, a second one is not', async (t) => {
  const router = await startRouter(t);
  connectTo(t, router);
  const connection = await router.connection();
  connection.send({ kind: 'hello', name: 'ya-sb-router', version: '0.6.4', instanceId: new Uint8Array(16) });
  for (let sent = 0; sent < 3; sent++) {
    connection.send({ kind: 'ping' });
    await connection.take('pong');
  }
  connection.send({ kind: 'pong' });
  connection.send({ kind: 'hello', name: 'again', version: '', instanceId: new Uint8Array(16) });
  await connection.end();
  t.notOk(connection.received.some(({ kind }) => kind === 'ping'));
});

t.test('over TCP as over a Unix socket', async (t) => {
  const router = new FakeRouter({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  await router.listen();
  t.teardown(() => router.stop());
  const gsb = connectTo(t, router);
  const called = gsb.call('/x', [1], soon);
  const connection = await router.connection();
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 'there' });
  t.equal(await called, 'there');
});

t.test('what calls are answered with', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const connection = await router.connection();
  const answered = async (...[body, fields]: [Flex | undefined, object?]) => {
    const called = gsb.call('/x/Y', null, soon);
    connection.reply((await connection.take('callRequest')).requestId, body, fields);
    return called;
  };
  t.same(meaning(await answered({ Ok: { a: [1, 2] } })), { a: [1, 2] });
  await t.rejects(answered({ Err: { badRequest: 'wrong' } }), { kind: 'badRequest', message: 'wrong' });
  await t.rejects(answered({ Err: 'timeout' }), { name: 'RpcError', kind: 'timeout' });
  await t.rejects(answered({ Err: 'IntegrityError' }), {
    code: 'YAVM_E_GSB_REMOTE',
    message: /\/x\/Y: "IntegrityError"/,
  });
  await t.rejects(answered({ Err: { big: 2n ** 60n } }), { code: 'YAVM_E_GSB_REMOTE' });
  await t.rejects(answered(undefined), { code: 'YAVM_E_GSB_BODY', message: /empty response/ });
  await t.rejects(answered([1]), { code: 'YAVM_E_GSB_BODY' });
  await t.rejects(answered(undefined, { data: Uint8Array.of(1, 2, 3) }), { code: 'YAVM_E_GSB_BODY' });
  await t.rejects(answered({ Ok: 1 }, { replyType: 'partial' }), { code: 'YAVM_E_GSB_SERVICE' });
  const words = (words: string, code: number) => answered(undefined, { code, data: Buffer.from(words) });
  await t.rejects(words('endpoint address not found', 400), { code: 'YAVM_E_GSB_NO_ENDPOINT' });
  await t.rejects(words('it broke', 500), { code: 'YAVM_E_GSB_SERVICE', message: '/x/Y: it broke' });
});

t.test('calls end at their deadline, with their signal, and late answers are nobody’s', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const connection = await router.connection();
  await t.rejects(gsb.call('/x', null, { deadline: 20 }), { code: 'YAVM_E_GSB_TIMEOUT', message: /\/x/ });
  const stop = new AbortController();
  const called = gsb.call('/x', null, { ...soon, signal: stop.signal });
  stop.abort(new Error('enough'));
  await t.rejects(called, /enough/);
  const ids = [await connection.take('callRequest'), await connection.take('callRequest')];
  for (const { requestId } of ids) connection.reply(requestId, { Ok: 'late' });
  connection.reply('never asked', { Ok: 1 });
  const last = gsb.call('/x', null, soon);
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 'in time' });
  t.equal(await last, 'in time');
});

t.test('calls of peers: by the longest name, answered with Ok, Err, 400 or 500', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/public/a', { unary: () => 'short' });
  await gsb.bind('/public/a/Exec', {
    unary: (body, call) => ({ body, caller: call.caller, address: call.address }),
  });
  await gsb.bind('/public/a/Forbidden', {
    unary: () => {
      throw new RpcError('forbidden', 'no');
    },
  });
  await gsb.bind('/public/a/Timeout', { unary: () => Promise.reject(new RpcError('timeout')) });
  await gsb.bind('/public/a/Broken', {
    unary: () => {
      throw new YavmError('YAVM_E_SPOOL', 'broken');
    },
  });
  await gsb.bind('/public/a/Strange', { unary: () => 2n ** 65n });
  const connection = await router.connection();
  const ask = async (address: string, body: Flex | { raw: Uint8Array } = null) => {
    connection.call(address, body, 'r1', { caller: '0xabc' });
    return connection.take('callReply');
  };
  t.same(value((await ask('/public/a/Exec', { x: 1 })).data), {
    Ok: { body: { x: 1 }, caller: '0xabc', address: '/public/a/Exec' },
  });
  t.same(value((await ask('/public/a/Other')).data), { Ok: 'short' });
  t.same(value((await ask('/public/a')).data), { Ok: 'short' });
  t.same(value((await ask('/public/a/Forbidden')).data), { Err: { forbidden: 'no' } });
  t.same(value((await ask('/public/a/Timeout')).data), { Err: 'timeout' });
  const broken = await ask('/public/a/Broken');
  t.match(broken, { code: 500, replyType: 'full' });
  t.equal(text(broken.data), 'broken (YAVM_E_SPOOL)');
  t.match(await ask('/public/a/Strange'), { code: 500 });
  const garbage = await ask('/public/a/Exec', { raw: Uint8Array.of(9, 9, 9) });
  t.equal(garbage.code, 500);
  t.match(text(garbage.data), /YAVM_E_GSB_BODY/);
  const unknown = await ask('/public/ab');
  t.equal(unknown.code, 400);
  t.equal(text(unknown.data), 'endpoint address not found');
  connection.call('/public/a/Exec', null, 'quiet', { noReply: true });
  t.equal((await ask('/public/a/Exec')).requestId, 'r1', 'a call without reply has none');
});

t.test('a second handler for a name of ours is refused; an unbound one is gone', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/a', echo);
  await t.rejects(gsb.bind('/a', echo), { code: 'YAVM_E_GSB_TAKEN' });
  await gsb.unbind('/a');
  await gsb.unbind('/never');
  const connection = await router.connection();
  t.match(await connection.take('unregisterRequest'), { serviceId: '/a' });
  connection.call('/a', null, 'r');
  t.equal((await connection.take('callReply')).code, 400);
  await gsb.bind('/a', echo);
});

t.test(
  'streams to peers: items, an empty end, 500; none is sent before the socket took the last',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    let produced = 0;
    await gsb.bind('/s/Three', {
      stream: async function* () {
        yield* [1, 2, 3];
      },
    });
    await gsb.bind('/s/Fails', {
      stream: async function* () {
        yield 1;
        throw new RpcError('forbidden', 'not you');
      },
    });
    await gsb.bind('/s/Endless', {
      stream: async function* () {
        for (;;) yield `${produced++} ${'x'.repeat(60_000)}`;
      },
    });
    const connection = await router.connection();
    const items = async (address: string) => {
      connection.call(address, null, 's');
      const replies = [];
      do replies.push(await connection.take('callReply'));
      while (replies.at(-1)?.replyType === 'partial');
      return replies;
    };
    const three = await items('/s/Three');
    t.same(
      three.slice(0, 3).map(({ data }) => value(data)),
      [{ Ok: 1 }, { Ok: 2 }, { Ok: 3 }],
    );
    t.match(three[3], { code: 0, replyType: 'full', data: { length: 0 } });
    const [, failed] = await items('/s/Fails');
    t.equal(failed?.code, 500);
    t.equal(text(failed?.data ?? Buffer.of()), 'not you');
    connection.call('/s/Three', { raw: Uint8Array.of(1) }, 'bad');
    t.match(await connection.take('callReply'), { code: 500, requestId: 'bad' });

    connection.socket.pause();
    connection.call('/s/Endless', null, 'endless');
    let before = -1;
    while (produced !== before) {
      before = produced;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.ok(produced < 30, `${produced} items of 60 kB for a reader that does not read`);
    t.equal(gsb.push('/other', new Uint8Array(10), 'x'), true, 'not yet congested for frames');
    connection.socket.resume();
    while (produced < before + 50) await connection.take('callReply');
  },
);

t.test('streams of peers: items, their end, their errors, and leaving early', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const connection = await router.connection();
  const read = async (stream: AsyncIterable<Flex>) => {
    const items: Flex[] = [];
    for await (const item of stream) items.push(item);
    return items;
  };
  const partial = { replyType: 'partial' } as const;
  const first = read(gsb.stream('/s', 1, soon));
  const { requestId } = await connection.take('callRequest');
  connection.reply(requestId, { Ok: 'a' }, partial);
  connection.reply(requestId, { Ok: 'b' }, partial);
  connection.reply(requestId, undefined);
  t.same(await first, ['a', 'b']);

  const second = read(gsb.stream('/s', 1, soon));
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 'only' });
  t.same(await second, ['only']);

  const third = read(gsb.stream('/s', 1, soon));
  const id = (await connection.take('callRequest')).requestId;
  connection.reply(id, { Ok: 'a' }, partial);
  connection.reply(id, undefined, { code: 500, data: Buffer.from('gone') });
  await t.rejects(third, { code: 'YAVM_E_GSB_SERVICE', message: '/s: gone' });

  await t.rejects(read(gsb.stream('/s', 1, { deadline: 30 })), { code: 'YAVM_E_GSB_TIMEOUT' });
  await connection.take('callRequest');

  const early = gsb.stream('/s', 1, soon)[Symbol.asyncIterator]();
  const item = early.next();
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 'a' }, partial);
  t.same(await item, { value: 'a', done: false });
  await early.return?.(undefined);
});

t.test('raw: bytes as they are, without a body’s rules', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const frames: Uint8Array[] = [];
  await gsb.bind('/n/raw', { raw: (data) => void frames.push(data) });
  await gsb.bind('/n/echo', { raw: (data) => data });
  await gsb.bind('/n/bad', {
    raw: () => {
      throw new Error('bad frame');
    },
  });
  const connection = await router.connection();
  connection.call('/n/raw', { raw: Uint8Array.of(0x78, 0x9c, 1) }, 'p', { noReply: true });
  connection.call('/n/raw', { raw: Uint8Array.of(7) }, 'q');
  t.match(await connection.take('callReply'), { requestId: 'q', code: 0, data: { length: 0 } });
  t.same(frames.map(text), [Buffer.of(0x78, 0x9c, 1), Buffer.of(7)].map(text));
  connection.call('/n/echo', { raw: Uint8Array.of(1, 2) }, 'e');
  t.equal(text((await connection.take('callReply')).data), '\u0001\u0002');
  connection.call('/n/bad', { raw: Uint8Array.of(1) }, 'b');
  t.match(await connection.take('callReply'), { requestId: 'b', code: 500 });

  t.equal(gsb.push('/peer/raw', Uint8Array.of(5), '0xme'), true);
  t.match(await connection.take('callRequest'), { caller: '0xme', address: '/peer/raw', noReply: true });
  connection.socket.pause();
  const frame = new Uint8Array(1500);
  let sent = 0;
  while (gsb.push('/peer/raw', frame, '0xme')) sent++;
  t.ok(sent * 1500 < 3_000_000, `${sent} frames wait for a bus that does not read`);
  t.equal(gsb.dropped, 1);
  connection.socket.resume();
});

t.test('a slow handler does not stop the others; too many calls at a time are refused', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/slow', { unary: () => new Promise(() => {}) });
  await gsb.bind('/fast', { unary: () => 'fast' });
  const connection = await router.connection();
  for (let sent = 0; sent < 255; sent++) connection.call('/slow', null, `slow ${sent}`);
  connection.call('/fast', null, 'fast');
  t.match(await connection.take('callReply'), { requestId: 'fast', code: 0 });
  connection.call('/slow', null, 'slow 255');
  connection.call('/fast', null, 'one too many');
  const refused = await connection.take('callReply');
  t.match(refused, { requestId: 'one too many', code: 500 });
  t.match(text(refused.data), /YAVM_E_GSB_BUSY/);
});

t.test('bodies of calls under way have a bound; one alone may be larger', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/slow', { unary: () => new Promise(() => {}) });
  const connection = await router.connection();
  const body = new FlexUInts(new Uint8Array(9_000_000));
  connection.call('/slow', body, 'large');
  connection.call('/slow', null, 'small');
  const refused = await connection.take('callReply');
  t.match(refused, { requestId: 'small', code: 500 });
});

t.test('topics: subscribed to, also after a reconnect, and sent to', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const heard: unknown[] = [];
  await gsb.subscribe('news', (body, caller) => {
    if (body === 'bad') throw new Error('bad news');
    heard.push([meaning(body), caller]);
  });
  await t.rejects(gsb.broadcast('news', 'early'), { code: 'YAVM_E_GSB_CLOSED' });
  const news = (body: Flex) =>
    ({ kind: 'broadcastRequest', caller: 'c', topic: 'news', data: encodeBody(body) }) as const;
  for (const round of [1, 2]) {
    const connection = await router.connection();
    t.match(await connection.take('subscribeRequest'), { topic: 'news' });
    connection.send({ kind: 'subscribeReply', code: 0, message: '' });
    connection.send({ ...news(''), data: Uint8Array.of(1) });
    connection.send(news('bad'));
    connection.send(news(round));
    const sent = gsb.broadcast('news', { round });
    t.same(value((await connection.take('broadcastRequest')).data), { round });
    connection.send({ kind: 'broadcastReply', code: 0, message: '' });
    await sent;
    t.same(heard.at(-1), [round, 'c']);
    if (round === 1) connection.socket.destroy();
    else {
      const left = gsb.unsubscribe('news');
      await connection.take('unsubscribeRequest');
      connection.send({ kind: 'unsubscribeReply', code: 404 });
      await left;
      const refused = t.rejects(
        gsb.subscribe('other', () => {}),
        { code: 'YAVM_E_GSB_REFUSED' },
      );
      connection.send({ kind: 'subscribeReply', code: 400, message: 'no' });
      await refused;
      connection.send({ kind: 'subscribeReply', code: 0, message: '' });
      await connection.end();
    }
  }
});

t.test('bodies count as what they are inflated to', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/slow', { unary: () => new Promise(() => {}) });
  const connection = await router.connection();
  const bomb = deflateSync(encodeBody('x'.repeat(20_000_000)));
  connection.call('/slow', { raw: bomb }, 'first');
  connection.call('/slow', { raw: bomb }, 'second');
  const refused = await connection.take('callReply');
  t.match(refused, { requestId: 'second', code: 500 });
  t.match(text(refused.data), /YAVM_E_GSB_BUSY/);
});

t.test('items that nobody reads have a bound', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const connection = await router.connection();
  const stream = gsb.stream('/s', null, soon)[Symbol.asyncIterator]();
  const first = stream.next();
  const { requestId } = await connection.take('callRequest');
  const item = { Ok: 'x'.repeat(1_000_000) };
  for (let sent = 0; sent < 80; sent++) connection.reply(requestId, item, { replyType: 'partial' });
  await first;
  const echoed = gsb.call('/x', null, soon);
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 'the socket is read' });
  t.equal(await echoed, 'the socket is read');
  let read = 1;
  const rest = async () => {
    while (!(await stream.next()).done) read++;
  };
  await t.rejects(rest(), { code: 'YAVM_E_GSB_OVERFLOW' });
  t.ok(read > 50 && read < 80, `${read} items`);
});
