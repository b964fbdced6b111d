/** gftp over the embedded node: much of it, with calls beside it, peers that vanish, ways that are cut. */
import { createReadStream, readdirSync, readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connectGsb, encodeBody, type Gsb } from '../../host/gsb/index.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { LOCAL_IDENTITY, publishFile, receiveFile } from '../../host/node/index.ts';
import { gftpDestination, gftpSource } from '../../host/transfer/gftp.ts';
import { TransferProgress } from '../../host/transfer/progress.ts';
import { isPassing } from '../../host/transfer/retry.ts';
import { transfer } from '../../host/transfer/transfer.ts';
import type { Bytes, TransferDestination, TransferSource } from '../../host/transfer/types.ts';
import { CHUNK, collect, pattern, sha3Of, startNode, writePattern } from '../lib/gftp.ts';
import { RawPeer } from '../lib/gsb-peer.ts';
import { Random } from '../lib/random.ts';
import { bytes, count } from '../lib/scale.ts';

const never = new AbortController().signal;

const write = (url: string, gsb: Gsb, content: Bytes, signal = never) =>
  gftpDestination(new URL(url), gsb).write({ size: null, bytes: content }, { signal });

async function read(url: string, gsb: Gsb, signal = never): Promise<Buffer> {
  return await collect((await gftpSource(new URL(url), gsb).open({ signal })).bytes);
}

/** Calls as reports of usage are made, one after the other, until `work` is done. `moved` tells how far that is. */
async function withReports(gsb: Gsb, work: Promise<unknown>, moved: () => number) {
  let done = false;
  const seen = { answered: 0, longest: 0 };
  const reporting = (async () => {
    while (!done) {
      const before = moved();
      await gsb.call('/local/test/Report', null, { deadline: 60_000 });
      seen.answered++;
      seen.longest = Math.max(seen.longest, moved() - before);
    }
  })();
  await work.finally(() => {
    done = true;
  });
  await reporting;
  return seen;
}

t.test('much of it both ways, while reports go on', async (t) => {
  const { folder, node, gsb } = await startNode(t);
  await node.gsb.bind('/local/test/Report', { unary: () => null });
  const size = bytes(1024 ** 3) + 12_345;
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  await writePattern(from, size);
  const hash = await sha3Of(pattern(size));
  const published = await publishFile(node.gsb, from);
  const place = await receiveFile(node.gsb, to);

  let chunks = 0;
  const began = performance.now();
  const opened = await gftpSource(new URL(published.url), gsb).open({ signal: never });
  t.equal(opened.size, size);
  async function* counted(): Bytes {
    for await (const chunk of opened.bytes) {
      chunks++;
      yield chunk;
    }
  }
  const down = await withReports(
    gsb,
    sha3Of(counted()).then((got) => t.equal(got, hash)),
    () => chunks,
  );
  const half = performance.now();
  t.ok(
    down.answered > chunks / 100 && down.longest < 100,
    `down: a report each ${down.longest} chunks at most`,
  );

  chunks = 0;
  async function* sent(): Bytes {
    for await (const piece of pattern(size, CHUNK)) {
      chunks++;
      yield piece;
    }
  }
  const up = await withReports(gsb, write(place.url, gsb, sent()), () => chunks);
  t.ok(up.answered > chunks / 100 && up.longest < 100, `up: a report each ${up.longest} chunks at most`);
  const rate = (milliseconds: number) => Math.round(size / 1e3 / milliseconds);
  t.comment(`${rate(half - began)} MB/s down, ${rate(performance.now() - half)} MB/s up`);

  t.same(await place.received, { size, hash: await sha3Of(pattern(size, CHUNK)) });
  t.equal(await sha3Of(createReadStream(to)), await sha3Of(pattern(size, CHUNK)));
  await published.close();
  await place.close();
  t.same(readdirSync(folder).sort(), ['from', 'gsb.sock', 'to']);
  await t.rejects(
    read(published.url, gsb),
    { code: 'YAVM_E_GSB_NO_ENDPOINT' },
    'it is not published any more',
  );
});

