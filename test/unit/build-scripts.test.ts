/** How the launcher and the single program load its scripts, on scripts made here; and V8's code of them, which must be the same each time. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Script } from 'node:vm';
import t from 'tap';
import { keepBuiltinsWhole } from '../../build/scripts/bundle.ts';
import { buildCodeCache } from '../../build/scripts/code-cache.ts';
import { LOADER } from '../../build/scripts/loader.ts';

const require = createRequire(import.meta.url);

interface Loaded {
  load(name: string): Record<string, unknown>;
  /** Modules of Node that were really loaded. */
  required: string[];
  scripts: Map<string, Script>;
}

function loader(texts: Record<string, string>, codeOf: (name: string) => Buffer | undefined): Loaded {
  const required: string[] = [];
  const scripts = new Map<string, Script>();
  const make = new Function('textOf', 'codeOf', 'compiled', 'require', 'here', `${LOADER}\nreturn load;`);
  const load = make(
    (name: string) => texts[name],
    codeOf,
    (name: string, script: Script) => scripts.set(name, script),
    (word: string) => {
      required.push(word);
      return require(word);
    },
    'file:///here.cjs',
  );
  return { load, required, scripts };
}

t.test('a module of Node is loaded when something of it is used', async (t) => {
  const texts = {
    'main.mjs': `const os = require('node:os'), { hash } = require('./lib.mjs');
      exports.hash = hash; exports.os = os; exports.same = os === require('node:os');`,
    'lib.mjs': `const crypto = require('node:crypto'); exports.hash = (text) => crypto.hash('sha1', text);`,
  };
  const { load, required } = loader(texts, () => undefined);
  const main = load('main.mjs');
  t.same(required, ['node:vm'], 'the loader’s own');
  t.equal((main.hash as (text: string) => string)('x').length, 40);
  t.same(required, ['node:vm', 'node:crypto']);
  t.equal(main.same, true);
  const os = main.os as typeof import('node:os') & { default: unknown };
  t.equal(os.default, require('node:os'), 'as a whole');
  t.ok('EOL' in os);
  t.ok(Object.keys(os).includes('EOL'), 'its names');
  t.equal(load('main.mjs'), main, 'a script runs once');
});

t.test("V8's code is used where it fits, else the script is compiled", async (t) => {
  const texts = { 'main.mjs': 'exports.answer = 42;' };
  const first = loader(texts, () => undefined);
  first.load('main.mjs');
  const code = first.scripts.get('main.mjs')?.createCachedData();
  for (const [what, bytes, rejected] of [
    ['fits', code, false],
    ['garbage', Buffer.alloc(200, 7), true],
    ['nothing', Buffer.alloc(0), true],
  ] as const) {
    // V8 would remember a text that it has compiled once.
    const text = rejected ? `${texts['main.mjs']} // ${what}` : texts['main.mjs'];
    const { load, scripts } = loader({ 'main.mjs': text }, () => bytes);
    t.equal(load('main.mjs').answer, 42, what);
    t.equal(scripts.get('main.mjs')?.cachedDataRejected, rejected, what);
  }
});

t.test('the code of scripts is the same each time, of those too that no command loads', async (t) => {
  const top = mkdtempSync(join(tmpdir(), 'yavm-code-'));
  t.teardown(() => rmSync(top, { recursive: true, force: true }));
  const scripts = join(top, 'scripts');
  mkdirSync(scripts);
  const main = `require('./lib.mjs').say(process.argv.slice(2)); Promise.resolve().then(() => process.exit(0));`;
  writeFileSync(join(scripts, 'main.mjs'), main);
  writeFileSync(
    join(scripts, 'lib.mjs'),
    `exports.say = (words) => { process.stdout.write(words.join()); };`,
  );
  writeFileSync(join(scripts, 'other.mjs'), `throw new Error('it is not run');`);
  const build = async (name: string) => {
    const work = join(top, name);
    const output = join(work, 'code');
    mkdirSync(work);
    const commands = [['a'], ['b', '--help']];
    await buildCodeCache({
      ...{ node: process.execPath, options: [], scripts, entry: 'main', commands },
      ...{ work, output },
    });
    return output;
  };
  const [first, second] = [await build('1'), await build('2')];
  t.same(readdirSync(first), ['lib.mjs', 'main.mjs', 'other.mjs']);
  for (const name of readdirSync(first)) {
    t.ok(readFileSync(join(first, name)).equals(readFileSync(join(second, name))), name);
  }
});

t.test("esbuild's copies of Node's modules are left out, of packages' and scripts' not", async (t) => {
  const kept =
    'a=__toESM(require("./chunk.mjs")),b=__toESM(require("node:process")),c=__toESM(require("pino"),1)';
  t.equal(keepBuiltinsWhole(kept), kept);
  t.equal(
    keepBuiltinsWhole('a=__toESM(require("node:zlib")),b=__toESM(require("crypto"),1);'),
    'a=require("node:zlib"),b=require("crypto");',
  );
  t.equal(
    keepBuiltinsWhole('a=__toESM(require("node:fs"));'),
    'a={__proto__:require("node:fs"),default:require("node:fs")};',
  );
});
