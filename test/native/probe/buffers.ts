/** Buffers and the views of them (buffers.cc). */
import { type Ask, attempt } from './show.ts';

export function* buffers(ask: Ask): Generator<string> {
  for (const size of [0, 1, 5]) yield `makeBuffers ${size} ${attempt(() => ask('makeBuffers', size))}`;
  yield `large ${(ask('makeBuffers', 300_000) as { length: number }[])[0]?.length}`;
  yield `external ${attempt(() => (ask('externalBuffer') as Uint8Array).subarray(2, 5))}`;
  const buffer = Uint8Array.from({ length: 32 }, (_, index) => index).buffer;
  for (let type = 0; type <= 10; type++) {
    for (const [length, offset] of [
      [1, 8],
      [0, 0],
      [4, 0],
      [1, 3],
      [100, 0],
      [1, 32],
      [0, 32],
    ]) {
      yield `makeTyped ${type} ${length} ${offset} ${attempt(() => ask('makeTyped', type, length, buffer, offset))}`;
    }
  }
  yield `makeTyped of nothing ${attempt(() => ask('makeTyped', 1, 1, {}, 0))}`;
  const typed = [
    new Int8Array(buffer, 3, 2),
    new Uint8ClampedArray(buffer, 4, 3),
    new Int16Array(buffer, 2, 2),
    new Uint16Array(buffer, 4),
    new Int32Array(buffer, 4, 1),
    new Uint32Array(buffer),
    new Float32Array(buffer, 8),
    new Float64Array(buffer, 16, 1),
    new BigInt64Array(buffer, 8, 1),
    new BigUint64Array(buffer, 24),
    new Uint8Array(buffer, 31),
    new Uint8Array(0),
  ];
  for (const array of typed)
    yield `typedInfo ${attempt(() => ask('typedInfo', array))} ${attempt(() => ask('bufferInfo', array))}`;
  for (const value of [{}, buffer, new DataView(buffer, 2)])
    yield `typedInfo ${attempt(() => ask('typedInfo', value))} ${attempt(() => ask('bufferInfo', value))}`;
  for (const [length, offset] of [
    [4, 2],
    [0, 32],
    [32, 0],
    [33, 0],
    [1, 32],
  ])
    yield `views ${attempt(() => ask('views', length, buffer, offset))}`;
  const gone = new Uint8Array(8);
  yield `detach ${attempt(() => ask('detach', gone.buffer))} ${gone.length} ${attempt(() => ask('typedInfo', gone))}`;
}
