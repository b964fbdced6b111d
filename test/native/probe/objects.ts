/** Objects, arrays, properties, classes (objects.cc, and the ObjectWrap of wrapped.cc). */
import { type Ask, attempt, type Probe, show } from './show.ts';

export function* objects(ask: Ask, probe: Probe): Generator<string> {
  const symbol = Symbol('key');
  const inherited = Object.create({ above: 1, [symbol]: 2 });
  const frozen = Object.freeze({ fixed: 1 });
  const getter = {
    get bad(): number {
      throw new Error('getter');
    },
  };
  for (const [object, key] of [
    [{ a: 1 }, 'a'],
    [{ a: 1 }, 'b'],
    [inherited, 'above'],
    [inherited, symbol],
    [frozen, 'fixed'],
    [getter, 'bad'],
    [[1, 2], 1],
    [[1, 2], '1'],
    [new Uint8Array(2), 5],
    [{ 7: 'seven' }, 7],
    ['text', 'length'],
    [null, 'x'],
  ] as [unknown, unknown][]) {
    yield `properties ${attempt(() => ask('properties', object, key))}`;
  }
  for (const array of [[1, 2, 3], [], { length: 1 }, 'abc'])
    yield `elements ${attempt(() => ask('elements', array))} ${show(array)}`;
  const parent = { shared: 1, up: 2, 10: 'ten' };
  Object.defineProperty(parent, 'hidden', { value: 1, enumerable: false });
  const child = Object.assign(Object.create(parent), { own: 1, shared: 2, 3: 'three', [symbol]: 1 });
  Object.defineProperty(child, 'up', { value: 1, enumerable: false });
  Object.defineProperty(child, 'locked', {
    value: 1,
    enumerable: true,
    writable: false,
    configurable: false,
  });
  for (const mode of [0, 1]) {
    for (const filter of [0, 1, 2, 4, 8, 16, 2 | 16, 1 | 2 | 4]) {
      // All properties of the chain would include Object.prototype's, in which engines differ.
      if (mode === 0 && (filter & 2) === 0) continue;
      for (const conversion of [0, 1])
        yield `names ${mode} ${filter} ${conversion} ${attempt(() => ask('names', child, mode, filter, conversion))}`;
    }
  }
  const defined: Record<string, unknown> = {};
  yield `define ${attempt(() => ask('define', defined))} ${attempt(() => (defined.method as () => unknown)())}`;
  defined.accessor = 12;
  yield `accessor ${show(defined.accessor)} ${show(Object.entries(Object.getOwnPropertyDescriptors(defined)).map(([k, d]) => [k, Object.keys(d), d.enumerable, d.configurable, d.writable]))}`;
  const refusals = ['constant', 'readOnly'].map((key) => {
    return attempt(() => {
      defined[key] = 1;
    }).split(':')[0];
  });
  yield `read-only ${refusals}`;
  yield `define on frozen ${attempt(() => ask('define', Object.freeze({})))}`;
  yield* classes(ask, probe);
  for (const [left, right] of [
    [1, 1],
    [Number.NaN, Number.NaN],
    ['a', 'a'],
    [{}, Object],
    [[], Array],
    [{}, {}],
    [/x/, RegExp],
    [1n, 1n],
  ]) {
    yield `compare ${show(left)} ${attempt(() => ask('compare', left, right))}`;
  }
  const [cold, sealed] = [{ a: 1 }, { a: 1 }];
  yield `freeze ${attempt(() => ask('freeze', cold, sealed))} ${Object.isFrozen(cold)} ${Object.isFrozen(sealed)} ${Object.isSealed(sealed)}`;
}

function* classes(ask: Ask, probe: Probe): Generator<string> {
  const Made = ask('makeClass') as new (value?: unknown) => { value: unknown; method(): string };
  const one = new Made('given');
  yield `class ${show(one)} ${one.method()} ${show(one.value)} ${(Made as unknown as { make(): string }).make()} ${Made.name}`;
  one.value = 'changed';
  yield `class ${show(one.value)} ${one instanceof Made} ${show(Object.keys(one))} ${show(Object.getOwnPropertyNames(Made.prototype))}`;
  yield `class without new ${attempt(() => (Made as unknown as () => unknown)())}`;
  class Derived extends Made {
    extra = 1;
  }
  const derived = new Derived('base');
  yield `derived ${show(derived)} ${derived.method()} ${show(derived.value)} ${derived instanceof Derived} ${derived instanceof Made}`;
  interface Counting {
    total: number;
    add(n: number): Counting;
  }
  const Counter = probe.Counter as unknown as { new (n?: unknown): Counting; zero(): number };
  yield `wrap class ${new Counter(5).add(6).add(7).total} ${new Counter().total} ${Counter.zero()}`;
  yield `wrap class refused ${attempt(() => new Counter('x'))}`;
  yield `wrap class wrong this ${attempt(() => Object.getOwnPropertyDescriptor(Counter.prototype, 'total')?.get?.call({}))}`;
}
