/**
 * The host as scripts that a single executable carries: the launcher's files (build/launcher.ts), each as CommonJS, since
 * Node starts nothing else from within a program. What a command does not ask for is not even parsed.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build, type Plugin, transform } from 'esbuild';
import { HOST_BUNDLE } from '../host-bundle.ts';
import { assetOf, isStoodInFor } from './loader.ts';

/** Where the scripts say they are. Nothing is there: what they look for beside themselves they find in the program. */
const NOWHERE = "'file:///ya-vm/program.cjs'";

/** Host code that only works in a checkout, with the build's own packages. */
const EXTERNAL = ['esbuild'];

/** serialport's addon is a file like our own: the package would look for it in node_modules. */
const serialportAddon: Plugin = {
  name: 'serialport-addon',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node-gyp-build$/ }, () => ({ path: 'addon', namespace: 'serialport' }));
    onLoad({ filter: /.*/, namespace: 'serialport' }, () => ({
      resolveDir: resolve('.'),
      contents: `
        const { createRequire } = require('node:module');
        const { unpackedAssets } = require('./host/lib/paths.ts');
        module.exports = () => createRequire('/')(unpackedAssets() + '/serialport.node');`,
    }));
  },
};

export interface Scripts {
  /** Paths of all scripts, by the names of their assets. */
  assets: Record<string, string>;
  /** Source files that went in, from the repository's top. */
  sources: string[];
}

/**
 * Bundles `entries` (name → source) into `folder`. An entry is started by loader.ts.
 * @throws when the bundle cannot be made; a wait at a module's top level is such a reason
 */
export async function bundleScripts(entries: Record<string, string>, folder: string): Promise<Scripts> {
  const { outputFiles, metafile } = await build({
    ...HOST_BUNDLE,
    entryPoints: entries,
    outdir: folder,
    write: false,
    external: EXTERNAL,
    define: { 'import.meta.url': NOWHERE },
    plugins: [serialportAddon],
    metafile: true,
  });
  mkdirSync(folder, { recursive: true });
  const assets: Record<string, string> = {};
  for (const { path, text } of outputFiles) {
    const name = path.slice(resolve(folder).length + 1);
    // Names stay, for the stack of an error that nobody foresaw.
    const script = await transform(text, {
      format: 'cjs',
      platform: 'node',
      target: 'node24',
      minifyWhitespace: true,
      minifySyntax: true,
      // The loader reads a byte as a character.
      charset: 'ascii',
      // They become calls of the loader, too.
      supported: { 'dynamic-import': false },
    });
    assets[assetOf(name)] = join(folder, name);
    writeFileSync(join(folder, name), keepBuiltinsWhole(script.code));
  }
  return { assets, sources: Object.keys(metafile.inputs).sort() };
}

/**
 * What a script imports as a whole of Node stays what the loader gives it: esbuild's helper copies every name of it,
 * which would load it at once. Of node:fs, which nearly every script has, it would load rare parts.
 */
export function keepBuiltinsWhole(code: string): string {
  return code.replace(/__toESM\((require\("[^"]+"\))(?:,\s*1)?\)/g, (whole, call: string) => {
    const name = call.slice('require("'.length, -'")'.length);
    if (name === 'node:fs') return `{__proto__:${call},default:${call}}`;
    return isStoodInFor(name) ? call : whole;
  });
}
