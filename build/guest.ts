/**
 * The guest's program: TypeScript → one bundle → bytecode → a static ELF with the engine and the addon.
 *
 *     node build/guest.ts            builds build/out/init, build/out/init-test and build/out/engine-test
 */
import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build, type Metafile } from 'esbuild';
import { makeOnce, OBJECTS } from './compile.ts';
import {
  buildEngineTest,
  compileBytecode,
  compileEngine,
  linkEngine,
  packageVersion,
  stripProgram,
} from './engine.ts';
import { ROOT, runTool } from './tool.ts';
import { muslToolchain } from './toolchain.ts';

export interface BundleOptions {
  /** The TypeScript file that the program starts with. */
  entry: string;
  /** Path of the bundle. */
  out: string;
  /** Includes what only tests may ask for (`__YAVM_TEST__`). */
  test: boolean;
  /** `__YAVM_VERSION__`; package.json's when absent. */
  version?: string;
}

/**
 * Bundles a program for QuickJS, as one classic script.
 *
 * Only syntax is minified. The source text is not kept in the bytecode, so white space and comments cost nothing, and
 * with the names of functions and the lines of this file a stack can be read: the bundle lies beside the program
 * (build/out/obj/init/bundle.js) for that.
 */
export async function bundle(options: BundleOptions): Promise<Metafile> {
  const { entry, out, test, version = packageVersion() } = options;
  const result = await build({
    entryPoints: [entry],
    outfile: out,
    bundle: true,
    format: 'iife',
    target: 'es2023',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    charset: 'utf8',
    legalComments: 'none',
    minifySyntax: true,
    absWorkingDir: ROOT,
    // `#cbor` is the addon's in /init (package.json, "imports").
    conditions: ['guest'],
    define: { __YAVM_TEST__: String(test), __YAVM_VERSION__: JSON.stringify(version) },
    metafile: true,
    logLevel: 'silent',
  });
  return result.metafile;
}

export interface GuestOptions {
  /** The TypeScript file that the program starts with; guest/init.ts when absent. */
  entry?: string;
  /** Path of the program. */
  out: string;
  /** Includes what only tests may ask for (`__YAVM_TEST__`). */
  test: boolean;
}

/**
 * Builds a program that is `/init`.
 * @returns its path. In build/out/obj/NAME (NAME is the last part of `out`) lie the bundle, and `elf`, the program
 * with symbols.
 * @throws {ToolError} with a compiler's messages; esbuild's BuildFailure.
 */
export async function buildGuest(options: GuestOptions): Promise<string> {
  const { entry = join(ROOT, 'guest/init.ts'), out, test } = options;
  const folder = join(OBJECTS, basename(out));
  const [script, bytecode, elf] = ['bundle.js', 'bundle.bin', 'elf'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(folder, { recursive: true });
  const toolchain = await muslToolchain(OBJECTS);
  await bundle({ entry, out: script, test });
  await compileBytecode(script, bytecode, 'init.js');
  const objects = await compileEngine(toolchain, { testHost: false, version: packageVersion() });
  const data = join(folder, 'bundle.o');
  const assembler = [join(ROOT, 'native/engine/bundle.S'), `-DYAVM_BYTECODE="${bytecode}"`];
  await makeOnce(data, assembler.join(' '), [assembler[0] as string, bytecode], (file) =>
    runTool(toolchain.cc, [...assembler, '-c', '-o', file]),
  );
  await linkEngine(toolchain, [...objects, data], elf);
  await stripProgram(elf, out);
  return out;
}

if (import.meta.main) {
  for (const test of [false, true]) {
    console.log(await buildGuest({ out: join(ROOT, 'build/out', test ? 'init-test' : 'init'), test }));
  }
  console.log(await buildEngineTest());
}
