/** Compiles and links the engine: QuickJS, native/engine and native/addon. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { compileAll, makeOnce, OBJECTS, type Unit } from './compile.ts';
import { fetchQuickjs, QUICKJS, QUICKJS_FLAGS, QUICKJS_SOURCES } from './quickjs.ts';
import { ROOT, runTool } from './tool.ts';
import { muslToolchain, sanitizedToolchain, type Toolchain } from './toolchain.ts';

/** Downloads and their unpacked contents; survives `make clean`. */
export const CACHE = join(ROOT, 'build/cache');

const ENGINE = join(ROOT, 'native/engine');
const ADDON = join(ROOT, 'native/addon');

/** Headers of Node-API and its C++ face, from npm. */
const NODE_API = join(ROOT, 'node_modules/node-api-headers/include');
const NODE_ADDON_API = join(ROOT, 'node_modules/node-addon-api');

/** Node-API's version, and C++ exceptions off, as native/addon is written. */
const NODE_API_FLAGS = [
  '-DNAPI_VERSION=8',
  '-DNAPI_DISABLE_CPP_EXCEPTIONS',
  '-DNODE_ADDON_API_DISABLE_DEPRECATED',
];

/** Sources of the addon that belong to its other host, Node. */
const NODE_ONLY = new Set(['loop_uv.cc', 'sockets.cc', 'datagrams.cc', 'exchange.cc']);

function sourcesIn(folder: string, ending: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => join(folder, name));
}

function objectFor(folder: string, source: string): string {
  return join(folder, `${basename(source)}.o`);
}

/** QuickJS itself. */
function quickjsUnits(toolchain: Toolchain, quickjs: string): Unit[] {
  return QUICKJS_SOURCES.map((name) => ({
    compiler: toolchain.cc,
    // Its undefined behaviours are not ours to judge (a shift by clz(0), for one).
    flags: [...toolchain.cFlags, '-fno-sanitize=undefined', ...QUICKJS_FLAGS, toolchain.optimise],
    source: join(quickjs, name),
    object: objectFor(join(OBJECTS, toolchain.name, 'quickjs'), name),
  }));
}

/** Which bytecode an engine reads: of this QuickJS, and, as a hook's API may change, of this version of ya-vm. */
function markOf(version: string): string {
  return `-DYAVM_BYTECODE_MARK="yavm-bytecode ${version} quickjs-${QUICKJS.version}"`;
}

export interface EngineOptions {
  /** A program that runs bytecode files, for tests; else one with its bundle linked in. */
  testHost: boolean;
  /** Sources of the addon; native/addon less Node's parts when absent. */
  addon?: string[];
  /** What yavmEngine.version and `/init` itself say. */
  version: string;
}

function engineUnits(toolchain: Toolchain, quickjs: string, options: EngineOptions): Unit[] {
  const folder = join(OBJECTS, toolchain.name, options.testHost ? 'test-host' : 'engine');
  const shared = [
    ...toolchain.warnings,
    ...NODE_API_FLAGS,
    '-D_GNU_SOURCE',
    '-isystem',
    quickjs,
    '-isystem',
    NODE_API,
  ];
  const { version, testHost } = options;
  const defines = [`-DYAVM_VERSION="${version}"`, markOf(version), ...(testHost ? ['-DYAVM_TEST_HOST'] : [])];
  const c = sourcesIn(ENGINE, '.c').map((source) => ({
    compiler: toolchain.cc,
    flags: ['-std=gnu11', ...toolchain.cFlags, ...shared, ...defines, toolchain.optimise],
    source,
    object: objectFor(folder, source),
  }));
  const cxx = sourcesIn(ENGINE, '.cc').map((source) => ({
    compiler: toolchain.cxx,
    flags: [...toolchain.cxxFlags, ...shared],
    source,
    object: objectFor(folder, source),
  }));
  return [...c, ...cxx];
}

function addonUnits(toolchain: Toolchain, sources: string[]): Unit[] {
  const includes = ['-isystem', NODE_ADDON_API, '-isystem', NODE_API];
  return sources.map((source) => ({
    compiler: toolchain.cxx,
    flags: [...toolchain.cxxFlags, ...toolchain.warnings, ...NODE_API_FLAGS, '-D_GNU_SOURCE', ...includes],
    source,
    object: objectFor(join(OBJECTS, toolchain.name, basename(dirname(source))), source),
  }));
}

