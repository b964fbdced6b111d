/** Answers and requests of gftp with changed bytes: what comes of them is as much as was said, or a coded error. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openReply } from '../../host/gsb/envelope.ts';
import { decodeBody, encodeBody } from '../../host/gsb/index.ts';
import { AnswerError, type Flex } from '../../host/gsb/types.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import { publishFile } from '../../host/node/gftp-publish.ts';
import { receiveFile } from '../../host/node/gftp-receive.ts';
import { gftpDestination, gftpSource } from '../../host/transfer/gftp.ts';
import { CHUNK, collect, NODE, pattern } from '../lib/gftp.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { FakeBus } from '../lib/supervisor-bus.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const FILE = new URL(`gftp://${NODE}/abc`);
const CODES = /^YAVM_E_(GFTP|GSB_(BODY|REMOTE|SERVICE|NO_ENDPOINT))$/;
const signal = new AbortController().signal;

/** A bus on which each answer may have been changed on its way. */
function noisyBus(answer: (message: string, body: Flex) => Flex): FakeBus {
  const bus = new FakeBus();
  bus.answer = ({ address, body }) => {
    const plain = encodeBody(answer(address.slice(address.lastIndexOf('/') + 1), body));
    const data = random.chance(3) ? random.mutate(plain, 2) : plain;
    const code = random.chance(50) ? random.pick([400, 500] as const) : 0;
    return openReply(address, { kind: 'callReply', requestId: '', replyType: 'full', code, data });
  };
  return bus;
}

async function outcome(work: Promise<unknown>): Promise<'good' | 'refused'> {
  try {
    await work;
    return 'good';
  } catch (error) {
    if (isYavmError(error) && CODES.test(error.code)) return 'refused';
    throw error;
  }
}

t.test('answers to a download', async (t) => {
  const content = await collect(pattern(2 * CHUNK + 100));
  const errors: Flex[] = [{ Err: 'IntegrityError' }, { Err: { ReadError: 'x' } }, { Err: { service: 'x' } }];
  const bus = noisyBus((message, body) => {
    if (random.chance(20)) return random.pick(errors);
    if (message === 'GetMetadata') return { Ok: { fileSize: content.length } };
    const { offset, size } = body as { offset: number; size: number };
    return { Ok: { offset, content: content.subarray(offset, offset + size) } };
  });
  const seen = { good: 0, refused: 0 };
  for (let round = count(20_000); round > 0; round--) {
    const download = async () => {
      const { size, bytes } = await gftpSource(FILE, bus, { maxSize: 2 ** 20 }).open({ signal });
      const { length } = await collect(bytes);
      if (length !== size) t.fail(`${length} bytes instead of ${size}`);
    };
    seen[await outcome(download())]++;
    bus.calls.length = 0;
  }
  t.ok(seen.good > 0 && seen.refused > 0, JSON.stringify(seen));
});

t.test('answers to an upload', async (t) => {
  const bus = noisyBus(() => (random.chance(20) ? { Err: { WriteError: 'x' } } : { Ok: null }));
  const seen = { good: 0, refused: 0 };
  // Each has a thread for its hash.
  for (let round = count(1000); round > 0; round--) {
    const upload = gftpDestination(FILE, bus).write(
      { size: null, bytes: pattern(2 * CHUNK + 1) },
      { signal },
    );
    seen[await outcome(upload)]++;
    bus.calls.length = 0;
  }
  t.ok(seen.good > 0 && seen.refused > 0, JSON.stringify(seen));
});

t.test('requests to a publisher and to a receiver', async (t) => {
  const folder = socketFolder(t);
  const bus = new FakeBus();
  const nodeId = NODE;
  const published = await publishFile(bus, import.meta.filename, { nodeId });
  const place = await receiveFile(bus, join(folder, 'f'), { nodeId, maxSize: 10_000 });
  const handlers = [...bus.bindings].map(([address, binding]) => {
    if (!('unary' in binding)) throw new Error('not unary');
    return { address, handle: binding.unary };
  });
  const requests: (() => readonly [string, Flex])[] = [
    () => ['GetMetadata', null],
    () => ['GetChunk', { offset: random.between(0, 5000), size: random.between(0, 5000) }],
    () => [
      'UploadChunk',
      { chunk: { offset: random.between(0, 300), content: random.bytes(random.between(0, 99)) } },
    ],
    // Never the right one: it goes on.
    () => ['UploadFinished', { hash: random.pick(['ab', 7]) }],
  ];
  const seen = { answered: 0, refused: 0, early: 0 };
  for (let round = count(100_000); round > 0; round--) {
    const [message, body] = random.pick(requests)();
    const { address, handle } = random.pick(handlers);
    const plain = encodeBody(body);
    try {
      const changed = decodeBody(random.chance(2) ? random.mutate(plain, 2) : plain);
      const call = { caller: 'local', address: `${address}/${message}`, noReply: false, signal };
      // One that is early waits for those before it.
      const early = Symbol('early');
      const given = Promise.resolve(handle(changed, call));
      given.catch(() => {});
      const soon = new Promise((resolve) => setImmediate(() => setImmediate(resolve, early)));
      seen[(await Promise.race([given, soon])) === early ? 'early' : 'answered']++;
    } catch (error) {
      if (!(error instanceof AnswerError) && !isYavmError(error)) throw error;
      seen.refused++;
    }
  }
  await published.close();
  await place.close();
  t.ok(seen.answered > 0 && seen.refused > 0, JSON.stringify(seen));
  t.notOk(
    readdirSync(folder).some((name) => name.endsWith('.part')),
    'no part is left',
  );
});
