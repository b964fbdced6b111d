/** Runs the programs of the build. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** Top of the repository. */
export const ROOT = join(import.meta.dirname, '..');

/** Output kept of one program, bytes: enough for a compiler's errors. */
const MAX_OUTPUT = 1024 * 1024;

/** A program of the build failed, or is not there. */
export class ToolError extends Error {
  override name = 'ToolError';
}

/**
 * Runs a program to its end.
 * @param options.input Bytes for its standard input; none when absent.
 * @returns what it wrote on standard output.
 * @throws {ToolError} with its output, when it cannot be started or fails.
 */
export function runTool(program: string, args: string[], options: { input?: string } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (output.length < MAX_OUTPUT) output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (errors.length < MAX_OUTPUT) errors += text;
    });
    child.once('error', (cause) => {
      reject(
        new ToolError(`${program} cannot be run: ${cause.message}; "make setup" installs it`, { cause }),
      );
    });
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else
        reject(
          new ToolError(`${program} ${args.join(' ')}\nended with ${code ?? signal}:\n${errors}${output}`),
        );
    });
    child.stdin.on('error', () => {}); // It may end without reading; its exit code tells.
    child.stdin.end(options.input ?? '');
  });
}