/** The addon's sources for this host. */
export function addonSources(): string[] {
  return sourcesIn(ADDON, '.cc').filter((source) => !NODE_ONLY.has(basename(source)));
}

/** All objects of an engine but its bundle. */
export async function compileEngine(toolchain: Toolchain, options: EngineOptions): Promise<string[]> {
  const quickjs = await fetchQuickjs(CACHE);
  return compileAll([
    ...quickjsUnits(toolchain, quickjs),
    ...engineUnits(toolchain, quickjs, options),
    ...addonUnits(toolchain, options.addon ?? addonSources()),
  ]);
}

/** Links objects into `out`, with symbols. */
export async function linkEngine(toolchain: Toolchain, objects: string[], out: string): Promise<void> {
  const [program, ...flags] = toolchain.link;
  const args = [...flags, ...objects, ...toolchain.libraries];
  await makeOnce(out, [program, ...args].join(' '), objects, (file) =>
    runTool(program, [...args, '-o', file]),
  );
}

/**
 * The bytecode compiler: one static file, from the same objects of QuickJS as /init. It ships beside it, for hooks.
 * @returns its path.
 */
export async function buildBytecodeCompiler(): Promise<string> {
  const quickjs = await fetchQuickjs(CACHE);
  const toolchain = await muslToolchain(OBJECTS);
  const tool = join(ENGINE, 'tool/bytecode.c');
  const { cc, cFlags, warnings, optimise } = toolchain;
  const defines = ['-D_GNU_SOURCE', markOf(packageVersion())];
  const objects = await compileAll([
    ...quickjsUnits(toolchain, quickjs),
    {
      compiler: cc,
      flags: ['-std=gnu11', ...cFlags, ...warnings, ...defines, optimise, '-isystem', quickjs],
      source: tool,
      object: objectFor(join(OBJECTS, toolchain.name, 'tool'), tool),
    },
  ]);
  const elf = join(OBJECTS, toolchain.name, 'tool/bytecode');
  await linkEngine(toolchain, objects, elf);
  const out = join(ROOT, 'build/out/bytecode');
  await stripProgram(elf, out);
  return out;
}

/** Without symbols and its compiler's name. */
export async function stripProgram(elf: string, out: string): Promise<void> {
  mkdirSync(dirname(out), { recursive: true });
  await makeOnce(out, 'strip', [elf], (file) => runTool('strip', ['-s', '-R', '.comment', '-o', file, elf]));
}

/**
 * Compiles a script to bytecode of this engine.
 * @param script Path of a bundle: a classic script (no `import`), ES2023, without global declarations.
 * @param out Path of the result.
 * @param name The file name that stacks show.
 * @throws {ToolError} with line and column of a syntax error.
 */
export async function compileBytecode(script: string, out: string, name: string): Promise<void> {
  const compiler = await buildBytecodeCompiler();
  await makeOnce(out, `bytecode ${script} ${name}`, [script, compiler], (file) =>
    runTool(compiler, [script, file, name, '--in-place']),
  );
}

/** The version of the package. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return version;
}

export interface EngineTestOptions {
  /** Path of the program. */
  out?: string;
  /** With the address and undefined-behaviour sanitizers, on the machine's libc. */
  sanitize?: boolean;
  /** Sources of another addon than native/addon. */
  addon?: string[];
}

/**
 * The test host: the engine and the addon, which run the bytecode file that is their first argument.
 * @returns the path of the program.
 */
export async function buildEngineTest(options: EngineTestOptions = {}): Promise<string> {
  const { sanitize = false, addon } = options;
  const out = options.out ?? join(ROOT, 'build/out', sanitize ? 'engine-test-sanitized' : 'engine-test');
  const toolchain = sanitize ? sanitizedToolchain() : await muslToolchain(OBJECTS);
  const objects = await compileEngine(toolchain, { testHost: true, version: packageVersion(), addon });
  mkdirSync(dirname(out), { recursive: true });
  await linkEngine(toolchain, objects, out);
  return out;
}
