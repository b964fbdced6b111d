/**
 * `--hook FILE.ts`: what of a TypeScript file goes into an initramfs. It is compiled here, to bytecode of the agent's engine, by a
 * program that comes with ya-vm: /init has no parser.
 */
import { dirname } from 'node:path';
import { bytecodeMark, HOOK, type HookManifest, hookFailure, MAX_BYTECODE } from '../guest/hook/manifest.ts';
import type { Entry } from './cpio.ts';
import { HookError, HookVersionError, ToolError } from './errors.ts';
import { hookScript } from './hook-script.ts';
import { type RunTool, runTool } from './tool.ts';

/** Milliseconds; the largest script takes a tenth of a second. */
const COMPILE_TIMEOUT = 30_000;

/**
 * The entries of an initramfs with this hook.
 * @param compiler Path of the bytecode compiler (native/engine/tool/bytecode.c).
 * @throws {HookError}
 */
export async function hookEntries(path: string, compiler: string, run: RunTool = runTool): Promise<Entry[]> {
  const { script, manifest } = await hookScript(path);
  const bytecode = await compile(path, script, manifest, compiler, run);
  const file = (at: string, data: Buffer): Entry => ({ type: 'file', path: at, mode: 0o644, data });
  return [
    { type: 'directory', path: dirname(HOOK.bytecode), mode: 0o755 },
    file(HOOK.bytecode, bytecode),
    file(HOOK.manifest, Buffer.from(`${JSON.stringify(manifest)}\n`)),
  ];
}

/** @throws {HookVersionError} there is a hook, and `init` is no agent that reads its bytecode */
export function checkHook(init: Uint8Array, entries: readonly Entry[]): void {
  const hook = entries.find(({ path }) => path === HOOK.bytecode);
  if (hook === undefined) return;
  const mark = hook.type === 'file' ? bytecodeMark(hook.data) : null;
  // As a text of C.
  if (mark !== null && Buffer.from(init).includes(`${mark}\0`)) return;
  throw new HookVersionError(
    `the hook is not for this /init, which does not read '${mark ?? 'no bytecode'}'`,
    {
      hint: 'Build both with one version of ya-vm: without --init, or with the ya-vm that it is from.',
    },
  );
}

async function compile(
  path: string,
  script: string,
  manifest: HookManifest,
  compiler: string,
  run: RunTool,
): Promise<Buffer> {
  try {
    return await run(compiler, ['-', '-', manifest.name, '--marked'], {
      input: Buffer.from(script),
      timeout: COMPILE_TIMEOUT,
      maxOutput: MAX_BYTECODE,
    });
  } catch (cause) {
    if (!(cause instanceof ToolError)) throw cause;
    // QuickJS's own words, with its stack.
    const said = /: (\w*Error: [\s\S]*)$/.exec(cause.message)?.[1];
    if (said === undefined) throw new HookError(`${path}: the hook cannot be compiled`, { cause });
    throw new HookError(`${dirname(path)}/${hookFailure(manifest, said)}`, { cause });
  }
}
