import t from 'tap';
import { CborError, checkCbor } from '../../guest/protocol/cbor.ts';
import {
  decodeGuestMessage,
  decodeMap,
  decodeRequest,
  encodeMessage,
  RequestError,
} from '../../guest/protocol/codec.ts';
import type { Operation, Request } from '../../guest/protocol/messages.ts';
import { notificationExamples, requestExamples } from '../lib/messages.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));

t.test('every request survives encoding and decoding', async (t) => {
  for (const op of Object.keys(requestExamples) as Operation[]) {
    const request = { ...requestExamples[op], id: 7 } as Request;
    t.strictSame(plain(decodeRequest(encodeMessage(request))), plain(request), op);
  }
});

t.test('every notification and both kinds of reply survive', async (t) => {
  for (const notification of Object.values(notificationExamples)) {
    t.strictSame(decodeGuestMessage(encodeMessage(notification)), notification, notification.event);
  }
  const ok = { id: 3, ok: { pid: 5 } };
  t.strictSame(decodeGuestMessage(encodeMessage(ok)), ok);
  const error = {
    id: 3,
    error: { code: 'spawn-failed', message: 'no', errno: 'ENOENT', syscall: 'execve', path: '/x' },
  } as const;
  t.strictSame(decodeGuestMessage(encodeMessage(error)), error);
});

t.test('whole numbers above 32 bits and fractions arrive exactly', async (t) => {
  for (const value of [0, 23, 24, 255, 65536, 2 ** 32, 2 ** 53 - 1, 0.1, -1, -(2 ** 40)]) {
    t.equal(decodeMap(encodeMessage({ id: 1, ok: value })).ok, value, String(value));
  }
  // Another library may send 64-bit integers as such: {"id": 1, "ok": 2^33}.
  t.equal(decodeMap(hex('a2 626964 01 626f6b 1b 00000002 00000000')).ok, 2 ** 33);
});

t.test('decoded byte strings do not alias the frame', async (t) => {
  const bytes = Uint8Array.from(
    encodeMessage({ ...requestExamples.configure, id: 1, entropy: new Uint8Array(32).fill(9) }),
  );
  const request = decodeRequest(bytes);
  bytes.fill(0);
  t.strictSame(request.op === 'configure' && [...request.entropy], Array(32).fill(9));
});

t.test('what is not plain CBOR is refused before the library sees it', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['nothing', '', /cut off/],
    ['a cut head', '19 01', /cut off/],
    ['a cut string', 'a1 626964 63 61', /longer than/],
    ['a string of 2^63 bytes', '7b 7fffffffffffffff', /longer than/],
    ['an array of 2^32 items', '9a ffffffff', /cut off/],
    ['a map of 2^32 entries', 'ba ffffffff', /key/],
    ['a tag: date', 'c1 00', /tagged/],
    ['a tag: record definition', 'd9dfff 83 00 81 6161 01', /tagged/],
    ['a tag: shared value', 'd81c 80', /tagged/],
    ['an indefinite array', '9f ff', /indefinite/],
    ['an indefinite string', '7f 6161 ff', /indefinite/],
    ['a key that is no text', 'a1 01 01', /key/],
    ['an unassigned simple value', 'f0', /simple/],
    ['a reserved length', '1c', /indefinite/],
    ['two values', '00 00', /1 bytes after/],
    ['17 levels', `${'81'.repeat(17)}00`, /deeper/],
    ['65,537 values', `9a 00010000 ${'00'.repeat(65_536)}`, /more than 65536 values/],
    ['8,193 lists', `99 2000 ${'80'.repeat(8192)}`, /more than 8192 lists/],
    ['8,192 byte strings in a list', `99 2000 ${'40'.repeat(8192)}`, /more than 8192 lists/],
  ];
  for (const [name, bytes, message] of cases) {
    t.throws(() => checkCbor(hex(bytes)), { name: 'CborError', message }, name);
  }
  checkCbor(hex(`${'81'.repeat(16)}00`));
  t.throws(() => checkCbor(new Uint8Array(1 << 20).fill(0x81)), CborError, 'a megabyte of nesting');
});

t.test('a hostile key cannot reach the prototype', async (t) => {
  const message = /map key __proto__/;
  t.throws(() => decodeMap(hex('a1 69 5f5f70726f746f5f5f a1 6161 01')), { message });
  t.throws(() => decodeMap(hex('a1 78 09 5f5f70726f746f5f5f a1 6161 01')), { message }, 'with a longer head');
  t.strictSame(
    Object.keys(decodeMap(hex('a1 6a 5f5f70726f746f5f5f5f 01'))),
    ['__proto___'],
    'a longer name is none',
  );
});

t.test('requests that cannot be carried out say why, and whom to answer', async (t) => {
  const refused = (message: object): RequestError => {
    try {
      decodeRequest(encodeMessage(message as Request));
    } catch (error) {
      if (error instanceof RequestError) return error;
      throw error;
    }
    throw new Error('was accepted');
  };
  t.match(refused({ id: 4, op: 'fly' }), { code: 'unknown-request', id: 4, message: /'fly'/ });
  t.match(refused({ id: 4, op: 'constructor' }), { code: 'unknown-request', id: 4 });
  t.match(refused({ id: 4, op: 7 }), { code: 'bad-request', id: 4, message: /^op: / });
  t.match(refused({ id: 4, op: 'run', argv: [], env: [] }), {
    code: 'bad-request',
    id: 4,
    message: /^argv: /,
  });
  const anonymous = refused({ op: 'stats' });
  t.match(anonymous, { code: 'bad-request', message: /^id: / });
  t.equal(anonymous.id, undefined);
  t.throws(() => decodeRequest(hex('80')), { code: 'bad-request', message: /not a map/ });
});

t.test('an event of a newer guest is told apart, not refused', async (t) => {
  t.strictSame(decodeGuestMessage(encodeMessage({ event: 'sunrise' } as never)), { unknown: 'sunrise' });
  t.throws(() => decodeGuestMessage(encodeMessage({ id: 3 } as never)), { name: 'ValidationError' });
});

/** Byte strings as plain lists: a Buffer and a Uint8Array of the same bytes are the same here. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Array.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]));
}
