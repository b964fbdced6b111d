import t from 'tap';
import {
  checkScript,
  type Manifest,
  parseManifest,
  scriptRules,
  selectPayload,
} from '../../host/exe-unit/manifest.ts';
import { readPolicy } from '../../host/exe-unit/policy.ts';
import { translateRegex } from '../../host/exe-unit/rust-regex.ts';
import { parseScript } from '../../host/exe-unit/script.ts';
import { run } from '../lib/activity.ts';
import { tookAtMost } from '../lib/in-time.ts';

const HASH = 'sha3:05270a8a938ff5f5e30b0e61bc983a8c3e286c5cd414a32e1a077657';
const PAYLOAD = [
  { platform: { arch: 'aarch64', os: 'linux' }, urls: ['http://x/arm.gvmi'], hash: HASH },
  { platform: { arch: 'x86_64', os: 'linux', osVersion: '6' }, urls: [], hash: HASH },
  { platform: { arch: 'x86_64', os: 'linux' }, urls: ['http://x/a.gvmi', 'http://y/a.gvmi'], hash: HASH },
  { urls: ['http://x/any.gvmi'], hash: HASH },
];
const BASE = {
  version: '0.1.0',
  createdAt: '2022-07-26T12:51:00.000000Z',
  expiresAt: '2100-01-01T00:01:00.000000Z',
  payload: PAYLOAD,
};

const encode = (json: unknown) => Buffer.from(JSON.stringify(json)).toString('base64');
const withScript = (commands: string[], match?: string): Manifest =>
  parseManifest(encode({ ...BASE, compManifest: { version: '0.1.0', script: { commands, match } } }));
const command = (words: string[]) => parseScript([run(words[0] as string, words.slice(1), null)]);

t.test('a payload in base64 or with escapes', async (t) => {
  const whole = {
    ...BASE,
    metadata: { name: 'n', description: 'd', version: '1.0.0', authors: ['a'], homepage: 'h' },
    compManifest: {
      version: '0.1.0',
      script: { commands: ['run x'], match: 'regex' },
      net: { inet: { out: { protocols: ['https'], urls: ['https://a/'] } } },
    },
  };
  const manifest = parseManifest(encode(whole));
  t.match(manifest, {
    version: '0.1.0',
    metadata: whole.metadata,
    payload: PAYLOAD,
    script: whole.compManifest.script,
    inet: { outbound: { unrestricted: false, protocols: ['https'], urls: ['https://a/'] } },
  });
  const spaced = (encode(whole).match(/.{1,40}/g) as string[]).join('\n ');
  t.strictSame(parseManifest(spaced), manifest);
  const quoted = JSON.stringify(JSON.stringify(whole));
  t.strictSame(parseManifest(quoted), manifest);
  t.strictSame(parseManifest(quoted.slice(1, -1)), manifest);
  t.strictSame(parseManifest(JSON.stringify(whole)), manifest);
});

t.test('what a manifest says about outbound connections', async (t) => {
  const inet = (net: unknown) =>
    parseManifest(encode({ ...BASE, compManifest: { version: '0.1.0', net } })).inet;
  t.equal(inet(undefined), undefined);
  t.equal(inet({}), undefined);
  t.strictSame(inet({ inet: {} }), { outbound: undefined }, 'wanted, without rules');
  t.strictSame(inet({ inet: { out: { protocols: ['http'], unrestricted: { urls: true } } } }), {
    outbound: { unrestricted: true, protocols: ['http'] },
  });
  t.strictSame(inet({ inet: { out: {} } }), {
    outbound: { unrestricted: false, protocols: [], urls: [] },
  });
});

t.test('which image is taken', async (t) => {
  const manifest = parseManifest(encode(BASE));
  t.equal(selectPayload(manifest, 'x86_64'), `hash:${HASH}:http://x/a.gvmi`);
  t.equal(selectPayload(manifest, 'aarch64'), `hash:${HASH}:http://x/arm.gvmi`);
  t.equal(selectPayload(manifest, 'riscv64'), `hash:${HASH}:http://x/any.gvmi`);
  t.equal(selectPayload(parseManifest(encode({ ...BASE, payload: [] })), 'x86_64'), undefined);
});

t.test('what is no manifest has a code', async (t) => {
  const bad: unknown[] = [
    null,
    5,
    [],
    {},
    { ...BASE, version: '1' },
    { ...BASE, createdAt: 'yesterday' },
    { ...BASE, expiresAt: undefined },
    { ...BASE, payload: undefined },
    { ...BASE, payload: [{ hash: HASH }] },
    { ...BASE, payload: [{ urls: ['u'] }] },
    { ...BASE, metadata: {} },
    { ...BASE, compManifest: {} },
    { ...BASE, compManifest: { version: '0.1.0', script: { commands: 'x' } } },
    { ...BASE, compManifest: { version: '0.1.0', script: { commands: [], match: 'glob' } } },
  ];
  for (const json of bad) {
    t.throws(() => parseManifest(encode(json)), { code: 'YAVM_E_MANIFEST' }, JSON.stringify(json));
  }
  for (const text of ['', '!!', 'AAAA', '"', '{', 'x'.repeat(9e6)]) {
    t.throws(() => parseManifest(text), { code: 'YAVM_E_MANIFEST' }, text.slice(0, 10));
  }
});

