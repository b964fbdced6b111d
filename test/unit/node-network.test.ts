/** Several nodes in one process: `host/node/network.ts`, and what the router does with calls to other nodes. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { connectGsb, type GsbConnection } from '../../host/gsb/index.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { askNodeId, GsbRouter, LocalNetwork, LocalNode } from '../../host/node/index.ts';
import { callRequest, RawPeer, socketFolder } from '../lib/gsb-peer.ts';
import { ManualClock } from '../lib/manual-clock.ts';

const id = (digit: string) => `0x${digit.repeat(40)}`;
const [A, B, C] = [id('a'), id('b'), id('c')];
const soon = { deadline: 60_000 };

interface Node {
  router: GsbRouter;
  clock: ManualClock;
  peer(): Promise<RawPeer>;
}

/** A router of one network's. */
async function member(t: Test, network: LocalNetwork, nodeId: string): Promise<Node> {
  const clock = new ManualClock();
  const router = new GsbRouter({ clock, network, nodeId });
  t.teardown(() => router.close());
  const address = await router.listen({ kind: 'unix', path: join(socketFolder(t), 'gsb.sock') });
  return { router, clock, peer: () => RawPeer.connect(t, address) };
}

async function until(done: () => boolean): Promise<void> {
  const last = performance.now() + 60_000;
  while (!done()) {
    if (performance.now() > last) throw new Error('it does not come about');
    await setImmediate();
  }
}

t.test('a call to another node arrives at its public names, from the node that sent it', async (t) => {
  const network = new LocalNetwork();
  const [a, b] = [await member(t, network, A), await member(t, network, B)];
  const [caller, service] = [await a.peer(), await b.peer()];
  await service.register('/public/s');
  for (const [way, from] of [
    ['/net', 'local'],
    ['/transfer/net', 'local'],
    ['/udp/net', C],
  ] as const) {
    const request = caller.call(`${way}/${B}/s/Method`, 'question', { caller: from });
    const came = await service.next('callRequest');
    t.match(came, { requestId: request, address: '/public/s/Method', caller: A, noReply: false }, way);
    t.equal(Buffer.from(came.data).toString(), 'question');
    service.reply(request, 'part', { replyType: 'partial' });
    service.reply(request, 'answer');
    t.match(await caller.replyTo(request), { code: 0, replyType: 'partial', text: 'part' });
    t.match(await caller.replyTo(request), { code: 0, replyType: 'full', text: 'answer' });
  }
  for (const way of ['/net', '/udp/net']) {
    const request = caller.call(`${way}/${B}/s/raw`, 'frame', { noReply: true });
    t.match(await service.next('callRequest'), {
      requestId: request,
      address: '/public/s/raw',
      noReply: true,
    });
  }
  await caller.nothingMore();
});

t.test('names are a node’s own: only what is public is reached from another one', async (t) => {
  const network = new LocalNetwork();
  const [a, b] = [await member(t, network, A), await member(t, network, B)];
  const [caller, service] = [await a.peer(), await b.peer()];
  t.equal(await service.register('/public/s'), 0);
  t.equal(await caller.register('/public/s'), 0, 'the same name on both');
  await service.register('/local/s');
  for (const address of [`/net/${B}/other`, `/net/${C}/s`, '/local/s', `/net/${B}/../local/s`]) {
    t.match(await caller.replyTo(caller.call(address)), { code: 400, text: 'endpoint address not found' });
  }
  caller.call(`/net/${C}/s`, '', { noReply: true });
  await caller.nothingMore();
  const own = caller.call(`/net/${A}/s`, '', { caller: C });
  t.match(await caller.next('callRequest'), { requestId: own, address: '/public/s', caller: C });
});

t.test('who binds the address of a node that is no member gets its calls', async (t) => {
  const a = await member(t, new LocalNetwork(), A);
  const [caller, stranger] = [await a.peer(), await a.peer()];
  await stranger.register(`/udp/net/${B}`);
  const request = caller.call(`/udp/net/${B}/vpn/n/raw`, 'frame', { noReply: true });
  t.match(await stranger.next('callRequest'), { requestId: request, address: `/udp/net/${B}/vpn/n/raw` });
});

t.test(
  'a node that has left: 400, and 500 for the calls that it owed an answer; it may come back',
  async (t) => {
    const network = new LocalNetwork();
    const [a, b] = [await member(t, network, A), await member(t, network, B)];
    const [caller, service] = [await a.peer(), await b.peer()];
    await service.register('/public/s');
    const open = caller.call(`/net/${B}/s`);
    await service.next('callRequest');
    await b.router.close();
    t.match(await caller.replyTo(open), { code: 500, replyType: 'full', text: 'lost connection' });
    t.match(await caller.replyTo(caller.call(`/net/${B}/s`)), { code: 400 });
    caller.call(`/udp/net/${B}/s`, '', { noReply: true });
    await caller.nothingMore();

    const again = await (await member(t, network, B)).peer();
    await again.register('/public/s');
    const request = caller.call(`/net/${B}/s`);
    t.equal((await again.next('callRequest')).requestId, request);
  },
);

