import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseBytes, parseDuration } from '../../host/exe-unit/quantities.ts';
import { MAX_COMMANDS, parseScript } from '../../host/exe-unit/script.ts';
import type { ScriptCommand } from '../../host/exe-unit/types.ts';
import {
  decodeBody,
  decodeFlex,
  encodeFlex,
  type Flex,
  type FlexMap,
  PacketDecoder,
} from '../../host/gsb/index.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { noRecordings, readRecording, recordingNames } from '../lib/gsb-recordings.ts';

/** The command without its source. */
const one = (command: unknown) => {
  const [parsed] = parseScript([command]);
  const { source, ...rest } = parsed as ScriptCommand;
  t.strictSame(source, command);
  return JSON.parse(JSON.stringify(rest));
};
const refused = (command: unknown) => ({ fn: () => parseScript([command]), code: 'YAVM_E_SCRIPT' });

t.test('every command with all that it can have', async (t) => {
  t.strictSame(
    one({
      deploy: {
        net: [{ id: 'n', ip: '10.0.0.0/24', nodeIp: '10.0.0.2', mask: null, nodes: { '10.0.0.2': '0xab' } }],
        hosts: { a: '1.2.3.4' },
        hostname: 'h',
        volumes: {
          '/h': { host: {} },
          '/r': { ram: { size: '10GiB' } },
          '/s': { storage: { size: 123, preallocate: '7000m', errors: 'panic' } },
        },
        env: { K: 'v' },
        progress: { updateInterval: '1s 300ms', updateStep: 5 },
        foo: 1,
      },
    }),
    {
      kind: 'deploy',
      networks: [{ id: 'n', ip: '10.0.0.0/24', nodeIp: '10.0.0.2', nodes: { '10.0.0.2': '0xab' } }],
      hosts: { a: '1.2.3.4' },
      hostname: 'h',
      volumes: {
        '/h': { kind: 'host' },
        '/r': { kind: 'ram', size: 10 * 1024 ** 3 },
        '/s': { kind: 'storage', size: 123, preallocate: 7e9, errors: 'panic' },
      },
      env: { K: 'v' },
      progress: { updateInterval: 1300, updateStep: 5 },
    },
  );
  t.strictSame(one({ deploy: { volumes: ['/a', '/b'] } }).volumes, {
    '/a': { kind: 'host' },
    '/b': { kind: 'host' },
  });
  t.strictSame(one({ deploy: {} }), { kind: 'deploy', networks: [], hosts: {}, volumes: {}, env: {} });
  t.strictSame(one({ deploy: { hostname: null, progress: null, volumes: null } }).volumes, {});
  t.strictSame(one({ start: {} }), { kind: 'start', args: [] });
  t.strictSame(one({ start: { args: ['a'] } }), { kind: 'start', args: ['a'] });
  t.strictSame(one({ sign: {} }), { kind: 'sign' });
  t.strictSame(one({ terminate: {} }), { kind: 'terminate' });
  t.strictSame(one({ transfer: { from: 'a', to: 'b', args: { format: 'tar.gz' } } }), {
    kind: 'transfer',
    from: 'a',
    to: 'b',
  });
  const fileset = [{ includes: ['a*', 'b'], excludes: 'c', desc: 'd' }, '*.o'];
  t.strictSame(one({ transfer: { from: 'a', to: 'b', format: 'zip.0', depth: 0, fileset } }), {
    kind: 'transfer',
    from: 'a',
    to: 'b',
    format: 'zip.0',
    depth: 0,
    fileset,
  });
});

