/** gftp against requestors that are made up: what is asked and sent, and what is not believed. */
import t from 'tap';
import { type Flex, RemoteError, RpcError } from '../../host/gsb/types.ts';
import { isYavmError, YavmError } from '../../host/lib/errors.ts';
import { gftpDestination, gftpSource } from '../../host/transfer/gftp.ts';
import { isPassing } from '../../host/transfer/retry.ts';
import type { Bytes } from '../../host/transfer/types.ts';
import { aborted } from '../lib/fake-runtime.ts';
import { CHUNK, collect, NODE, pattern, publisherOf, receiverOf, sha3Of } from '../lib/gftp.ts';
import type { FakeBus } from '../lib/supervisor-bus.ts';

const SERVICE = `/transfer/net/${NODE}/gftp/abc`;
const FILE = new URL(`gftp://${NODE.toUpperCase().replace('0X', '0x')}/abc?x=1`);
const never = new AbortController().signal;

async function download(bus: FakeBus, options = {}): Promise<Buffer> {
  const { bytes } = await gftpSource(FILE, bus, options).open({ signal: never });
  return await collect(bytes);
}

const upload = (bus: FakeBus, bytes: Bytes, signal = never) =>
  gftpDestination(FILE, bus).write({ size: null, bytes }, { signal });

t.test('addresses', (t) => {
  const bus = publisherOf(Buffer.alloc(0));
  t.equal(gftpSource(FILE, bus).shown, `gftp://${NODE}/abc`, 'lower case, no query');
  for (const text of [
    `gftp://${NODE}/`,
    `gftp://${NODE}`,
    `gftp://${NODE}/a/b`,
    `gftp://${NODE}0/a`,
    `gftp://${NODE.slice(0, -1)}/a`,
    `gftp://${NODE.slice(2)}/a`,
    `gftp://${NODE.slice(0, -1)}g/a`,
    `gftp://user:secret@${NODE}/a`,
    `gftp://${NODE}:80/a`,
    `gftp:/${NODE}/a`,
    `gftp://${NODE}/${'a'.repeat(257)}`,
    'http://127.0.0.1/a',
  ]) {
    for (const end of [gftpSource, gftpDestination]) {
      t.throws(() => end(new URL(text), bus), { code: 'YAVM_E_URL' }, text);
    }
  }
  try {
    gftpSource(new URL(`gftp://user:secret@${NODE}/a`), bus);
  } catch (error) {
    t.notMatch((error as Error).message, /secret/);
  }
  t.end();
});

t.test('a download of each size: whole chunks are asked for, the rest comes', async (t) => {
  for (const size of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 50_000, 40 * CHUNK + 7]) {
    const content = await collect(pattern(size, 1000));
    const bus = publisherOf(content);
    const opened = await gftpSource(FILE, bus).open({ signal: never });
    t.equal(opened.size, size);
    t.ok((await collect(opened.bytes)).equals(content), `${size} bytes`);
    const [metadata, ...chunks] = bus.calls;
    t.match(metadata, { address: `${SERVICE}/GetMetadata`, body: null, options: { deadline: 60_000 } });
    t.same(
      chunks.map(({ address, body }) => [address, body]),
      Array.from({ length: Math.ceil(size / CHUNK) }, (_, index) => [
        `${SERVICE}/GetChunk`,
        { offset: index * CHUNK, size: CHUNK },
      ]),
    );
    t.ok(chunks.every(({ options }) => options.deadline === 60_000));
  }
});

t.test('chunks are asked for ahead, so many and no more, and come in their order', async (t) => {
  const content = await collect(pattern(100 * CHUNK, 1000));
  let open = 0;
  let most = 0;
  const answers: (() => void)[] = [];
  const bus = publisherOf(content, (message, { body }) => {
    if (message !== 'GetChunk') return undefined;
    const { offset } = body as { offset: number };
    most = Math.max(most, ++open);
    return new Promise((resolve) => {
      answers.push(() => {
        open--;
        resolve({ offset, content: content.subarray(offset, offset + CHUNK) });
      });
      // As soon as nothing more is asked for, the last one is answered first.
      setImmediate(() => setImmediate(() => answers.pop()?.()));
    });
  });
  t.ok((await download(bus)).equals(content));
  t.equal(most, 16);
});

