/** Any JSON or FlexBuffers as agreement, manifest or script: the named error, or a value that holds what it promises. */
import t from 'tap';
import { parseAgreement } from '../../host/exe-unit/agreement.ts';
import { parseManifest, scriptRules, selectPayload } from '../../host/exe-unit/manifest.ts';
import { parseBytes, parseDuration } from '../../host/exe-unit/quantities.ts';
import { translateRegex } from '../../host/exe-unit/rust-regex.ts';
import { parseScript, scriptSize } from '../../host/exe-unit/script.ts';
import { decodeFlex, encodeFlex, type Flex } from '../../host/gsb/index.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const ROUNDS = Number(process.env.YAVM_FUZZ_ROUNDS) || count(100_000);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED), ${ROUNDS} rounds (YAVM_FUZZ_ROUNDS)`);

const KEYS = [
  ...[
    'deploy',
    'start',
    'run',
    'transfer',
    'sign',
    'terminate',
    'net',
    'hosts',
    'volumes',
    'env',
    'progress',
  ],
  ...[
    'id',
    'ip',
    'nodeIp',
    'nodes',
    'host',
    'ram',
    'storage',
    'size',
    'args',
    'entry_point',
    'capture',
    'stdout',
  ],
  ...[
    'atEnd',
    'stream',
    'head',
    'tail',
    'headTail',
    'limit',
    'format',
    'from',
    'to',
    'fileset',
    'updateInterval',
  ],
  ...[
    'agreementId',
    'offer',
    'properties',
    'golem',
    'com',
    'usage',
    'vector',
    'inf',
    'mem',
    'gib',
    '@tag',
    'demand',
  ],
  ...[
    'golem.com.usage.vector',
    'golem.inf',
    'golem.inf.mem.gib',
    'payload',
    'version',
    'script',
    'commands',
    'a.b',
  ],
  ...['__proto__', 'constructor', 'toString', '', '.', '..', 'length'],
];
const TEXTS = [
  '',
  'x',
  '10GiB',
  '300ms',
  'str',
  'bin',
  'strict',
  'run x',
  '\0',
  '\ufeff',
  '\ud800',
  'é'.repeat(300),
];

/** A value that looks now and then like what is expected. */
function value(depth: number): unknown {
  const kind = random.between(0, depth > 0 ? 10 : 7);
  if (kind === 0) return null;
  if (kind === 1) return random.chance(2);
  if (kind === 2) return random.pick([0, 1, -1, 1.5, 1e300, 2 ** 53, Number.MAX_SAFE_INTEGER]);
  if (kind < 7) return random.chance(3) ? random.pick(KEYS) : random.pick(TEXTS);
  if (kind === 7) return Array.from({ length: random.between(0, 4) }, () => value(depth - 1));
  return Object.fromEntries(
    Array.from({ length: random.between(0, 4) }, () => [random.pick(KEYS), value(depth - 1)]),
  );
}

/** A copy in which a few parts are others. */
function mutate(item: unknown, depth: number = 0): unknown {
  if (random.chance(12)) return value(3);
  if (Array.isArray(item)) {
    const items = item.map((inner) => mutate(inner, depth + 1));
    return random.chance(10) ? [...items, value(2)] : items;
  }
  if (typeof item !== 'object' || item === null) return item;
  const entries = Object.entries(item).map(([key, inner]) => [
    random.chance(20) ? random.pick(KEYS) : key,
    mutate(inner, depth + 1),
  ]);
  return Object.fromEntries(random.chance(10) ? [...entries, [random.pick(KEYS), value(2)]] : entries);
}

/** Whether `call` gave a value; false for the error with `code`; anything else fails the test. */
function outcome<T>(code: string, call: () => T): { value: T } | null {
  try {
    return { value: call() };
  } catch (error) {
    if (isYavmError(error) && error.code === code) return null;
    throw error;
  }
}

const SCRIPT = [
  {
    deploy: {
      net: [{ id: 'n', ip: '10.0.0.0/24', nodeIp: '10.0.0.2', nodes: { '10.0.0.2': '0xab' } }],
      hosts: { a: '1.2.3.4' },
      volumes: { '/s': { storage: { size: '10GiB' } }, '/r': { ram: { size: 5 } }, '/h': { host: {} } },
      env: { K: 'v' },
      progress: { updateInterval: '300ms', updateStep: 5 },
    },
  },
  { start: { args: ['a'] } },
  {
    run: {
      entry_point: '/x',
      args: ['b'],
      capture: { stdout: { atEnd: { head: 5 } }, stderr: { stream: {} } },
    },
  },
  { transfer: { from: 'a', to: 'b', fileset: [{ includes: ['a'] }, 'b'], depth: 3 } },
  { sign: {} },
  { terminate: {} },
];
const AGREEMENT = {
  agreementId: 'a',
  demand: {
    requestorId: '0x',
    properties: { 'golem.srv.comp.payload': 'x', 'golem.srv.comp.payload.sig': 'y' },
  },
  offer: { properties: { golem: { com: { 'usage.vector': ['a', 'b'] }, inf: { mem: { gib: 1 } } } } },
};
const MANIFEST = {
  version: '0.1.0',
  createdAt: '2022-07-26T12:51:00.000000Z',
  expiresAt: '2100-01-01T00:01:00.000000Z',
  payload: [{ platform: { arch: 'x86_64', os: 'linux' }, urls: ['u'], hash: 'sha3:00' }],
  compManifest: {
    version: '0.1.0',
    script: { commands: ['run a.*', '{"transfer":{"from":"a","to":"b"}}'], match: 'regex' },
    net: { inet: { out: { protocols: ['http'], urls: ['http://a'] } } },
  },
};

