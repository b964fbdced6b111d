import t from 'tap';
import { decodeBody } from '../../host/gsb/body.ts';
import type { LinkState } from '../../host/gsb/types.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { connectTo, startRouter } from '../lib/gsb-router.ts';
import { tookAtMost } from '../lib/in-time.ts';

const echo = { unary: () => 'echo' };
const soon = { deadline: 60_000 };
const text = (data: Uint8Array) => Buffer.from(data).toString();

t.test('a bus that is restarted gets the same instance, the names, then what waited', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const states: LinkState[] = [];
  gsb.onState((state) => states.push(state));
  let aborted: AbortSignal | undefined;
  await gsb.bind('/a/Exec', echo);
  await gsb.bind('/a/Slow', {
    unary: (_, call) => {
      aborted = call.signal;
      return new Promise(() => {});
    },
  });
  const first = await router.connection();
  const { instanceId } = await first.take('hello');
  first.call('/a/Slow', null, 'slow');
  const open = gsb.call('/x', 'open', soon);
  await first.take('callRequest');
  const lost = t.rejects(open, { code: 'YAVM_E_GSB_CLOSED' });
  await router.stop();
  await lost;
  t.equal(gsb.state, 'down');
  t.equal(aborted?.aborted, true, 'the handler learns that nobody waits');
  const waiting = gsb.call('/x', 'waiting', soon);
  const impatient = gsb.call('/x', 'impatient', { deadline: 50 });
  t.equal(gsb.push('/x', new Uint8Array(1), 'me'), false, 'frames do not wait');
  await t.rejects(impatient, { code: 'YAVM_E_GSB_TIMEOUT', cause: { code: 'YAVM_E_GSB_CLOSED' } });

  await router.listen();
  const second = await router.connection();
  const request = await second.take('callRequest');
  t.match(second.received, [
    { kind: 'hello', instanceId },
    { kind: 'registerRequest', serviceId: '/a/Exec' },
    { kind: 'registerRequest', serviceId: '/a/Slow' },
  ]);
  t.equal(second.bursts, 1);
  t.equal(meaning(decodeBody(request.data)), 'waiting');
  second.reply(request.requestId, { Ok: 1 });
  t.equal(await waiting, 1);
  second.call('/a/Exec', null, 'again');
  t.match(await second.take('callReply'), { requestId: 'again', code: 0 });
  t.same(states, ['up', 'down', 'up']);
});

t.test('a name that is still ours on a dead connection is tried until it is free', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/a', echo);
  await gsb.bind('/b', echo);
  const first = await router.connection();
  const tries = new Map<string, number>();
  router.register = (name) => {
    const tried = (tries.get(name) ?? 0) + 1;
    tries.set(name, tried);
    return name === '/a' && tried < 5 ? 409 : 0;
  };
  const up = new Promise((resolve) => gsb.onState((state) => state === 'up' && resolve(true)));
  first.socket.destroy();
  t.equal(await up, true);
  t.same(
    [...tries],
    [
      ['/a', 5],
      ['/b', 1],
    ],
  );
});

t.test('a name that another program has is given up after three attempts, the others stay', async (t) => {
  const router = await startRouter(t);
  router.register = (name) => (name === '/taken' ? 409 : 0);
  const gsb = connectTo(t, router);
  const free = gsb.bind('/free', echo);
  await t.rejects(gsb.bind('/taken', echo), { code: 'YAVM_E_GSB_TAKEN', message: /\/taken/ });
  await free;
  t.equal(gsb.state, 'up');
  const connection = await router.connection();
  const asked = connection.received.filter((packet) => packet.kind === 'registerRequest');
  t.same(
    asked.map(({ serviceId }) => serviceId),
    ['/free', '/taken', '/taken', '/taken'],
  );
  router.register = () => 400;
  await t.rejects(gsb.bind('/odd', echo), { code: 'YAVM_E_GSB_REFUSED' });
});

t.test('a bus that is gone for too long ends everything, with the reason', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router, { reconnectFor: 400 });
  await gsb.bind('/a', echo);
  const ended = new Promise<unknown>((resolve) =>
    gsb.onState((state, error) => state === 'closed' && resolve(error)),
  );
  const down = new Promise<void>((resolve) => gsb.onState((state) => state === 'down' && resolve()));
  await router.stop();
  await down;
  const late = t.rejects(gsb.bind('/b', echo), { code: 'YAVM_E_GSB_CLOSED' });
  const called = t.rejects(gsb.call('/x', null, soon), { code: 'YAVM_E_GSB_CLOSED', message: /0\.4 s/ });
  const error = await ended;
  t.match(error, { code: 'YAVM_E_GSB_CLOSED', message: /unix:.*gsb\.sock was not to be had for 0\.4 s/ });
  t.ok(isYavmError(error) && error.cause, 'and what the last attempt said');
  await called;
  await late;
  t.equal(gsb.state, 'closed');
  await t.rejects(gsb.call('/x', null, soon), { code: 'YAVM_E_GSB_CLOSED' });
  await t.rejects(gsb.bind('/c', echo), { code: 'YAVM_E_GSB_CLOSED' });
  t.equal(gsb.push('/x', new Uint8Array(1), 'me'), false);
});

