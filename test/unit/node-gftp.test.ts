/** Files of this host on the bus: what is asked for in other ways than by our own transfers. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Flex, Gsb } from '../../host/gsb/index.ts';
import { LOCAL_IDENTITY, type LocalNode, publishFile, receiveFile } from '../../host/node/index.ts';
import { netAddress } from '../../host/node/net-address.ts';
import { gftpSource } from '../../host/transfer/gftp.ts';
import { CHUNK, collect, NODE, sha3Of, startNode, writePattern } from '../lib/gftp.ts';

const never = new AbortController().signal;
const prompt = { deadline: 60_000 };

/** Where a call for this node arrives; undefined for one of another, or of none. */
function publicAddress(address: string, nodeId: string): string | undefined {
  const net = netAddress(address);
  return net?.nodeId === nodeId ? net.address : undefined;
}

async function read(url: string, gsb: Gsb): Promise<Buffer> {
  return await collect((await gftpSource(new URL(url), gsb).open({ signal: never })).bytes);
}

t.test('addresses of this node, and of others', async (t) => {
  const mine = `0x${'1'.repeat(40)}`;
  t.equal(publicAddress(`/transfer/net/${mine}/gftp/a/GetChunk`, mine), '/public/gftp/a/GetChunk');
  t.equal(publicAddress(`/net/${mine}/a`, mine), '/public/a');
  t.equal(publicAddress(`/udp/net/${mine}/vpn/n/raw`, mine), '/public/vpn/n/raw');
  for (const address of [
    `/transfer/net/${NODE}/a`,
    `/net/${mine}`,
    `/x/net/${mine}/a`,
    `/transfer/transfer/net/${mine}/a`,
    `/net/${mine}0/a`,
    '/public/a',
    '',
  ]) {
    t.equal(publicAddress(address, mine), undefined, address);
  }

  const { node, gsb } = await startNode(t);
  await node.gsb.bind('/public/who', { unary: (_, { caller, address }) => [caller, address] });
  const { nodeId } = LOCAL_IDENTITY;
  t.same(await gsb.call(`/net/${nodeId}/who/Asks`, null, prompt), [nodeId, '/public/who/Asks']);
  t.same(await gsb.call(`/net/${nodeId}/who/A`, null, { ...prompt, caller: NODE }), [NODE, '/public/who/A']);
  t.same(await gsb.call('/public/who/Asks', null, prompt), ['local', '/public/who/Asks']);
  await t.rejects(gsb.call(`/net/${NODE}/who/Asks`, null, prompt), { code: 'YAVM_E_GSB_NO_ENDPOINT' });
});

t.test('a published file: what is asked for in another way, and what becomes of the file', async (t) => {
  const { folder, node, gsb } = await startNode(t);
  const path = join(folder, 'f');
  await writePattern(path, 3 * CHUNK);
  const { url, close } = await publishFile(node.gsb, path);
  const ask = (message: string, body: Flex) =>
    gsb.call(`/public/gftp/${new URL(url).pathname.slice(1)}/${message}`, body, prompt);
  const whole = readFileSync(path);
  for (const [offset, size] of [
    [5, 7],
    [3 * CHUNK, 7],
    [3 * CHUNK - 1, 7],
    [0, 3 * CHUNK],
  ] as const) {
    const answer = (await ask('GetChunk', { offset, size })) as { offset: number; content: Uint8Array };
    t.equal(answer.offset, offset);
    t.ok(Buffer.from(answer.content).equals(whole.subarray(offset, offset + size)), `${size} at ${offset}`);
  }
  for (const body of [
    { offset: 3 * CHUNK + 1, size: 1 },
    { offset: -1, size: 1 },
    { offset: 0.5, size: 1 },
    { offset: 2n ** 63n, size: 1 },
    { offset: 0, size: 0 },
    { offset: 0, size: 2 ** 30 },
  ]) {
    await t.rejects(ask('GetChunk', body), { code: 'YAVM_E_GSB_REMOTE', message: /ReadError/ });
  }
  for (const body of [null, {}, { offset: 0 }, { offset: 'x', size: 1 }]) {
    await t.rejects(ask('GetChunk', body), { code: 'YAVM_E_GSB_SERVICE', message: /not understood/ });
  }
  for (const message of ['UploadChunk', 'UploadFinished', 'toString', 'constructor', 'GetChunk/x', '']) {
    await t.rejects(ask(message, null), { code: 'YAVM_E_GSB_REMOTE', message: /InternalError/ }, message);
  }
  truncateSync(path, CHUNK);
  await t.rejects(read(url, gsb), { code: 'YAVM_E_GFTP', message: /ReadError\): the file became shorter/ });
  await close();

  execFileSync('mkfifo', [join(folder, 'fifo')]);
  for (const [name, words] of [
    ['missing', /cannot be read/],
    ['.', /is no regular file/],
    ['fifo', /is no regular file/],
  ] as const) {
    await t.rejects(publishFile(node.gsb, join(folder, name)), { code: 'YAVM_E_LOCAL_FILE', message: words });
  }
});

