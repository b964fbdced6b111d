/** Keeps what a boot test that failed has left: for an artifact of a CI job. */
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import type { BootTestResult } from './result.ts';

/** Writes one test's files into a folder of its own. @returns that folder. @throws {YavmError} YAVM_E_REPORT */
export async function keepEvidence(folder: string, result: BootTestResult, number: number): Promise<string> {
  const name = `${number}-${basename(result.name).replace(/[^A-Za-z0-9._-]/g, '_')}`.slice(0, 100);
  const path = join(resolve(folder), name);
  const { output, console: console_, quoted, ...facts } = result;
  const files: Record<string, string> = {
    'console.log': console_,
    'stdout.txt': output.stdout,
    'stderr.txt': output.stderr,
    'result.json': `${JSON.stringify({ ...facts, kept: path }, null, 2)}\n`,
  };
  try {
    makeFolders(path);
    for (const [file, text] of Object.entries(files)) await writeFile(join(path, file), text);
  } catch (cause) {
    throw new YavmError('YAVM_E_REPORT', `${path}: what the test left cannot be kept`, { cause });
  }
  return path;
}
