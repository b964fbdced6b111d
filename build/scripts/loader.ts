/**
 * The scripts that the launcher and the single program start with: they run the host's scripts (bundle.ts), out of files or
 * out of the program's assets, with what V8 made of them at the build (code-cache.ts). Two things make a start cheap:
 * nothing is compiled that was compiled before, and no module of Node is loaded before it is used.
 */

import { isBuiltin } from 'node:module';

/** In a script, the URL of what was started: what `import.meta.url` is in a module. */
export const HERE = '__here';

/** What a script's text stands in; V8 knows the text by its length, so the build's and the program's must be the same. */
const HEAD = `(function (module, exports, require, __dirname, __filename, ${HERE}) {`;
const TAIL = '\n})';

/** Modules that every Node has loaded when its first line runs. */
const LOADED = ['buffer', 'events', 'fs', 'path', 'process', 'stream', 'url', 'util', 'vm'];

/** Whether the loader gives out a stand-in for this module of Node. */
export function isStoodInFor(name: string): boolean {
  return isBuiltin(name) && !LOADED.includes(name.replace(/^node:/, ''));
}

export function assetOf(script: string): string {
  return `host/${script}`;
}

/** The asset with V8's code of a script. */
export function codeAssetOf(script: string): string {
  return `code/${script}`;
}

/** Folders of the launcher's `lib/` with the scripts, and with V8's code of them. */
export const SCRIPTS = 'host';
export const CODE = 'code';

/** A script that starts `entry` of the launcher; it lies beside the two folders. */
export function fileLoader(entry: string): string {
  return `'use strict';
const { readFileSync } = require('node:fs');
const textOf = (name) => readFileSync(__dirname + '/${SCRIPTS}/' + name, 'latin1');
const codeOf = (name) => readFileSync(__dirname + '/${CODE}/' + name);
const compiled = () => {};
const here = 'file://' + encodeURI(__filename).replace(/[?#]/g, encodeURIComponent);
${LOADER}
load('${entry}.mjs');
`;
}

/** A script that starts `entry` in the single program. Nothing is where it says it is: what a script looks for beside itself is in the program. */
export function programLoader(entry: string): string {
  return `'use strict';
const { getRawAsset } = require('node:sea');
const textOf = (name) => Buffer.from(getRawAsset('${assetOf('')}' + name)).latin1Slice();
const codeOf = (name) => Buffer.from(getRawAsset('${codeAssetOf('')}' + name));
const compiled = () => {};
const here = 'file:///ya-vm/program.cjs';
${LOADER}
load('${entry}.mjs');
`;
}

/**
 * The loader's main part. It expects `textOf` (a script's name → its text), `codeOf` (→ V8's code of it, or undefined),
 * `compiled`, which is told of each script, and `here`, see {@link HERE}.
 *
 * A module of Node is a stand-in until something of it is used: crypto, zlib and child_process alone take 20 ms. V8 looks
 * itself whether its code fits (version, flags, length of the text); if not, the script is compiled as ever.
 */
export const LOADER = `
const { Script } = require('node:vm');
const LOADED = new Set(${JSON.stringify(LOADED.flatMap((name) => [name, `node:${name}`]))});
const modules = new Map();
const builtins = new Map();
function compile(name) {
  const text = ${JSON.stringify(HEAD)} + textOf(name) + ${JSON.stringify(TAIL)};
  const script = new Script(text, { filename: 'ya-vm/' + name, cachedData: codeOf(name) });
  compiled(name, script);
  return script;
}
function load(name) {
  const known = modules.get(name);
  if (known) return known.exports;
  const module = { exports: {} };
  modules.set(name, module);
  compile(name).runInThisContext()(module, module.exports, find, '/ya-vm', '/ya-vm/' + name, here);
  return module.exports;
}
function find(word) {
  if (word.startsWith('./')) return load(word.slice(2));
  if (LOADED.has(word)) return require(word);
  const known = builtins.get(word);
  if (known) return known;
  const real = () => require(word);
  const standIn = new Proxy({}, {
    get: (_, key) => (key === 'default' ? real() : real()[key]),
    set: (_, key, value) => Reflect.set(real(), key, value),
    has: (_, key) => key in real(),
    ownKeys: () => Reflect.ownKeys(real()),
    getOwnPropertyDescriptor: (_, key) => {
      const found = Reflect.getOwnPropertyDescriptor(real(), key);
      // A proxy may not call a property fixed that its target does not have.
      return found && { ...found, configurable: true };
    },
  });
  builtins.set(word, standIn);
  return standIn;
}
`;
