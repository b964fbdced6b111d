/**
 * The host as scripts, for the launcher and for the single program alike: with code splitting, each as CommonJS, since Node
 * starts nothing else from within a program. What a command does not ask for is not even parsed.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build, type Plugin, transform } from 'esbuild';
import { HERE, isStoodInFor } from './loader.ts';

const TARGET = 'node24';

export interface BundleOptions {
  /** Packages that stay outside. */
  external: readonly string[];
  plugins?: Plugin[];
}

export interface Scripts {
  /** Their names in the folder. */
  names: string[];
  /** Source files that went in, from the repository's top. */
  sources: string[];
}

/**
 * Bundles `entries` (name → source) into `folder`. An entry is started by loader.ts.
 * @throws when the bundle cannot be made; a wait at a module's top level is such a reason
 */
export async function bundleScripts(
  entries: Record<string, string>,
  folder: string,
  { external, plugins }: BundleOptions,
): Promise<Scripts> {
  const { outputFiles, metafile } = await build({
    entryPoints: entries,
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    write: false,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: TARGET,
    // The Node entry of cbor-x would load a native decoder for the guest's bytes, when it finds one.
    alias: { 'cbor-x': resolve('node_modules/cbor-x/index.js') },
    external: [...external],
    define: { 'import.meta.url': HERE },
    plugins,
    metafile: true,
    legalComments: 'none',
    logLevel: 'silent',
  });
  mkdirSync(folder, { recursive: true });
  const names: string[] = [];
  for (const { path, text } of outputFiles) {
    const name = path.slice(resolve(folder).length + 1);
    // Names stay, for the stack of an error that nobody foresaw.
    const script = await transform(text, {
      format: 'cjs',
      platform: 'node',
      target: TARGET,
      minifyWhitespace: true,
      minifySyntax: true,
      // The loader reads a byte as a character.
      charset: 'ascii',
      // They become calls of the loader, too.
      supported: { 'dynamic-import': false },
    });
    names.push(name);
    writeFileSync(join(folder, name), keepBuiltinsWhole(script.code));
  }
  return { names, sources: Object.keys(metafile.inputs).sort() };
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