t.test('captures', async (t) => {
  const capture = (mode: unknown) => one({ run: { entry_point: '/x', capture: { stdout: mode } } }).stdout;
  const atEnd = { mode: 'at-end', part: 'all', size: 0, format: 'text' };
  t.strictSame(one({ run: { entry_point: '/x', args: ['a'], env: null } }), {
    kind: 'run',
    entryPoint: '/x',
    args: ['a'],
  });
  t.strictSame(capture({ atEnd: {} }), atEnd);
  t.strictSame(capture({ atEnd: { head: 5, format: 'string' } }), { ...atEnd, part: 'head', size: 5 });
  t.strictSame(capture({ atEnd: { tail: 0 } }), { ...atEnd, part: 'tail' });
  t.strictSame(capture({ atEnd: { headTail: 5, tail: 3 } }), { ...atEnd, part: 'head-tail', size: 5 });
  t.strictSame(capture({ atEnd: { tail: 3, headTail: 5 } }), { ...atEnd, part: 'tail', size: 3 });
  t.strictSame(capture({ atEnd: { part: { head: 5 }, format: 'bin' } }), { ...atEnd, format: 'binary' });
  t.strictSame(capture({ stream: {} }), { mode: 'stream', limit: null, format: 'text' });
  t.strictSame(capture({ stream: { limit: 4, format: 'binary' } }), {
    mode: 'stream',
    limit: 4,
    format: 'binary',
  });
  t.equal(capture(null), undefined);
  t.equal(capture({ stream: { limit: 2n ** 60n } }).limit, Number.MAX_SAFE_INTEGER);
});

t.test('what upstream refuses is refused, and named', async (t) => {
  const bad: unknown[] = [
    'terminate',
    null,
    {},
    { terminate: null },
    { deploy: null },
    { run: { entry_point: '/x' }, start: {} },
    { run: { entryPoint: '/x' } },
    { run: { entry_point: '/x', args: null } },
    { run: { entry_point: 5 } },
    { run: { entry_point: '/x', args: [1] } },
    { run: { entry_point: '/x', capture: { stdout: { atEnd: { head: -1 } } } } },
    { run: { entry_point: '/x', capture: { stdout: { atEnd: { head: 1.5 } } } } },
    { run: { entry_point: '/x', capture: { stdout: { atEnd: { format: 'utf8' } } } } },
    { run: { entry_point: '/x', capture: { stdout: { atEnd: {}, stream: {} } } } },
    { run: { entry_point: '/x', capture: { stdout: { never: {} } } } },
    { run: { entry_point: '/x\0' } },
    { deploy: { net: [{ id: 'i', ip: '1.2.3.0' }] } },
    { deploy: { volumes: { '/s': { storage: {} } } } },
    { deploy: { volumes: { '/s': { storage: { size: '12x' } } } } },
    { deploy: { volumes: { '/s': { disk: { size: 1 } } } } },
    { deploy: { hosts: null } },
    { deploy: { progress: { updateInterval: 'soon' } } },
    { transfer: { from: 'a' } },
    { transfer: { from: 'a', to: 'b', depth: -1 } },
    { transfer: { from: 'a', to: 'b', fileset: [{ includes: 5 }] } },
    { constructor: {} },
    { __proto__: null, toString: {} },
  ];
  for (const command of bad) {
    const { fn, code } = refused(command);
    t.throws(fn, { code, message: /^command 0/ }, JSON.stringify(command));
  }
  for (const script of [null, {}, 'x', 5, undefined])
    t.throws(() => parseScript(script), { code: 'YAVM_E_SCRIPT' });
});

t.test('scripts have a largest size', async (t) => {
  t.equal(parseScript(Array(MAX_COMMANDS).fill({ sign: {} })).length, MAX_COMMANDS);
  t.throws(() => parseScript(Array(MAX_COMMANDS + 1).fill({ sign: {} })), { code: 'YAVM_E_SCRIPT' });
  const long = { run: { entry_point: 'x'.repeat(9 * 1024 * 1024) } };
  t.throws(() => parseScript([long]), { code: 'YAVM_E_SCRIPT', message: /bytes of text/ });
  let deep: unknown = {};
  for (let level = 0; level < 100_000; level++) deep = { x: deep };
  t.throws(() => parseScript([{ sign: { deep } }]), { code: 'YAVM_E_SCRIPT', message: /levels deep/ });
});

