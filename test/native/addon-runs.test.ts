/** Datagrams of one size that travel as one: they must arrive as they would one by one. */
import t from 'tap';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const native = loadNative();
const BUFFER = 4 << 20;
const STRIDE = 65_536;

/** Sends datagrams of these lengths in one call; each is filled with its number. @returns what came, in order */
function exchange(kind: Parameters<HostNative['cable']>[0], lengths: number[]): Uint8Array[] {
  const [near, far] = native.cable(kind, BUFFER);
  const offsets: number[] = [];
  let size = 0;
  for (const length of lengths) {
    offsets.push(size);
    size += length;
  }
  const bytes = new Uint8Array(size);
  for (const [index, offset] of offsets.entries())
    bytes.fill(index + 1, offset, offset + (lengths[index] as number));
  const into = new Uint8Array(8 * STRIDE);
  const sizes = new Uint32Array(8);
  const came: Uint8Array[] = [];
  try {
    for (let at = 0; at < lengths.length; ) {
      at += native.sendDatagrams(
        near,
        bytes,
        Uint32Array.from(offsets),
        Uint32Array.from(lengths),
        at,
        lengths.length,
      );
      for (;;) {
        const number = native.receiveDatagrams(far, into, STRIDE, sizes);
        for (let index = 0; index < number; index++) {
          came.push(
            Uint8Array.from(into.subarray(index * STRIDE, index * STRIDE + (sizes[index] as number))),
          );
        }
        if (number === 0) break;
      }
    }
    return came;
  } finally {
    native.close(near);
    native.close(far);
  }
}

const of = (length: number, times: number) => new Array<number>(times).fill(length);
const CASES: [string, number[]][] = [
  ['one', [1234]],
  ['two of a size', [60, 60]],
  ['a shorter one at the end', [1234, 1234, 60]],
  ['a shorter one between', [1234, 1234, 60, 1234, 1234]],
  ['a longer one behind', [60, 60, 1234]],
  ['growing', [60, 61, 62, 63]],
  ['shrinking', [63, 62, 61, 60]],
  ['64', of(60, 64)],
  ['65', of(60, 65)],
  ['more than a call of the kernel takes', of(60, 300)],
  ['more bytes than a datagram has', of(1234, 120)],
  ['as large as they get', of(65_507, 3)],
  ['half as large', of(32_500, 5)],
  ['bytes', of(1, 70)],
];

for (const kind of ['udp', 'unix-datagram'] as const) {
  t.test(`${kind}: datagrams arrive one by one, whatever their lengths`, (t) => {
    const random = new Random();
    const choices = [14, 60, 60, 60, 1234, 1234, 1234, 1234];
    const mixed = Array.from({ length: count(400) }, (): [string, number[]] => [
      `seed ${random.seed}`,
      Array.from({ length: random.between(1, 150) }, () => random.pick(choices)),
    ]);
    for (const [what, lengths] of [...CASES, ...mixed]) {
      const came = exchange(kind, lengths);
      const right = came.every(
        (bytes, index) =>
          bytes.length === lengths[index] && bytes.every((byte) => byte === ((index + 1) & 255)),
      );
      if (!t.ok(right && came.length === lengths.length, `${what}: ${came.length} of ${lengths.length}`))
        break;
    }
    t.end();
  });
}

t.test('one that is too long is left out, with those of its size around it', (t) => {
  const lengths = [1234, 1234, 65_508, 65_508, 1234, 1234];
  t.strictSame(
    exchange('udp', lengths).map((bytes) => bytes[0]),
    [1, 2, 5, 6],
  );
  t.end();
});

t.test('empty datagrams go by themselves', (t) => {
  t.strictSame(
    exchange('udp', [60, 60, 0, 60, 60]).map(({ length }) => length),
    [60, 60, 0, 60, 60],
  );
  t.end();
});

t.test('a peer that is gone costs one, not a run', (t) => {
  const [near, far] = native.cable('udp', BUFFER);
  native.close(far);
  const lengths = Uint32Array.from(of(60, 10));
  const offsets = Uint32Array.from(of(0, 10));
  const send = () => native.sendDatagrams(near, new Uint8Array(60), offsets, lengths, 0, 10);
  t.equal(send(), 10);
  lengths.fill(60);
  t.equal(send(), 10, 'the refusal of those before is told once');
  t.equal([...lengths].filter((length) => length === 0).length, 1);
  native.close(near);
  t.end();
});