t.test('scripts, as JSON and as FlexBuffers', async (t) => {
  let good = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const json = random.chance(4) ? value(5) : mutate(SCRIPT);
    const parsed = outcome('YAVM_E_SCRIPT', () => parseScript(json));
    if (parsed === null) continue;
    good++;
    for (const command of parsed.value) {
      if (command.kind === 'run' && typeof command.entryPoint !== 'string') t.fail('entryPoint');
      if (command.kind === 'deploy' && !Object.values(command.volumes).every(({ kind }) => kind))
        t.fail('volumes');
    }
    if (scriptSize(parsed.value) < 0) t.fail('size');
    if (round % 10 > 0) continue;
    // The other form of the same script is read the same way.
    const again = parseScript(decodeFlex(encodeFlex(parsed.value.map(({ source }) => source) as Flex)));
    if (
      JSON.stringify(again.map(({ kind }) => kind)) !== JSON.stringify(parsed.value.map(({ kind }) => kind))
    ) {
      t.fail('FlexBuffers');
    }
  }
  t.ok(good > ROUNDS / 1000 && good < ROUNDS, `${good} of ${ROUNDS} were scripts`);
});

t.test('scripts in broken FlexBuffers', async (t) => {
  const bytes = encodeFlex(SCRIPT);
  let read = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const decoded = outcome('YAVM_E_GSB_BODY', () => decodeFlex(random.mutate(bytes, 3)));
    if (decoded === null) continue;
    read++;
    outcome('YAVM_E_SCRIPT', () => parseScript(decoded.value));
  }
  t.ok(read > 0, `${read} could be decoded`);
});

t.test('agreements', async (t) => {
  let good = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const json = random.chance(4) ? value(8) : mutate(AGREEMENT);
    const parsed = outcome('YAVM_E_AGREEMENT', () => parseAgreement(json));
    if (parsed === null) continue;
    good++;
    const { id, usageVector, limits, capabilities } = parsed.value;
    const texts = [id, ...usageVector, ...capabilities];
    if (!texts.every((text) => typeof text === 'string')) t.fail('texts');
    if (!Object.values(limits).every(Number.isFinite)) t.fail('limits');
  }
  t.ok(good > ROUNDS / 1000 && good < ROUNDS, `${good} of ${ROUNDS} were agreements`);
  t.equal(({} as Record<string, unknown>).gib, undefined);
});

t.test('manifests', async (t) => {
  let good = 0;
  for (let round = 0; round < ROUNDS / 2; round++) {
    const text = JSON.stringify(random.chance(4) ? value(6) : mutate(MANIFEST)) ?? '';
    const payload = random.chance(3) ? text : Buffer.from(text).toString('base64');
    const broken = random.chance(10) ? Buffer.from(random.mutate(Buffer.from(payload))).toString() : payload;
    const parsed = outcome('YAVM_E_MANIFEST', () => parseManifest(broken));
    if (parsed === null) continue;
    good++;
    selectPayload(parsed.value, 'x86_64');
    outcome('YAVM_E_MANIFEST', () => scriptRules(parsed.value));
  }
  t.ok(good > 0, `${good} were manifests`);
});

t.test('expressions, sizes and durations of any characters', async (t) => {
  const pieces = [
    ...'()[]{}|*+?.\\^$-&~:=!<>,azAZ09 _/',
    '(?i)',
    '(?P<n>',
    '[[:alpha:]]',
    '\\p{L}',
    '\\d',
    '\u{1f600}',
  ];
  const text = () => Array.from({ length: random.between(0, 12) }, () => random.pick(pieces)).join('');
  let good = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const pattern = text();
    parseBytes(pattern);
    parseDuration(pattern);
    try {
      new RegExp(translateRegex(pattern), 'u');
      good++;
    } catch (error) {
      if (!(error instanceof Error)) t.fail(pattern);
    }
  }
  t.ok(good > 0, `${good} were expressions`);
});
