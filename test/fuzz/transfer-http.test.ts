/** Anything as a server's answer: bytes that were announced, or the named error, on one line and without secrets. */
import type { Socket } from 'node:net';
import t from 'tap';
import { httpSource } from '../../host/transfer/http-source.ts';
import { httpDestination } from '../../host/transfer/http-upload.ts';
import { startRawServer } from '../lib/http-server.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const ROUNDS = Number(process.env.YAVM_FUZZ_ROUNDS) || count(10_000);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED), ${ROUNDS} rounds (YAVM_FUZZ_ROUNDS)`);

const STATUSES = [
  '200 OK',
  '206 Partial Content',
  '302 Found',
  '307 Moved',
  '404 Not Found',
  '503 Busy',
  '100 Continue',
  '101 X',
  '999 ?',
];
const HEADERS = [
  'content-length: 5',
  'content-length: 500',
  'transfer-encoding: chunked',
  'transfer-encoding: gzip, chunked',
  'content-encoding: gzip',
  'content-type: text/plain',
  'content-type: text/html',
  'etag: "x"',
  'content-range: bytes 5-9/10',
  'location: /elsewhere',
  'location: http://169.254.169.254/',
  'location: //[::ffff:0:0]/',
  'location: file:///etc/passwd',
  'connection: upgrade\r\nupgrade: x',
  'connection: keep-alive',
  'set-cookie: \u001b[2J',
];
const BODIES = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  '5\r\nhel',
  'ffffffff\r\n',
  '<html>\u001b]0;x\u0007 hunter22',
  'hello HTTP/1.1 200 OK\r\n\r\n',
];

function answer(): Buffer {
  const heads = Array.from({ length: random.between(0, 5) }, () => random.pick(HEADERS));
  const text = [
    `HTTP/1.${random.between(0, 2)} ${random.pick(STATUSES)}`,
    ...heads,
    '',
    random.pick(BODIES),
  ].join('\r\n');
  const bytes = Buffer.from(random.between(0, 4) === 0 ? text + text : text);
  for (let changes = random.between(0, 4); changes > 1; changes--) {
    bytes[random.between(0, bytes.length)] = random.between(0, 256);
  }
  return bytes.subarray(0, random.between(0, 8) === 0 ? random.between(0, bytes.length) : bytes.length);
}

const signal = new AbortController().signal;
const timeouts = { connect: 1000, headers: 1000, stall: 1000 };

async function* hello() {
  yield Buffer.from('hello');
}

t.test('downloads and uploads', async (t) => {
  const origin = await startRawServer(t, (socket: Socket) => {
    socket.once('data', () => socket.end(answer()));
  });
  const url = new URL(`${origin.replace('//', '//user22:hunter22@')}/x?hunter22`);
  const options = { env: {}, timeouts, sleep: async () => {} };
  const outcomes = { whole: 0, refused: 0 };
  const wrong: unknown[] = [];
  const judge = (error: unknown) => {
    const { code, message = '' } = error as { code?: string; message?: string };
    const named = code === 'YAVM_E_HTTP' || code === 'YAVM_E_URL_REFUSED';
    if (!named || /hunter22|user22|\p{C}/u.test(message)) wrong.push(error);
    outcomes.refused++;
  };
  for (let round = 0; round < ROUNDS && wrong.length === 0; round++) {
    try {
      const { size, bytes } = await httpSource(url, options).open({ signal });
      let got = 0;
      for await (const piece of bytes) got += piece.byteLength;
      if (size !== null && got !== size) wrong.push({ size, got });
      outcomes.whole++;
    } catch (error) {
      judge(error);
    }
    const size = random.pick([5, null]);
    await httpDestination(url, options)
      .write({ size, bytes: hello() }, { signal })
      .then(() => outcomes.whole++, judge);
  }
  t.same(wrong, []);
  t.ok(outcomes.whole > 0 && outcomes.refused > 0, JSON.stringify(outcomes));
});
