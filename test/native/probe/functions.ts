/** Calls both ways, exceptions, handle scopes (functions.cc, and the kept function of wrapped.cc). */
import { type Ask, attempt, type Probe, show, stackOf } from './show.ts';

export function* functions(ask: Ask, probe: Probe): Generator<string> {
  const echo = probe.echo as Probe[string];
  const many = Array.from({ length: 40 }, (_, index) => index);
  yield `echo ${attempt(() => echo.call('me', 1, 'two'))} ${attempt(() => echo.call({ me: 1 }, ...many))}`;
  yield `echo's this ${(echo.call(undefined) as unknown[])[0] === globalThis} ${(echo.call(null) as unknown[])[0] === globalThis}`;
  yield `echo new ${attempt(() => (Reflect.construct(echo, [1]) as unknown[]).length)}`;
  yield `ask ${attempt(() => ask('ask'))} ${attempt(() => ask('ask', 1))} ${attempt(() => ask('ask', 1, 2, 3, 4, 5, 6))}`;
  yield `names ${echo.name} ${echo.length} ${typeof echo} ${echo instanceof Function}`;
  yield `invoke ${attempt(() =>
    ask(
      'invoke',
      'this',
      function (this: unknown, ...args: unknown[]) {
        return [String(this), args];
      },
      ...many,
    ),
  )}`;
  yield `invoke failing ${attempt(() =>
    ask('invoke', null, () => {
      throw new RangeError('inside');
    }),
  )}`;
  yield `invoke throwing a number ${attempt(() =>
    ask('invoke', null, () => {
      throw 7;
    }),
  )}`;
  yield `invoke no function ${attempt(() => ask('invoke', null, 5))}`;
  class Pair {
    sum: number;
    constructor(a: number, b: number) {
      if (a < 0) throw new RangeError('negative');
      this.sum = a + b;
    }
  }
  yield `instantiate ${attempt(() => ask('instantiate', Pair, 1, 2))} ${attempt(() => ask('instantiate', Pair, -1, 2))} ${attempt(() => ask('instantiate', 5))}`;
  for (const kind of [0, 1, 2])
    yield `throw ${kind} ${attempt(() => ask('throwKind', kind))} ${stackOf(() => ask('throwKind', kind))}`;
  for (const value of [7, 'text', { a: 1 }, new SyntaxError('own'), undefined])
    yield `throw value ${attempt(() => ask('throwKind', 3, value))}`;
  yield `errors ${attempt(() => ask('errors'))}`;
  yield `scopes ${attempt(() => ask('scopes'))} ${attempt(() => ask('manyHandles'))}`;
  ask('keep', (value: unknown, extra: unknown) => {
    if (value === 'fail') throw new Error('kept failed');
    return [value, extra];
  });
  yield `kept ${attempt(() => ask('callKept', 1))} ${attempt(() => ask('callKept', 'fail'))}`;
  const parts = ask('parts') as { lambda(...args: unknown[]): number };
  yield `parts ${show(parts)} ${parts.lambda(1, 2, 3)}`;
}