t.test('names that stay taken after a reconnect end it, too', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router, { reconnectFor: 1800 });
  await gsb.bind('/a', echo);
  router.register = () => 409;
  const ended = new Promise((resolve) => gsb.onState((state, error) => state === 'closed' && resolve(error)));
  (await router.connection()).socket.destroy();
  t.match(await ended, { code: 'YAVM_E_GSB_TAKEN' });
});

t.test('a bus that is not there yet is waited for', async (t) => {
  const router = await startRouter(t);
  await router.stop();
  const gsb = connectTo(t, router, { firstFor: 120_000 });
  const bound = gsb.bind('/a', echo);
  const called = gsb.call('/x', 1, soon);
  await t.rejects(gsb.call('/x', 1, { deadline: 300 }), {
    code: 'YAVM_E_GSB_TIMEOUT',
    cause: { message: /cannot connect to the bus at unix:/ },
  });
  await router.listen();
  const connection = await router.connection();
  connection.reply((await connection.take('callRequest')).requestId, { Ok: 2 });
  t.equal(await called, 2);
  await bound;

  const never = await startRouter(t);
  await never.stop();
  const hopeless = connectTo(t, never, { firstFor: 100 });
  await t.rejects(hopeless.call('/x', 1, soon), { code: 'YAVM_E_GSB_CLOSED' });
});

t.test('what is no packet, or asks for nothing of ours, ends the connection, not the program', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/a', echo);
  const reasons: unknown[] = [];
  gsb.onState((state, error) => state === 'down' && reasons.push(error));
  const attacks = [
    Buffer.from('ffffffff', 'hex'),
    Buffer.from('00000000', 'hex'),
    Buffer.from('000000021a00', 'hex'), // A registerReply.
    Buffer.from('000000022a00', 'hex'), // An unregisterReply.
    Buffer.from('000000041202' + '0a00', 'hex'), // A registerRequest.
  ];
  for (const attack of attacks) {
    const connection = await router.connection();
    await connection.take('registerRequest');
    const up = gsb.state === 'up' ? null : new Promise<void>((resolve) => gsb.onState(() => resolve()));
    await up;
    connection.socket.write(attack);
    await connection.end();
  }
  await router.connection();
  t.equal(reasons.length, attacks.length);
  for (const reason of reasons) t.match(reason, { code: 'YAVM_E_GSB_FRAME' });
});

t.test(
  'an orderly end: open calls and streams get 500, names are unregistered, then it closes',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    let over = false;
    await gsb.bind('/a/GetExecBatchResults', { unary: () => new Promise(() => {}) });
    await gsb.bind('/a/Stream', {
      stream: async function* (_, call) {
        try {
          yield 1;
          await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
        } finally {
          over = true;
        }
      },
    });
    const connection = await router.connection();
    connection.call('/a/GetExecBatchResults', null, 'r1');
    connection.call('/a/GetExecBatchResults', null, 'quiet', { noReply: true });
    connection.call('/a/Stream', null, 's1');
    t.match(await connection.take('callReply'), { requestId: 's1', replyType: 'partial' });
    const mine = t.rejects(gsb.call('/x', null, soon), { code: 'YAVM_E_GSB_CLOSED' });
    await connection.take('callRequest');
    const closing = gsb.close();
    t.equal(gsb.state, 'closed');
    await mine;
    for (const [requestId, address] of [
      ['r1', '/a/GetExecBatchResults'],
      ['s1', '/a/Stream'],
    ]) {
      const reply = await connection.take('callReply');
      t.match(reply, { requestId, code: 500, replyType: 'full' });
      t.equal(text(reply.data), `Called service \`${address}\` is unavailable`);
    }
    const names = [await connection.take('unregisterRequest'), await connection.take('unregisterRequest')];
    t.same(
      names.map(({ serviceId }) => serviceId),
      ['/a/GetExecBatchResults', '/a/Stream'],
    );
    await connection.end();
    await closing;
    await gsb.close();
    t.same(
      connection.received.filter(({ kind }) => kind === 'callReply'),
      [],
      'one answer each',
    );
    t.equal(over, true);
  },
);

t.test('the end does not wait for a bus that says nothing', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/a', echo);
  const connection = await router.connection();
  connection.socket.pause();
  const start = performance.now();
  await gsb.close();
  tookAtMost(t, 'the end', performance.now() - start, 2000);
});

t.test('a listener that fails does not keep the others from hearing', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  gsb.onState(() => {
    throw new Error('deaf');
  });
  const heard: LinkState[] = [];
  const stop = gsb.onState((state) => heard.push(state));
  await gsb.bind('/a', echo);
  t.same(heard, ['up']);
  stop();
  await gsb.close();
  t.same(heard, ['up']);
});