/** A place to write to, and the messages to it. */
async function receiver(t: Test, path: string, node: LocalNode, gsb: Gsb, maxSize?: number) {
  const place = await receiveFile(node.gsb, path, { maxSize });
  t.teardown(() => place.close());
  const address = `/public/gftp/${new URL(place.url).pathname.slice(1)}`;
  return {
    ...place,
    chunk: (offset: number | bigint, content: Flex) =>
      gsb.call(`${address}/UploadChunk`, { chunk: { offset, content } }, prompt),
    finish: (hash: Flex) => gsb.call(`${address}/UploadFinished`, { hash }, prompt),
  };
}

const text = (words: string) => Buffer.from(words);

t.test('an upload in another order, anew, without a hash', async (t) => {
  const { folder, node, gsb } = await startNode(t);
  const path = join(folder, 'f');
  writeFileSync(path, 'old');
  const one = await receiver(t, path, node, gsb);
  const early = [one.chunk(6, text('ghi')), one.chunk(3, text('def'))];
  await one.chunk(0, text('abc'));
  await Promise.all(early);
  t.equal(readFileSync(path, 'utf8'), 'old', 'it has its name at the end only');
  await one.finish((await sha3Of([text('abcdefghi')])).toUpperCase());
  t.equal(readFileSync(path, 'utf8'), 'abcdefghi');
  t.match(await one.received, { size: 9 });
  const over = { code: 'YAVM_E_GSB_REMOTE', message: /WriteError.*is over/ };
  await t.rejects(one.chunk(9, text('more')), over);
  await t.rejects(one.finish(null), over);

  const again = await receiver(t, path, node, gsb);
  await again.chunk(0, text('a longer beginning'));
  await t.rejects(again.finish(await sha3Of([text('x')])), { message: /IntegrityError/ });
  await again.chunk(0, text('xy'));
  await again.chunk(2, text('z'));
  await again.finish(await sha3Of([text('xyz')]));
  t.equal(readFileSync(path, 'utf8'), 'xyz', 'another attempt');

  const trusting = await receiver(t, path, node, gsb);
  await trusting.finish(null);
  t.equal(readFileSync(path, 'utf8'), '', 'nothing at all');
});

t.test('an upload that may not be', async (t) => {
  const { folder, node, gsb } = await startNode(t);
  const path = join(folder, 'f');
  const one = await receiver(t, path, node, gsb, 1000);
  const writeError = { code: 'YAVM_E_GSB_REMOTE', message: /WriteError/ };
  const nonsense = { code: 'YAVM_E_GSB_SERVICE', message: /not understood/ };
  await one.chunk(0, new Uint8Array(10));
  await t.rejects(one.chunk(5, new Uint8Array(10)), writeError, 'twice');
  await t.rejects(one.chunk(-10, new Uint8Array(10)), writeError, 'before the beginning');
  await t.rejects(one.chunk(10.5, new Uint8Array(10)), writeError);
  await t.rejects(one.chunk(10, new Uint8Array(991)), writeError, 'too much');
  await t.rejects(one.chunk(2n ** 60n, new Uint8Array(1)), writeError, 'far away');
  await t.rejects(one.chunk(10, 'text'), nonsense);
  await t.rejects(one.chunk(10, [1, 2, 3, 4, 5]), nonsense);
  await t.rejects(one.chunk(10, new Uint8Array(2 ** 20 + 1)), nonsense);
  await t.rejects(one.finish(7), nonsense);
  const waiting = Array.from({ length: 64 }, (_, index) => one.chunk(20 + index, new Uint8Array(1)));
  const given = Promise.allSettled(waiting);
  await t.rejects(one.chunk(300, new Uint8Array(1)), writeError, 'too many wait');
  await t.rejects(one.finish(null), { message: /IntegrityError/ }, 'bytes are missing');
  await one.close();
  const reasons = (await given).map((each) => (each.status === 'rejected' ? each.reason.code : 'taken'));
  t.same([...new Set(reasons)], ['YAVM_E_GSB_REMOTE'], 'who waits is told');
  t.notOk(existsSync(path));
  t.same(readdirSync(folder), ['gsb.sock']);
  await t.rejects(receiveFile(node.gsb, folder), { code: 'YAVM_E_LOCAL_FILE', message: /is a directory/ });
  await t.rejects(receiveFile(node.gsb, join(folder, 'no/f')), { code: 'YAVM_E_LOCAL_FILE' });
});