t.test('names of objects are only names', async (t) => {
  const script = JSON.parse(
    '[{"deploy":{"env":{"__proto__":"x","constructor":"y"},"volumes":{"__proto__":{"host":{}}}}}]',
  );
  const [command] = parseScript(script);
  t.ok(command?.kind === 'deploy');
  if (command?.kind !== 'deploy') return;
  t.strictSame(Object.keys(command.env), ['__proto__', 'constructor']);
  t.strictSame(Object.keys(command.volumes), ['__proto__']);
  t.equal(({} as Record<string, unknown>).x, undefined);
});

t.test('sizes and durations as the script writes them', async (t) => {
  const sizes: [string, number][] = [
    ['7000m', 7e9],
    ['10GiB', 10 * 1024 ** 3],
    ['8 GB', 8e9],
    ['12.3 GB', 12.3e9],
    ['5', 5],
    ['5b', 5],
    ['1Ki', 1024],
    ['2TB', 2e12],
    ['1PiB', 1024 ** 5],
  ];
  for (const [text, bytes] of sizes) t.equal(parseBytes(text), bytes, text);
  for (const text of ['', 'GB', '1x', '-1', '1e9', '1iB', '0x10', '1 2'])
    t.ok(Number.isNaN(parseBytes(text)), text);
  const durations: [string, number][] = [
    ['300ms', 300],
    ['1s 300ms', 1300],
    ['2min', 120_000],
    ['1h30m', 5_400_000],
    ['500us', 0.5],
    ['1d', 86_400_000],
    ['1M', 30.44 * 86_400_000],
  ];
  for (const [text, milliseconds] of durations) t.equal(parseDuration(text), milliseconds, text);
  for (const text of ['', '5', 'ms', '1x', '1.5s', '-1s']) t.ok(Number.isNaN(parseDuration(text)), text);
});

t.test(
  'the scripts of all recordings are read, and repeated as they came',
  { skip: noRecordings },
  async (t) => {
    let scripts = 0;
    for (const name of recordingNames()) {
      for (const { frame } of readRecording(name)) {
        if (frame === undefined) continue;
        for (const packet of new PacketDecoder().push(frame)) {
          if (packet.kind !== 'callRequest' || !packet.address.endsWith('/Exec')) continue;
          const { exeScript } = decodeBody(packet.data) as { exeScript: Flex };
          const commands = parseScript(exeScript);
          scripts++;
          for (const { source } of commands) {
            t.strictSame(meaning(decodeFlex(encodeFlex(source))), meaning(source));
          }
        }
      }
    }
    t.ok(scripts > 50, `${scripts} scripts`);
  },
);

const VECTORS = join(import.meta.dirname, '../../../shared/spec/exe-unit-vectors.txt');

t.test(
  'the vectors of the spec',
  { skip: existsSync(VECTORS) ? false : '../shared/spec is not here' },
  async (t) => {
    const lines = readFileSync(VECTORS, 'utf8').split('\n');
    let seen = 0;
    for (const line of lines) {
      const match = /^JSON (.*?) => (Ok|Err)\(/.exec(line);
      if (!match) continue;
      seen++;
      const [, json = '', verdict] = match;
      const parse = () => parseScript([JSON.parse(json)]);
      if (verdict === 'Ok') t.doesNotThrow(parse, json);
      else t.throws(parse, { code: 'YAVM_E_SCRIPT' }, json);
    }
    t.ok(seen >= 20, `${seen} lines`);
    const exec = lines.findIndex((line) => line.startsWith('### Exec deploy,start,run'));
    const hex = /hex=(.*)$/.exec(lines[exec + 2] as string)?.[1] ?? '';
    const { exeScript } = decodeFlex(Buffer.from(hex.replaceAll(' ', ''), 'hex')) as FlexMap;
    t.match(parseScript(exeScript), [
      { kind: 'deploy' },
      { kind: 'start', args: [] },
      {
        kind: 'run',
        entryPoint: '/bin/sh',
        args: ['-c', 'ls'],
        stdout: { mode: 'stream', limit: null },
        stderr: { mode: 'at-end', part: 'head', size: 10 },
      },
    ]);
  },
);
