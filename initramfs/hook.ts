/**
 * `--hook FILE.ts`: from a TypeScript file to the script that the agent's engine evaluates. A file that imports nothing but types
 * only loses its types, line by line; anything else is bundled by esbuild, where that is installed.
 */
import { readFile } from 'node:fs/promises';
import { SourceMap, stripTypeScriptTypes } from 'node:module';
import { basename, dirname, relative, resolve } from 'node:path';
import { Script } from 'node:vm';
import type * as Esbuild from 'esbuild';
import { HOOK, HOOK_PHASES, type HookManifest, MAX_MANIFEST, MAX_SCRIPT } from '../guest/hook/manifest.ts';
import type { Entry } from './cpio.ts';
import { HookError } from './errors.ts';

/** A module's code, whose exports are values of these names: exported name → name in the code. */
interface HookCode {
  text: string;
  exports: Map<string, string>;
  sources?: string[];
  lines?: number[];
}

/** The entries of an initramfs with this hook. @throws {HookError} */
export async function hookEntries(path: string): Promise<Entry[]> {
  const source = await readFile(path, 'utf8').catch((cause) => {
    throw new HookError(`${path}: the hook cannot be read`, { cause });
  });
  const code = plainCode(source) ?? (await bundledCode(path));
  const phases = HOOK_PHASES.filter((phase) => code.exports.has(phase));
  const unknown = [...code.exports.keys()].filter((name) => !HOOK_PHASES.some((phase) => phase === name));
  if (unknown.length > 0 || phases.length === 0)
    throw new HookError(
      unknown.length > 0
        ? `${path}: exports ${unknown.join(', ')}, which nothing calls`
        : `${path}: exports nothing`,
      { hint: `A hook exports functions of these names: ${HOOK_PHASES.join(', ')}.` },
    );
  const name = basename(path);
  const values = [...code.exports].map(([exported, local]) => `${exported}: ${local}`);
  // On the first line: the numbers of lines stay.
  const script = `'use strict'; (() => { ${code.text}\nreturn { ${values.join(', ')} };\n})();\n`;
  checkScript(path, script);
  const { sources, lines } = code;
  const manifest: HookManifest = { name, phases, ...(lines && { sources, lines }) };
  const text = `${JSON.stringify(manifest)}\n`;
  if (Buffer.byteLength(script) > MAX_SCRIPT || Buffer.byteLength(text) > MAX_MANIFEST)
    throw new HookError(`${path}: the hook is larger than ${MAX_SCRIPT} bytes`);
  const file = (at: string, content: string): Entry => {
    return { type: 'file', path: at, mode: 0o644, data: Buffer.from(content) };
  };
  return [
    { type: 'directory', path: dirname(HOOK.script), mode: 0o755 },
    file(HOOK.script, script),
    file(HOOK.manifest, text),
  ];
}

const DECLARED = /^export(?= +(?:async +)?(?:function\*?|const|let) +([\w$]+))/gm;

/** Without its types, if that is all it takes: no imports but those, exports only where functions or constants are declared. */
function plainCode(source: string): HookCode | null {
  let text: string;
  try {
    text = stripTypeScriptTypes(source, { mode: 'strip' });
  } catch {
    // Enums and the like, or an error, which esbuild tells better.
    return null;
  }
  const exports = new Map<string, string>();
  text = text.replace(DECLARED, (keyword, name: string) => {
    exports.set(name, name);
    return ' '.repeat(keyword.length);
  });
  // What is left of either word may be in a text or comment: esbuild knows.
  return /^\s*(?:import|export)\b/m.test(text) ? null : { text, exports };
}

async function bundledCode(path: string): Promise<HookCode> {
  const { build } = await loadEsbuild(path);
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
async function loadEsbuild(path: string): Promise<typeof Esbuild> {
  // Not for bundlers to follow.
  const name: string = 'esbuild';
  try {
    return (await import(name)) as typeof Esbuild;
  } catch (cause) {
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

/** Whether it can be parsed. Not run. */
function checkScript(path: string, script: string): void {
  try {
    new Script(script, { filename: path });
  } catch (cause) {
    const line = /:(\d+)\n/.exec((cause as Error).stack ?? '')?.[1];
    throw new HookError(`${path}${line ? `:${line}` : ''}: ${(cause as Error).message}`, { cause });
  }
}
