/**
 * From a hook's TypeScript file to one script. A file that imports nothing but types only loses its types, line by line; anything
 * else is bundled by esbuild, where that is installed.
 */
import { readFile } from 'node:fs/promises';
import { SourceMap, stripTypeScriptTypes } from 'node:module';
import { basename, dirname, relative, resolve } from 'node:path';
import type * as Esbuild from 'esbuild';
import { HOOK_PHASES, type HookManifest, MAX_MANIFEST, MAX_SCRIPT } from '../guest/hook/manifest.ts';
import { HookError } from './errors.ts';

/** A module's code, whose exports are values of these names: exported name → name in the code. */
interface HookCode {
  text: string;
  exports: Map<string, string>;
  sources?: string[];
  lines?: number[];
}

/** Why a file is not taken as it is: what is wrong in it; neither is known when it only needs a bundler. */
interface NotPlain {
  error?: Error;
  line?: string;
}

export interface HookScript {
  /** Its value has the functions, by their names. */
  script: string;
  manifest: HookManifest;
}

/** @param load What gives esbuild; tests have it fail. @throws {HookError} */
export async function hookScript(path: string, load = importEsbuild): Promise<HookScript> {
  const source = await readFile(path, 'utf8').catch((cause) => {
    throw new HookError(`${path}: the hook cannot be read`, { cause });
  });
  const plain = plainCode(source);
  const code = 'text' in plain ? plain : await bundledCode(path, await loadEsbuild(path, plain, load));
  const phases = HOOK_PHASES.filter((phase) => code.exports.has(phase));
  const unknown = [...code.exports.keys()].filter((name) => !HOOK_PHASES.some((phase) => phase === name));
  if (unknown.length > 0 || phases.length === 0)
    throw new HookError(
      unknown.length > 0
        ? `${path}: exports ${unknown.join(', ')}, which nothing calls`
        : `${path}: exports nothing`,
      { hint: `A hook exports functions of these names: ${HOOK_PHASES.join(', ')}.` },
    );
  const values = [...code.exports].map(([exported, local]) => `${exported}: ${local}`);
  // On the first line: the numbers of lines stay.
  const script = `(() => { ${code.text}\nreturn { ${values.join(', ')} };\n})();\n`;
  const { sources, lines } = code;
  const manifest: HookManifest = { name: basename(path), phases, ...(lines && { sources, lines }) };
  if (Buffer.byteLength(script) > MAX_SCRIPT || JSON.stringify(manifest).length > MAX_MANIFEST / 4)
    throw new HookError(`${path}: the hook is larger than ${MAX_SCRIPT} bytes`);
  return { script, manifest };
}

const DECLARED = /^export(?= +(?:async +)?(?:function\*?|const|let) +([\w$]+))/gm;

/** Without its types, if that is all it takes: no imports but those, exports only where functions or constants are declared. */
function plainCode(source: string): HookCode | NotPlain {
  let text: string;
  try {
    text = stripTypeScriptTypes(source, { mode: 'strip' });
  } catch (error) {
    // Enums and the like, or an error, which esbuild tells better.
    const { code, stack = '' } = error as NodeJS.ErrnoException;
    return code === 'ERR_INVALID_TYPESCRIPT_SYNTAX'
      ? { error: error as Error, line: /^:(\d+)$/m.exec(stack)?.[1] }
      : {};
  }
  const exports = new Map<string, string>();
  text = text.replace(DECLARED, (keyword, name: string) => {
    exports.set(name, name);
    return ' '.repeat(keyword.length);
  });
  // What is left of either word may be in a text or comment: esbuild knows.
  return /^\s*(?:import|export)\b/m.test(text) ? {} : { text, exports };
}

async function bundledCode(path: string, { build }: typeof Esbuild): Promise<HookCode> {
  let result: Esbuild.BuildResult<{ write: false; metafile: true }>;
  try {
    result = await build({
      entryPoints: [resolve(path)],
      outfile: resolve(dirname(path), 'hook.js'),
      ...{ bundle: true, write: false, metafile: true, sourcemap: 'external', logLevel: 'silent' },
      ...{ format: 'esm', target: 'es2023', platform: 'neutral', charset: 'utf8', legalComments: 'none' },
    });
  } catch (cause) {
    const [first] = (cause as Partial<Esbuild.BuildFailure>).errors ?? [];
    const where = first?.location ? `${first.location.file}:${first.location.line}: ` : `${path}: `;
    throw new HookError(`${where}${first?.text ?? 'the hook cannot be bundled'}`, { cause });
  }
  const map = result.outputFiles.find((file) => file.path.endsWith('.map'))?.text ?? '{}';
  const bundle = result.outputFiles.find((file) => !file.path.endsWith('.map'))?.text ?? '';
  const exports = new Map<string, string>();
  const text = bundle.replace(/\nexport \{([^}]*)\};\s*$/, (_, list: string) => {
    for (const each of list.split(',')) {
      const [local, exported = local] = each.trim().split(/ as /) as [string, string?];
      exports.set(exported, local);
    }
    return '\n';
  });
  return { text, exports, ...lineTable(text, new SourceMap(JSON.parse(map)), dirname(path)) };
}

/** Not part of the installed program. */
async function importEsbuild(): Promise<typeof Esbuild> {
  // Not for bundlers to follow.
  const name: string = 'esbuild';
  return (await import(name)) as typeof Esbuild;
}

async function loadEsbuild(
  path: string,
  { error, line }: NotPlain,
  load: () => Promise<typeof Esbuild>,
): Promise<typeof Esbuild> {
  try {
    return await load();
  } catch (cause) {
    if (error) throw new HookError(`${path}${line ? `:${line}` : ''}: ${error.message}`);
    throw new HookError(`${path}: this hook must be bundled, and esbuild is not installed`, {
      cause,
      hint: "Write it as one file: no imports but 'import type', no enums, 'export function NAME'. Or build from the checkout.",
    });
  }
}

function lineTable(
  text: string,
  map: SourceMap,
  folder: string,
): Required<Pick<HookManifest, 'sources' | 'lines'>> {
  const sources: string[] = [];
  const lines = text.split('\n').flatMap((line, at) => {
    const entry = map.findEntry(at, line.length - line.trimStart().length);
    if (!('originalSource' in entry) || entry.originalSource === undefined) return [0, 0];
    const source = relative(folder, resolve(folder, entry.originalSource));
    if (!sources.includes(source)) sources.push(source);
    return [sources.indexOf(source), entry.originalLine + 1];
  });
  return { sources, lines };
}
