/** Runs one test file in a Node of its own, with a deadline, and reads what it reports. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { resolve } from 'node:path';
import { TapReader, type TapResults } from './tap-results.ts';

export interface FileResult extends TapResults {
  file: string;
  milliseconds: number;
  /** The end of what the file wrote to stderr, for a failure's report. */
  stderr: string;
}

export interface RunOptions {
  /** Seconds, after which the file is stopped and counts as failed. */
  timeout: number;
  /** Where the file's TAP is kept. */
  log: string;
}

/** Kept of a file's stderr, characters. */
const STDERR_TAIL = 8000;
/** Between SIGTERM and SIGKILL to a file that is past its deadline, milliseconds: enough to stop its VMs. */
const GRACE = 10_000;
/** What Node has compiled, for all files and the programs that they start: compiling was half of what most of them took. */
const COMPILED = resolve(import.meta.dirname, '../../build/out/test/compiled');

/**
 * Runs `file`. It fails by what it asserts, and also when it dies, takes too long, or asserts nothing at all:
 * each is a failure of its own in the result.
 */
export async function runFile(file: string, options: RunOptions): Promise<FileResult> {
  const started = performance.now();
  const reader = new TapReader();
  const log = createWriteStream(options.log);
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      NODE_COMPILE_CACHE: COMPILED,
      ...process.env,
      TAP: '1',
      TAP_TIMEOUT: String(options.timeout),
    },
  });
  let stderr = '';
  let late = false;
  child.stdout.on('data', (chunk: Buffer) => {
    reader.write(chunk);
    log.write(chunk);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  const timers = [setTimeout(stop, options.timeout * 1000 + GRACE)];
  function stop(): void {
    late = true;
    child.kill('SIGTERM');
    timers.push(setTimeout(() => child.kill('SIGKILL'), GRACE));
  }
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve([code, signal]));
  });
  timers.forEach(clearTimeout);
  log.end();
  const results = reader.finish();
  const end = endingOf(results, code, signal, late ? options.timeout : 0);
  if (end) {
    // That the TAP stops in the middle is then no news.
    results.failures = results.failures.filter((failure) => !/(^|> )no plan$/.test(failure.name));
    results.failures.push({ name: end, details: {} });
  }
  return { file, milliseconds: performance.now() - started, stderr, ...results };
}

/** What is wrong with how a file ended, beyond the assertions that it reported; null when nothing is. */
function endingOf(
  results: TapResults,
  code: number | null,
  signal: string | null,
  late: number,
): string | null {
  if (late) return `still running after ${late} s: stopped`;
  if (signal) return `died of ${signal}`;
  if (code !== 0 && results.failures.length === 0) return `exited with code ${code}`;
  if (results.passed + results.failures.length + results.skips.length === 0) return 'reported no test';
  return null;
}