t.test('a publisher that vanishes', async (t) => {
  const { address, gsb } = await startNode(t);
  const peer = await RawPeer.connect(t, address);
  await peer.register('/public/gftp/x');
  const url = new URL(`gftp://${LOCAL_IDENTITY.nodeId}/x`);
  const opening = gftpSource(url, gsb, { deadline: 4000 }).open({ signal: never });
  const asked = await peer.next('callRequest');
  peer.reply(asked.requestId, encodeBody({ Ok: { fileSize: 100 * CHUNK } }));
  const reading = collect((await opening).bytes);
  await peer.next('callRequest');
  peer.socket.destroy();
  const error = await reading.then(
    () => undefined,
    (error: unknown) => error,
  );
  t.ok(isYavmError(error, 'YAVM_E_GSB_TIMEOUT'));
  t.ok(isPassing(error));
});

t.test('an abort in the middle: the other side keeps nothing', async (t) => {
  const { folder, node, gsb } = await startNode(t);
  const from = join(folder, 'from');
  await writePattern(from, 500 * CHUNK);
  const reason = new Error('told to');
  const published = await publishFile(node.gsb, from);
  const stop = new AbortController();
  const { bytes: coming } = await gftpSource(new URL(published.url), gsb).open({ signal: stop.signal });
  let read = 0;
  await t.rejects(
    async () => {
      for await (const _ of coming) if (++read === 20) stop.abort(reason);
    },
    { message: 'told to' },
  );
  t.equal(read, 20);
  await published.close();

  const place = await receiveFile(node.gsb, join(folder, 'to'));
  const halt = new AbortController();
  async function* endless(): Bytes {
    for (let count = 0; ; count++) {
      if (count === 20) halt.abort(reason);
      yield Buffer.alloc(CHUNK);
    }
  }
  await t.rejects(write(place.url, gsb, endless(), halt.signal), { message: 'told to' });
  await place.close();
  await t.rejects(place.received, { code: 'YAVM_E_LOCAL_FILE', message: /nothing was received/ });
  t.same(readdirSync(folder).sort(), ['from', 'gsb.sock']);
});

/** A way to the node that can be cut; whoever lost it may come again. */
async function cuttable(t: Test, to: string): Promise<{ path: string; cut(): void }> {
  const path = `${to}.way`;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const onward = connect(to);
    for (const end of [socket, onward]) {
      sockets.add(end);
      end.on('error', () => {}).on('close', () => cut());
    }
    socket.pipe(onward).pipe(socket);
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    cut();
    server.close();
  });
  return { path, cut };
}

t.test('the way is cut at any point, and what arrives is the same', async (t) => {
  const { folder, address, node } = await startNode(t);
  const way = await cuttable(t, address.path);
  const gsb = connectGsb({ address: { kind: 'unix', path: way.path }, logger: silentLogger });
  t.teardown(() => gsb.close());
  const random = new Random();
  t.comment(`seed ${random.seed} (YAVM_SEED)`);
  const chunks = 300;
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  await writePattern(from, chunks * CHUNK - 9);
  const content = readFileSync(from);
  const digest = { algorithm: 'sha3-256', hex: await sha3Of([content]) } as const;
  const published = await publishFile(node.gsb, from);
  t.teardown(() => published.close());
  let retries = 0;
  const context = () => ({
    signal: never,
    progress: new TransferProgress(() => {}),
    onRetry: () => retries++,
    sleep: async () => {},
  });
  for (let round = count(20); round > 0; round--) {
    // Counted over all attempts, so that it happens once.
    let passed = 0;
    const at = random.between(1, chunks);
    const counted = async function* (bytes: Bytes): Bytes {
      for await (const piece of bytes) {
        if (++passed === at) way.cut();
        yield piece;
      }
    };
    let got: Buffer = Buffer.alloc(0);
    const keeping: TransferDestination = {
      shown: 'memory',
      async write({ bytes }) {
        got = await collect(counted(bytes));
      },
    };
    await transfer({ from: gftpSource(new URL(published.url), gsb), to: keeping, digest }, context());
    t.ok(got.equals(content), `down, cut at chunk ${at}`);

    passed = 0;
    const place = await receiveFile(node.gsb, to);
    const given: TransferSource = {
      shown: 'memory',
      open: async () => ({
        size: content.length,
        bytes: counted(
          (async function* () {
            for (let offset = 0; offset < content.length; offset += CHUNK)
              yield content.subarray(offset, offset + CHUNK);
          })(),
        ),
      }),
    };
    await transfer({ from: given, to: gftpDestination(new URL(place.url), gsb), digest }, context());
    await place.received;
    t.ok(readFileSync(to).equals(content), `up, cut at chunk ${at}`);
    await place.close();
  }
  t.ok(retries > 0, `${retries} attempts more`);
});
