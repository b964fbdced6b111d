/** Transfers of an activity, with a real VM: every kind of end, large files, directories, aborts. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream, existsSync, readdirSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import t, { type Test } from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { publishFile } from '../../host/node/gftp-publish.ts';
import { receiveFile } from '../../host/node/gftp-receive.ts';
import type { CommandResult } from '../../host/node/messages.ts';
import { begin, perform, sh } from '../lib/exe-unit-activity.ts';
import { SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { LargeContent } from '../lib/large-content.ts';
import { findQemu, waitUntil } from '../lib/processes.ts';
import { bytes, soak } from '../lib/scale.ts';

const LONG = { timeout: 1_200_000 };
const LARGE = bytes(1024 ** 3);

interface Web {
  origin: string;
  /** What was uploaded, by path: its SHA3-256 and size; large bodies are not kept. */
  uploads: Map<string, { hash: string; size: number; body: Buffer }>;
  /** Requests for what never ends; and how many of them were left by who asked. */
  endless: number;
  left: number;
}

/** Answers `/large`, `/small`, `/endless` and what was uploaded; takes uploads. */
async function serveFiles(t: Test, large: LargeContent): Promise<Web> {
  const web: Web = { origin: '', uploads: new Map(), endless: 0, left: 0 };
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? '/';
    if (request.method === 'PUT') return await take(web, path, request, response);
    const upload = web.uploads.get(path);
    if (path === '/large') {
      response.setHeader('content-length', large.size);
      await pipeline(Readable.from(copies(large)), response);
    } else if (path === '/endless') {
      web.endless++;
      response.on('close', () => web.left++);
      response.write('a beginning');
    } else if (upload) {
      response.end(upload.body);
    } else {
      response.writeHead(404, 'There is no such thing').end('really not\n');
    }
  };
  const server = createServer((request, response) => void answer(request, response).catch(() => {}));
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  web.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return web;
}

function* copies(large: LargeContent): Generator<Buffer> {
  for (const piece of large.pieces()) yield Buffer.from(piece);
}

const KEPT = 4 * 1024 * 1024;

async function take(web: Web, path: string, request: IncomingMessage, response: ServerResponse) {
  const hash = createHash('sha3-256');
  const kept: Buffer[] = [];
  let size = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    hash.update(piece);
    if (size < KEPT) kept.push(Buffer.from(piece));
    size += piece.length;
  }
  web.uploads.set(path, { hash: hash.digest('hex'), size, body: Buffer.concat(kept) });
  response.writeHead(201).end();
}

function transfer(from: string, to: string, more: Record<string, Flex> = {}): Flex {
  return { transfer: { from, to, ...more } };
}

function allOk(t: Test, results: readonly CommandResult[], what: string): void {
  t.same(
    results.filter(({ ok }) => !ok).map(({ message }) => message),
    [],
    what,
  );
}

t.test('large files by every way in and out, while the node hears of usage', LONG, async (t) => {
  const large = new LargeContent(LARGE);
  const hash = large.hash();
  const scene = await begin(t, undefined, { storageGib: 0.25 + (3 * LARGE) / 1024 ** 3 });
  const { activity, requestor, node, events, folder } = scene;
  const web = await serveFiles(t, large);
  const published = join(folder, 'published');
  await pipeline(Readable.from(copies(large)), createWriteStream(published));
  const source = await publishFile(node.gsb, published);
  const target = await receiveFile(node.gsb, join(folder, 'received'));
  const began = performance.now();
  const script = [
    { deploy: {} },
    transfer(`hash:sha3:${hash}:${web.origin}/large`, 'container:/early/large'),
    { start: {} },
    transfer(`hash:sha3:${hash}:${web.origin}/large`, 'container:/new folder/large'),
    transfer('container:/new%20folder/large', `${web.origin}/up`),
    transfer('container:/early/large', `${web.origin}/early`),
    sh("rm -r '/new folder' /early"),
    transfer(source.url, 'container:/by-gftp'),
    transfer('container:/by-gftp', target.url),
  ];
  const results = await perform(requestor, script);
  const seconds = (performance.now() - began) / 1000;
  allOk(t, results, 'every command');
  t.match(web.uploads.get('/up'), { hash, size: LARGE }, 'http in and out');
  t.match(web.uploads.get('/early'), { hash, size: LARGE }, 'what came before the start is there');
  const received = createHash('sha3-256');
  await target.received;
  for await (const piece of createReadStream(join(folder, 'received'))) received.update(piece);
  t.equal(received.digest('hex'), hash, 'gftp in and out');
  const reports = events.filter(({ kind }) => kind === 'usage').length;
  t.ok(
    reports >= (soak ? 0.8 : 0.3) * Math.floor(seconds),
    `${reports} reports of usage in ${Math.round(seconds)} s`,
  );
  await Promise.all([source.close(), target.close()]);
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  t.same(readdirSync(activity.workFolder), ['logs']);
});

