/** Hostile servers and addresses: a download ends with a coded error or the right content, and leaves nothing else. */
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { fetchImage } from '../../host/transfer/image.ts';
import { cacheName, parseLocation } from '../../host/transfer/location.ts';
import { sha3, taskPackage } from '../lib/http-server.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const HEX = sha3(Buffer.from('x'));

t.test('addresses', async (t) => {
  const valid = [
    `hash:sha3:${HEX}:http://user:pw@host:80/a/b/image.gvmi?q#f`,
    `hash://sha3:0x${HEX}:https://[::1]:8443/%2e%2e%2fx.tar.gz`,
    'container:/golem/input/..%2f..',
    `hash:sha3:${HEX}:gftp://0x${'1'.repeat(40)}/abc`,
  ];
  let read = 0;
  let bad = 0;
  for (let round = count(200_000); round > 0; round--) {
    const text = Buffer.from(random.mutate(Buffer.from(random.pick(valid)))).toString(
      random.pick(['utf8', 'latin1']),
    );
    try {
      const { url, digest } = parseLocation(text, random.pick(['file', 'container']));
      read++;
      if (digest && !/^[^./][^/\0]{0,250}$/.test(cacheName(url, digest))) bad++;
    } catch (error) {
      if (!isYavmError(error)) throw error;
    }
  }
  t.ok(read > 0, `${read} could be read`);
  t.equal(bad, 0, 'no name leaves its folder');
});

t.test('answers', async (t) => {
  const content = Buffer.from(random.bytes(5000));
  const head = (...lines: string[]) => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`);
  const answers = [
    Buffer.concat([head('HTTP/1.1 200 OK', 'Content-Length: 5000', 'ETag: "1"'), content]),
    Buffer.concat([
      head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'),
      Buffer.from('1388\r\n'),
      content,
      Buffer.from('\r\n0\r\n\r\n'),
    ]),
    Buffer.concat([head('HTTP/1.0 200 OK', 'Connection: close'), content]),
    Buffer.concat([head('HTTP/1.1 206 Partial Content', 'Content-Range: bytes 0-4999/5000'), content]),
    head('HTTP/1.1 302 Found', 'Location: /next', 'Content-Length: 0'),
    head('HTTP/1.1 100 Continue'),
    head('HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: x'),
    head('HTTP/1.1 404 Not Found', 'Content-Length: 5'),
  ];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      const answer = random.pick(answers);
      const bytes = random.chance(4) ? answer : random.mutate(answer);
      if (random.chance(4)) socket.write(bytes, () => socket.resetAndDestroy());
      else if (random.chance(8)) socket.write(bytes);
      else socket.end(bytes);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const folder = mkdtempSync(join(tmpdir(), 'yavm-fuzz-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/image.gvmi`;
  let right = 0;
  let refused = 0;
  for (let round = count(4000); round > 0; round--) {
    try {
      const path = await fetchImage({
        taskPackage: taskPackage(url, content),
        cacheFolder: folder,
        timeouts: { connect: 2000, headers: 100, stall: 100 },
        sleep: async () => {},
      });
      if (!readFileSync(path).equals(content)) t.fail('wrong content');
      right++;
      rmSync(path);
    } catch (error) {
      if (!isYavmError(error) || !/^YAVM_E_IMAGE_(DOWNLOAD|HASH)$/.test(error.code)) throw error;
      refused++;
    }
    const left = readdirSync(folder, { recursive: true }).filter(
      (name) => !/\.json$|^\.ya-vm$/.test(String(name)),
    );
    if (left.length > 0) t.fail(`left: ${left}`);
  }
  t.ok(right > 0 && refused > 0, `${right} right, ${refused} refused`);
});
