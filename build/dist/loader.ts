/**
 * The script that the single program starts with: it runs the host's scripts (bundle.ts), which it finds among the
 * program's assets, with what V8 made of them at the build (code-cache.ts). Two things make a start cheap:
 * nothing is compiled that was compiled before, and no module of Node is loaded before it is used.
 */

import { isBuiltin } from 'node:module';

/** What a script's text stands in; V8 knows the text by its length, so the build's and the program's must be the same. */
const HEAD = '(function (module, exports, require, __dirname, __filename) {';
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

/** A script that starts `entry` in the single program. */
export function loaderScript(entry: string): string {
  return `'use strict';
const { getRawAsset } = require('node:sea');
const textOf = (name) => Buffer.from(getRawAsset('${assetOf('')}' + name)).latin1Slice();
const codeOf = (name) => Buffer.from(getRawAsset('${codeAssetOf('')}' + name));
const compiled = () => {};
${LOADER}
load('${entry}.mjs');
`;
}

/**
 * The loader's main part. It expects `textOf` (a script's name → its text), `codeOf` (→ V8's code of it, or undefined)
 * and `compiled`, which is told of each script.
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
  compile(name).runInThisContext()(module, module.exports, find, '/ya-vm', '/ya-vm/' + name);
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
