import t from 'tap';
import { at, type Check } from '../../guest/protocol/check.ts';
import { notifications, replies, requests, wireError } from '../../guest/protocol/validate.ts';
import { notificationExamples, replyExamples, requestExamples } from '../lib/messages.ts';

type Table = Record<string, Check<unknown>>;
const tables: [string, Table, Record<string, object>][] = [
  ['requests', requests as Table, requestExamples],
  ['replies', replies as Table, replyExamples],
  ['notifications', notifications as Table, notificationExamples],
];

for (const [name, table, examples] of tables) {
  t.test(`${name}: a full example passes unchanged, without fields that nobody knows`, async (t) => {
    t.strictSame(Object.keys(table).sort(), Object.keys(examples).sort());
    for (const [key, example] of Object.entries(examples)) {
      t.strictSame(table[key]?.(example), example, key);
      t.strictSame(table[key]?.({ ...example, novelty: 1 }), example, `${key} with a new field`);
    }
  });

  t.test(`${name}: a wrong value in any field is refused with the field's path`, async (t) => {
    for (const [key, example] of Object.entries(examples)) {
      for (const [path, broken] of broken1(example)) {
        t.throws(() => table[key]?.(broken), { name: 'ValidationError' }, `${key} ${path}`);
      }
      for (const notMap of [null, undefined, 1, 'text', [example], new Uint8Array(2)]) {
        t.throws(() => table[key]?.(notMap), { name: 'ValidationError', message: /not a map/ }, key);
      }
    }
  });
}

t.test('bounds and forms', async (t) => {
  const run = (change: object) => () => requests.run({ ...requestExamples.run, ...change });
  const configure = (change: object) => () => requests.configure({ ...requestExamples.configure, ...change });
  const cases: [string, () => unknown, RegExp][] = [
    ['no program', run({ argv: [] }), /^argv: 0 items/],
    ['NUL in an argument', run({ argv: ['a', 'b\0c'] }), /^argv\[1\]: holds a NUL/],
    ['NUL in the environment', run({ env: ['A=\0'] }), /^env\[0\]: holds a NUL/],
    ['empty cwd', run({ cwd: '' }), /^cwd: empty/],
    ['long cwd', run({ cwd: 'x'.repeat(4097) }), /^cwd: text of 4097/],
    ['stream 0', run({ stdin: 0 }), /^stdin: 0 is outside/],
    ['fractional stream', run({ stdout: { stream: 1.5 } }), /^stdout\.stream: not a whole/],
    ['stdout merged into itself', run({ stdout: 'stdout' }), /^stdout: not one of discard/],
    ['limit of one value', run({ rlimits: { nofile: [1] } }), /^rlimits\.nofile: 1 items/],
    ['limit name', run({ rlimits: { 'No File': [1, 1] } }), /^rlimits\.name: not a limit name/],
    ['signal 65', () => requests.signal({ op: 'signal', process: 1, signal: 65 }), /^signal: 65/],
    ['process 0', () => requests.signal({ op: 'signal', process: 0, signal: 9 }), /^process: 0/],
    ['short entropy', configure({ entropy: new Uint8Array(31) }), /^entropy: 31 is outside/],
    ['host name with a line break', configure({ hostname: 'a\nb' }), /^hostname: not a host name/],
    ['upper without either', configure({ upper: {} }), /^upper\.serial: not text/],
    ['long serial', configure({ layers: [{ serial: 'x'.repeat(21) }] }), /^layers\[0\]\.serial: text of 21/],
    ['mount of no kind', configure({ mounts: [{ path: '/x' }] }), /^mounts\[0\]\.kind: not one of disk/],
    ['mount kind from the prototype', configure({ mounts: [{ kind: 'toString' }] }), /^mounts\[0\]\.kind/],
    [
      'a name that would add a line to /etc/hosts',
      configure({ network: { hosts: { 'a\n6.6.6.6 golem': '1.1.1.1' } } }),
      /^network\.hosts\.name: not a host name/,
    ],
    ['clock that is no number', configure({ clock: Number.NaN }), /^clock: not a number/],
  ];
  for (const [name, call, message] of cases) t.throws(call, { name: 'ValidationError', message }, name);
  t.doesNotThrow(configure({ upper: { ram: 1 << 20 } }));
  t.doesNotThrow(run({ stderr: 'stdout', stdout: 'discard' }));
  t.doesNotThrow(run({ stderr: { stream: 4 } }));
});

t.test('an exit is by code or by signal, never both or neither', async (t) => {
  const { code: _, ...bare } = notificationExamples.exited;
  t.throws(() => notifications.exited(bare), { message: /exactly one/ });
  t.throws(() => notifications.exited({ ...bare, code: 0, signal: 9 }), { message: /exactly one/ });
  t.equal(notifications.exited({ ...bare, signal: 9 }).signal, 9);
});

t.test('an error code of a newer guest counts as internal', async (t) => {
  t.strictSame(wireError({ code: 'bad-weather', message: 'rain' }), {
    code: 'internal',
    message: 'rain',
  });
  t.throws(() => at('error', wireError, { code: 'internal', message: 'm', errno: 'not\nan errno' }), {
    message: /^error\.errno/,
  });
});

/** Copies of `example` with one leaf each replaced by a value that no field takes. */
function* broken1(example: object): Generator<[string, object]> {
  for (const [path, set] of leaves(example, '')) {
    const copy = structuredClone(example);
    set(copy);
    yield [path, copy];
  }
}

type Place = [string, (copy: object) => void];

function* leaves(
  value: object,
  path: string,
  reach: (copy: object) => object = (copy) => copy,
): Generator<Place> {
  for (const [key, field] of Object.entries(value)) {
    const here = `${path}.${key}`;
    if (typeof field === 'object' && !ArrayBuffer.isView(field)) {
      yield* leaves(field, here, (copy) => (reach(copy) as Record<string, object>)[key] as object);
    }
    yield [
      here,
      (copy) => {
        // A function cannot come from CBOR: no validator may let it pass by forgetting to look.
        (reach(copy) as Record<string, unknown>)[key] = () => {};
      },
    ];
  }
}