t.test('a caller that goes is forgotten by services of other nodes', async (t) => {
  const network = new LocalNetwork();
  const [a, b] = [await member(t, network, A), await member(t, network, B)];
  const [caller, witness, service] = [await a.peer(), await a.peer(), await b.peer()];
  await service.register('/public/s');
  await caller.register('/c');
  const request = caller.call(`/net/${B}/s`);
  await service.next('callRequest');
  caller.socket.end();
  await witness.registerOnceFree('/c');
  service.reply(request, 'for nobody');
  await service.nothingMore();
  t.equal(b.router.owner('/public/s')?.pending.size, 0);
});

t.test('one node of an id', (t) => {
  const network = new LocalNetwork();
  const router = new GsbRouter({ network, nodeId: A });
  t.teardown(() => router.close());
  t.throws(() => new GsbRouter({ network, nodeId: A }), { code: 'YAVM_E_NODE_TAKEN', message: /0xaaaa/ });
  t.end();
});

t.test(
  'a service of another node that does not read: callers wait and are told, frames are dropped',
  async (t) => {
    const network = new LocalNetwork();
    const [a, b] = [await member(t, network, A), await member(t, network, B)];
    const [caller, service] = [await a.peer(), await b.peer()];
    await service.register('/public/s');
    service.socket.pause();
    const sent = 4000;
    for (let index = 0; index < sent; index++) {
      caller.call(`/udp/net/${B}/s/raw`, Buffer.alloc(1220), { noReply: true });
    }
    await caller.nothingMore();
    t.pass('the sender is not held back');
    const calls = Array.from({ length: 40 }, () => callRequest(`/net/${B}/s`, Buffer.alloc(1024 * 1024)));
    caller.send(...calls);
    await until(() => b.clock.pending > 1);
    for (let second = 0; second < 60; second++) {
      // It is heard, though it does not read.
      if (second % 4 === 0) service.send({ kind: 'pong' });
      for (let turn = 0; turn < 5; turn++) await setImmediate();
      b.clock.pass(1000);
    }
    const reply = await caller.next('callReply');
    t.match([reply.code, Buffer.from(reply.data).toString()], [500, 'stalled connection']);
    caller.call(`/udp/net/${B}/s/raw`, 'late', { noReply: true });

    service.socket.resume();
    let frames = 0;
    const came: string[] = [];
    while (came.at(-1) !== calls.at(-1)?.requestId) {
      const packet = await service.next('callRequest');
      if (packet.noReply) frames++;
      else came.push(packet.requestId);
    }
    t.equal(came.length, calls.length - 1, 'all calls but that one');
    t.ok(frames > 500 && frames < sent, `${frames} of ${sent} frames`);
  },
);

t.test('frames in a burst all arrive, in order', async (t) => {
  const network = new LocalNetwork();
  const [a, b] = [await member(t, network, A), await member(t, network, B)];
  const [caller, service] = [await a.peer(), await b.peer()];
  await service.register('/public/s');
  const calls = Array.from({ length: 300 }, (_, index) =>
    callRequest(`/udp/net/${B}/s/raw`, `frame ${index}`, { noReply: index % 10 !== 9 }),
  );
  caller.send(...calls);
  const came: string[] = [];
  for (const _ of calls) came.push(Buffer.from((await service.next('callRequest')).data).toString());
  t.same(
    came,
    calls.map((_, index) => `frame ${index}`),
  );
});

t.test('nodes with their services: each has its own identity and activities', async (t) => {
  const network = new LocalNetwork();
  const folder = socketFolder(t);
  const start = async (name: string, nodeId: string) => {
    const address = { kind: 'unix', path: join(folder, name) } as const;
    const node = await LocalNode.start({ address, logger: silentLogger, network, identity: { nodeId } });
    t.teardown(() => node.close());
    const gsb: GsbConnection = connectGsb({ address: node.address, logger: silentLogger });
    t.teardown(() => gsb.close());
    return { node, gsb };
  };
  const [a, b] = [await start('a', A), await start('b', B)];
  t.same([await askNodeId(a.gsb), await askNodeId(b.gsb)], [A, B]);
  t.not(a.node.service, b.node.service);
  await b.gsb.bind('/public/greeting', { unary: (body, { caller }) => [body, caller] });
  t.same(await a.gsb.call(`/net/${B}/greeting`, 'hello', soon), ['hello', A]);
  await t.rejects(a.gsb.call(`/net/${C}/greeting`, null, soon), { code: 'YAVM_E_GSB_NO_ENDPOINT' });
  const again = {
    address: { kind: 'unix', path: join(folder, 'c') },
    logger: silentLogger,
    network,
  } as const;
  await t.rejects(LocalNode.start({ ...again, identity: { nodeId: A } }), { code: 'YAVM_E_NODE_TAKEN' });
});