t.test('rules that must be equal, and rules that must be found', async (t) => {
  const strict = scriptRules(withScript(['run /bin/echo ok', 'transfer a b']));
  t.ok(strict);
  if (!strict) return;
  checkScript(
    strict,
    parseScript([{ deploy: {} }, { start: {} }, run('/bin/echo', ['ok']), { terminate: {} }]),
  );
  checkScript(strict, parseScript([{ transfer: { from: 'a', to: 'b' } }]));
  const violation = (text: string) => ({
    kind: 'badRequest',
    message: `Manifest violation in ExeScript: script validation error: no matching manifest entry found for '${text}'`,
  });
  t.throws(() => checkScript(strict, command(['/bin/rm', '-rf'])), violation('run /bin/rm -rf'));
  t.throws(
    () => checkScript(strict, parseScript([{ transfer: { from: 'a', to: 'c' } }])),
    violation('transfer a c'),
  );
  const regex = scriptRules(withScript(['run .*echo \\d+$', 'transfer .* container:/in'], 'regex'));
  t.ok(regex);
  if (!regex) return;
  checkScript(regex, command(['/bin/echo', '42']));
  t.throws(() => checkScript(regex, command(['/bin/echo', 'x'])), violation('run /bin/echo x'));
  t.equal(scriptRules(parseManifest(encode(BASE))), null, 'no script part: no rule');
  const none = scriptRules(withScript([]));
  t.ok(none);
  if (none)
    t.throws(() => checkScript(none, command(['x'])), violation('run x'), 'an empty list allows nothing');
});

t.test('rules as JSON in a text, each with its own way to match', async (t) => {
  const rules = scriptRules(
    withScript([
      JSON.stringify({ transfer: { from: 'http.*', to: 'container:/in', match: 'regex' } }),
      JSON.stringify({ run: { args: '/bin/date -R' } }),
      JSON.stringify({ run: { args: ['ls', '-l'] } }),
      'deploy',
      '5',
    ]),
  );
  t.ok(rules);
  if (!rules) return;
  checkScript(rules, parseScript([{ transfer: { from: 'https://x/y', to: 'container:/in' } }]));
  checkScript(rules, command(['/bin/date', '-R']));
  t.throws(
    () => checkScript(rules, command(['ls', '-l'])),
    { message: /no matching/ },
    'words keep their quotes',
  );
  checkScript(rules, command(['"ls"', '"-l"']));
});

t.test('expressions that take for ever are stopped', async (t) => {
  const rules = scriptRules(withScript(['run ^(a+)+$', 'run (a|a)*b'], 'regex'));
  t.ok(rules);
  if (!rules) return;
  const before = Date.now();
  t.throws(() => checkScript(rules, command(['x', 'run ', `${'a'.repeat(50)}!`])), {
    message: /Manifest violation/,
  });
  const slow = scriptRules(withScript(['run /x (a+)+$'], 'regex'));
  if (!slow) return;
  t.throws(() => checkScript(slow, command(['/x', `${'a'.repeat(50)}!`])), {
    kind: 'badRequest',
    message: /take too long.*YAVM_E_MANIFEST/,
  });
  tookAtMost(t, 'both are given up', Date.now() - before, 3000);
});

t.test("Rust's expressions in JavaScript's notation", async (t) => {
  const found = (pattern: string, text: string) => new RegExp(translateRegex(pattern), 'u').test(text);
  const table: [string, string, boolean][] = [
    ['^run /bin/(sh|ls)\\b', 'run /bin/ls -l', true],
    ['(?i)RUN', 'run', true],
    ['a(?i:B)c', 'abc', true],
    ['\\Arun\\z', 'run', true],
    ['\\Arun\\z', 'run ', false],
    ['a.c', 'a\nc', false],
    ['(?s)a.c', 'a\nc', true],
    ['a.c', 'a\u2028c', true],
    ['[[:digit:]]+', 'x5', true],
    ['[^[:space:]]', ' ', false],
    ['[]a]', ']', true],
    ['[a-]', '-', true],
    ['\\d', '٣', true],
    ['\\w+', 'ö', true],
    ['\\W', 'ö', false],
    ['\\x41\\u{42}', 'AB', true],
    ['\\p{Greek}', 'α', true],
    ['\\pL', 'x', true],
    ['(?P<name>x)', 'x', true],
    ['x{2,3}y', 'xxy', true],
    ['/path\\-\\_\\:\\@', '/path-_:@', true],
    ['a}b]', 'a}b]', true],
  ];
  for (const [pattern, text, expected] of table) t.equal(found(pattern, text), expected, pattern);
  for (const pattern of [
    '(?=x)',
    '(?<=x)',
    '(?<!x)',
    '(x)\\1',
    '\\k<n>',
    '[a&&b]',
    '[[a]b]',
    '[',
    '(',
    '\\',
    'x{',
    '(?x)',
  ]) {
    t.throws(() => new RegExp(translateRegex(pattern), 'u'), pattern);
  }
  t.throws(() => scriptRules(withScript(['run (?=x)'], 'regex')), { code: 'YAVM_E_MANIFEST' });
});

t.test("the provider's switches", async (t) => {
  const manifest = withScript(['run x']);
  for (const names of ['all', 'manifest_compliance', ' manifest_script_compliance , other']) {
    const policy = readPolicy({ POLICY_DISABLE_COMPONENT: names });
    t.equal(scriptRules(manifest, policy), null, names);
  }
  t.ok(scriptRules(manifest, readPolicy({})));
  t.ok(scriptRules(manifest, readPolicy({ POLICY_DISABLE_COMPONENT: 'manifest_inet_url_compliance' })));
  const { trusted } = readPolicy({ POLICY_TRUST_PROPERTY: 'a, b.c=1|2' });
  t.strictSame(
    [...trusted],
    [
      ['a', null],
      ['b.c', ['1', '2']],
    ],
  );
});
