/** Runs scripts in the guest's engine: the test host, which is /init without a bundle and never PID 1. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildBytecodeCompiler, buildEngineTest } from '../../build/engine.ts';
import { runTool } from '../../build/tool.ts';

/** Longest that a script may run, milliseconds. */
const DEADLINE = 120_000;

export interface ScriptOptions {
  /** Arguments after the script's name. */
  args?: string[];
  /** A descriptor of this process that is the script's descriptor 3. */
  fd3?: number;
  /** The program that runs it; the ordinary test host when absent. */
  host?: string;
  /** A program, and its arguments, that starts the host. */
  wrapper?: string[];
}

export interface ScriptResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  /** Where console writes, and last words. */
  stderr: string;
}

/** Compiles a script and runs it to its end. The script's name in stacks is `script.js`. */
export async function runScript(source: string, options: ScriptOptions = {}): Promise<ScriptResult> {
  const host = options.host ?? (await buildEngineTest());
  const compiler = await buildBytecodeCompiler();
  const folder = mkdtempSync(join(tmpdir(), 'yavm-engine-'));
  try {
    const [script, bytecode] = [join(folder, 'script.js'), join(folder, 'script.bin')];
    writeFileSync(script, source);
    await runTool(compiler, [script, bytecode, 'script.js']);
    return await runBytecode(host, bytecode, options);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a bytecode file to its end. */
export function runBytecode(
  host: string,
  bytecode: string,
  options: ScriptOptions = {},
): Promise<ScriptResult> {
  const { args = [], fd3, wrapper = [] } = options;
  return new Promise((resolve, reject) => {
    const stdio = ['ignore', 'pipe', 'pipe', ...(fd3 === undefined ? [] : [fd3])] as (
      | 'ignore'
      | 'pipe'
      | number
    )[];
    const [program, ...words] = [...wrapper, host, bytecode, ...args] as [string, ...string[]];
    const child = spawn(program, words, { stdio });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...output });
    });
  });
}

/** The lines that a script printed with console. */
export function linesOf(result: ScriptResult): string[] {
  return result.stderr.split('\n').filter((line) => line !== '');
}