t.test('a reader that is slow is not overrun', async (t) => {
  const bus = publisherOf(await collect(pattern(100 * CHUNK)));
  const { bytes } = await gftpSource(FILE, bus).open({ signal: never });
  let read = 0;
  for await (const _ of bytes) {
    read++;
    await new Promise((resolve) => setImmediate(resolve));
    if (bus.calls.length - 1 - read > 16) t.fail('what is there and not read is bounded');
    if (read === 20) break;
  }
  t.ok(bus.calls.length <= 1 + 20 + 16);
});

t.test('what a publisher may not answer', async (t) => {
  const content = await collect(pattern(3 * CHUNK + 5));
  const metadata = (answer: Flex) => (message: string) => (message === 'GetMetadata' ? answer : undefined);
  const second = (answer: (offset: number) => Flex) => (message: string, call: { body: unknown }) => {
    const { offset } = (call.body ?? {}) as { offset?: number };
    return message === 'GetChunk' && offset === CHUNK ? answer(offset) : undefined;
  };
  const blob = (size: number) => new Uint8Array(size);
  for (const [name, lie, words] of [
    ['no size', metadata({}), /no file's size/],
    ['a size that is none', metadata({ fileSize: 'many' }), /no file's size/],
    ['a negative size', metadata({ fileSize: -1 }), /no file's size/],
    ['a broken size', metadata({ fileSize: 1.5 }), /no file's size/],
    ['a size beyond 2^53', metadata({ fileSize: 2n ** 60n }), /1152921504606846976 bytes is too large/],
    ['another type', metadata('x'), /no file's size/],
    ['more than announced', metadata({ fileSize: 5 }), /122885|40960 bytes came for the 5/],
    ['less than announced', metadata({ fileSize: 5 * CHUNK }), /5 bytes came for the 40960 at 122880/],
    ['another offset', second(() => ({ offset: 0, content: blob(CHUNK) })), /other bytes .* 40960/],
    [
      'an offset of another type',
      second((offset) => ({ offset: `${offset}`, content: blob(CHUNK) })),
      /other bytes/,
    ],
    ['no offset', second(() => ({ content: blob(CHUNK) })), /other bytes/],
    [
      'too short',
      second((offset) => ({ offset, content: blob(CHUNK - 1) })),
      /40959 bytes came for the 40960/,
    ],
    ['too long', second((offset) => ({ offset, content: blob(CHUNK + 1) })), /40961 bytes came/],
    ['empty', second((offset) => ({ offset, content: blob(0) })), /0 bytes came/],
    ['no content', second((offset) => ({ offset })), /has none/],
    ['text', second((offset) => ({ offset, content: 'x'.repeat(CHUNK) })), /has none/],
    ['numbers', second((offset) => ({ offset, content: Array.from(blob(CHUNK)) })), /has none/],
    ['no map', second(() => null), /has none/],
  ] as const) {
    const failed = download(publisherOf(content, lie as never));
    await t.rejects(failed, { code: 'YAVM_E_GFTP', message: words }, name);
    await t.rejects(failed, { message: new RegExp(`^GFTP error: gftp://${NODE}/abc: `) }, name);
    await failed.catch((error) => t.notOk(isPassing(error), 'another attempt would meet the same'));
  }
  await t.rejects(download(publisherOf(content), { maxSize: 3 * CHUNK }), {
    code: 'YAVM_E_GFTP',
    message: /122885 bytes is too large: the limit is 122880/,
  });
  t.equal((await download(publisherOf(content), { maxSize: content.length })).length, content.length);
});

t.test('errors of the other side, and of the way to it', async (t) => {
  for (const [thrown, code, words, passes] of [
    [
      new RemoteError('x', { ReadError: 'no\nsuch \u001b[2Jfile' }),
      'YAVM_E_GFTP',
      /cannot be read there \(ReadError\): no such \\x1b\[2Jfile$/,
      false,
    ],
    [
      new RemoteError('x', { WriteError: 'full' }),
      'YAVM_E_GFTP',
      /cannot be written there \(WriteError\): full$/,
      false,
    ],
    [new RemoteError('x', 'IntegrityError'), 'YAVM_E_GFTP', /another hash \(IntegrityError\)$/, false],
    [
      new RemoteError('x', { InternalError: 'w'.repeat(9000) }),
      'YAVM_E_GFTP',
      /\(InternalError\): w{500}…$/,
      false,
    ],
    [new RemoteError('x', { toString: 'x' }), 'YAVM_E_GFTP', /an error that is not known$/, false],
    [new RemoteError('x', 7), 'YAVM_E_GFTP', /an error that is not known$/, false],
    [new RpcError('forbidden', 'not you'), 'YAVM_E_GFTP', /forbidden: not you$/, false],
    [new YavmError('YAVM_E_GSB_TIMEOUT', 'no answer'), 'YAVM_E_GSB_TIMEOUT', /^GSB error: no answer$/, true],
    [new YavmError('YAVM_E_GSB_CLOSED', 'lost'), 'YAVM_E_GSB_CLOSED', /^GSB error: lost$/, true],
    [
      new YavmError('YAVM_E_GSB_NO_ENDPOINT', 'a: not found'),
      'YAVM_E_GSB_NO_ENDPOINT',
      /^GSB error: a: not found$/,
      true,
    ],
    [new YavmError('YAVM_E_GSB_SERVICE', 'it broke'), 'YAVM_E_GSB_SERVICE', /^GSB error: it broke$/, false],
    [new YavmError('YAVM_E_GSB_BODY', 'nonsense'), 'YAVM_E_GSB_BODY', /^GSB error: nonsense$/, false],
  ] as const) {
    const lie = () => Promise.reject(thrown);
    // Each is begun when it is waited for: one that fails unheard would fail the test.
    for (const work of [
      () => download(publisherOf(Buffer.alloc(9), lie)),
      () => download(publisherOf(Buffer.alloc(9), (message) => (message === 'GetChunk' ? lie() : undefined))),
      () => upload(receiverOf(lie).bus, pattern(9)),
      () =>
        upload(receiverOf((message) => (message === 'UploadFinished' ? lie() : undefined)).bus, pattern(9)),
    ]) {
      const error = await work().then(
        () => undefined,
        (error: unknown) => error,
      );
      t.ok(isYavmError(error, code), code);
      t.match((error as Error).message, words);
      t.equal(isPassing(error), passes, `${code} passes: ${passes}`);
    }
  }
});

t.test('an upload of each size, however its bytes come', async (t) => {
  for (const size of [0, 1, CHUNK, CHUNK + 1, 50_000, 30 * CHUNK + 9]) {
    for (const piece of [999, CHUNK, 3 * CHUNK + 1]) {
      const receiver = receiverOf();
      await upload(receiver.bus, pattern(size, piece));
      const content = await collect(pattern(size, piece));
      t.ok(receiver.content().equals(content), `${size} bytes in pieces of ${piece}`);
      t.same(
        receiver.offsets,
        Array.from({ length: Math.ceil(size / CHUNK) }, (_, index) => index * CHUNK),
      );
      t.equal(receiver.hash, await sha3Of([content]));
      t.same(receiver.bus.messages.slice(-1), ['UploadFinished']);
    }
  }
});

t.test('an upload whose pieces are used again by their owner', async (t) => {
  const receiver = receiverOf();
  const memory = Buffer.alloc(2 * CHUNK);
  const whole: Buffer[] = [];
  async function* reused(): Bytes {
    for (let round = 0; round < 20; round++) {
      memory.fill(round);
      whole.push(Buffer.from(memory));
      yield memory;
    }
  }
  await upload(receiver.bus, reused());
  t.ok(receiver.content().equals(Buffer.concat(whole)));
});

t.test('an upload is ahead by so many chunks and no more; the end is said when all were taken', async (t) => {
  const answers: (() => void)[] = [];
  let open = 0;
  let most = 0;
  const receiver = receiverOf((message) => {
    if (message === 'UploadFinished') {
      t.equal(open, 0, 'nothing is on its way');
      return null;
    }
    most = Math.max(most, ++open);
    return new Promise<null>((resolve) => {
      answers.push(() => {
        open--;
        resolve(null);
      });
      // As soon as nothing more comes, the last one is answered first.
      setImmediate(() => setImmediate(() => answers.pop()?.()));
    });
  });
  await upload(receiver.bus, pattern(50 * CHUNK));
  t.equal(most, 8);
  t.same(
    receiver.offsets,
    receiver.offsets.toSorted((a, b) => a - b),
  );
});

t.test('what fails is never finished', async (t) => {
  const fails = async function* (): Bytes {
    yield* pattern(20 * CHUNK);
    throw new YavmError('YAVM_E_HTTP', 'the source broke');
  };
  const receiver = receiverOf();
  await t.rejects(upload(receiver.bus, fails()), { code: 'YAVM_E_HTTP' });
  t.notOk(receiver.bus.messages.includes('UploadFinished'));

  const full = receiverOf((_message, { body }) => {
    const { offset } = (body.chunk ?? {}) as { offset?: number };
    if (offset === 2 * CHUNK) throw new RemoteError('x', { WriteError: 'the disk is full' });
    return null;
  });
  await t.rejects(upload(full.bus, pattern(1000 * CHUNK)), {
    code: 'YAVM_E_GFTP',
    message: /the disk is full/,
  });
  t.ok(full.offsets.length <= 3 + 8, 'it ends soon');
  t.notOk(full.bus.messages.includes('UploadFinished'));
});

t.test('an abort ends everything at once', async (t) => {
  const reason = new YavmError('YAVM_E_TERMINATED', 'told to');
  const hangs = (message: string, { options }: { options: { signal?: AbortSignal } }) =>
    message === 'GetMetadata' ? undefined : aborted(options.signal as AbortSignal);
  const abort = new AbortController();
  const bus = publisherOf(await collect(pattern(50 * CHUNK)), hangs);
  const { bytes } = await gftpSource(FILE, bus).open({ signal: abort.signal });
  const reading = collect(bytes);
  while (bus.calls.length < 17) await new Promise((resolve) => setImmediate(resolve));
  abort.abort(reason);
  await t.rejects(reading, { code: 'YAVM_E_TERMINATED' });
  t.ok(
    bus.calls.slice(1).every(({ options }) => options.signal?.aborted),
    'calls under way are given up',
  );

  const later = new AbortController();
  const receiver = receiverOf(hangs);
  const writing = upload(receiver.bus, pattern(50 * CHUNK), later.signal);
  while (receiver.offsets.length < 8) await new Promise((resolve) => setImmediate(resolve));
  later.abort(reason);
  await t.rejects(writing, { code: 'YAVM_E_TERMINATED' });
  t.equal(receiver.offsets.length, 8);
  t.notOk(receiver.bus.messages.includes('UploadFinished'));

  const gone = AbortSignal.abort(reason);
  await t.rejects(gftpSource(FILE, bus).open({ signal: gone }), { code: 'YAVM_E_TERMINATED' });
  await t.rejects(upload(receiver.bus, pattern(1), gone), { code: 'YAVM_E_TERMINATED' });
});

t.test('a reader that leaves, and failures that nobody waits for, are no unhandled rejections', async (t) => {
  let unhandled = 0;
  const count = () => unhandled++;
  process.on('unhandledRejection', count);
  t.teardown(() => process.off('unhandledRejection', count));
  const bus = publisherOf(await collect(pattern(50 * CHUNK)), (message, { body, options }) => {
    if (message !== 'GetChunk' || (body as { offset?: number }).offset === 0) return undefined;
    return (body as { offset: number }).offset % 2 === 0
      ? aborted(options.signal as AbortSignal)
      : Promise.reject(new Error('x'));
  });
  const { bytes } = await gftpSource(FILE, bus).open({ signal: never });
  for await (const _ of bytes) break;
  t.ok(bus.calls.slice(1).every(({ options }) => options.signal?.aborted));
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  t.equal(unhandled, 0);
});