t.test('directories as archives, errors with their words, aborts', LONG, async (t) => {
  const { activity, requestor, vms } = await begin(t);
  const web = await serveFiles(t, new LargeContent(1024));
  await perform(requestor, [{ deploy: {} }, { start: {} }]);

  await t.test('a directory comes out as any archive, and goes in again', async (t) => {
    const tree = [
      'mkdir -p /tree/sub/empty && cd /tree',
      "echo one > one.txt && echo two > sub/two.txt && echo no > sub/no.log && printf x > 'a name'",
      'chmod 640 one.txt && ln -s one.txt link && ln one.txt hard',
    ];
    allOk(t, await perform(requestor, [sh(tree.join(' && '))]), 'a tree');
    const list = (folder: string) =>
      sh(`cd ${folder} && find . ! -name no.log | sort && cat one.txt sub/two.txt && stat -c %a one.txt`);
    const [expected] = await perform(requestor, [list('/tree')]);
    for (const format of ['tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'tar.zst', 'zip', 'zip.0']) {
      const place = `/back-${format}`;
      const fileset = { includes: '**/*', excludes: '**/*.log' };
      const results = await perform(requestor, [
        transfer('container:/tree', `${web.origin}/t.${format}`, { format, fileset }),
        transfer(`${web.origin}/t.${format}`, `container:${place}`, { format }),
        list(place),
      ]);
      allOk(t, results, format);
      t.equal(results[2]?.stdout, expected?.stdout, `${format}: what came back is what went out`);
    }
    const between = await perform(requestor, [
      transfer('container:/tree', 'container:/copy', { format: 'tar' }),
      list('/copy'),
    ]);
    t.equal(between[1]?.stdout, expected?.stdout, 'from one directory to another');
  });

  await t.test('what fails says what and why, and leaves the destination as it was', async (t) => {
    await perform(requestor, [sh('echo before > /kept')]);
    const zeros = '0'.repeat(64);
    const cases: [Flex, RegExp][] = [
      [transfer(`${web.origin}/none`, '/kept'), /none.*404 There is no such thing.*YAVM_E_HTTP/],
      [transfer(`hash:sha3:${zeros}:${web.origin}/large`, '/kept'), /differs from the expected.*_HASH/],
      [transfer('container:/no/such', `${web.origin}/x`), /\/no\/such.*ENOENT|YAVM_E_GUEST_FILE_FAILED/],
      [transfer('container:/tree', `${web.origin}/x`), /directory/],
      [transfer('file:///etc/passwd', '/kept'), /Unsupported scheme: file/],
      [transfer(`${web.origin}/large`, '/in/..%2f..%2fkept'), /YAVM_E_CONTAINER_PATH/],
      [transfer(`gftp://0x${'ab'.repeat(20)}/abc`, '/kept'), /gftp/],
    ];
    for (const [command, pattern] of cases) {
      const [result] = await perform(requestor, [command]);
      t.match(result, { ok: false, message: pattern });
      t.match(result?.message, /^Local service error: Transfer error: /);
    }
    const [kept] = await perform(requestor, [sh('cat /kept; ls -a / | grep -c part || true')]);
    t.equal(kept?.stdout, 'before\n0\n');
    t.notOk(web.uploads.has('/x'), 'nothing was sent for what cannot be read');
  });

  await t.test('a terminate ends a transfer before the VM has ended', async (t) => {
    const batch = await requestor.exec([transfer(`${web.origin}/endless`, 'container:/endless')]);
    await waitUntil(() => web.endless > 0, 60_000);
    const [id] = vms();
    t.equal(findQemu([id as string]).length, 1);
    const [ended] = await perform(requestor, [{ terminate: {} }]);
    t.ok(ended?.ok);
    t.equal(web.left, 1, 'the server was left');
    t.match(await requestor.finished(batch), [{ ok: false }]);
    t.notOk(existsSync(join(activity.workFolder, '.ya-vm', 'staged')));
  });
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
});
