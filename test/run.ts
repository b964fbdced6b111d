/**
 * Runs the test suite: `test/run.ts [layer | file]…`, everything by default. One line a file, the details of what
 * failed (there, and once more at the end) and what was skipped, and as the last line
 * `N passed, N failed[, N skipped]`, counted in assertions.
 */
import { mkdirSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { inspect } from 'node:util';
import { LAYERS, type Layer } from './lib/layers.ts';
import { type FileResult, runFile } from './lib/run-file.ts';
import { soak } from './lib/scale.ts';
import { type Job, selectJobs } from './lib/select.ts';

const LOGS = 'build/out/test';
/** Lines shown of one detail of a failure. */
const MOST_DETAIL = 40;

const jobs = selectJobs(process.argv.slice(2));
mkdirSync(LOGS, { recursive: true });
const results: FileResult[] = [];
for (const layer of LAYERS)
  await runLayer(
    layer,
    jobs.filter((job) => job.layer === layer),
  );
report(results);

/** Runs a layer's files, `layer.jobs` at a time. */
async function runLayer(layer: Layer, jobs: Job[]): Promise<void> {
  if (jobs.length === 0) return;
  console.log(`== ${layer.name}`);
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const timeout = soak ? layer.timeout.soak : layer.timeout.ordinary;
      const log = join(LOGS, `${layer.name}-${basename(job.file, '.test.ts')}.tap`);
      const result = await runFile(job.file, { timeout, log });
      results.push(result);
      printFile(result);
    }
  };
  await Promise.all(Array.from({ length: layer.jobs }, worker));
}

function printFile(result: FileResult): void {
  const verdict = result.failures.length > 0 ? 'FAIL' : 'ok  ';
  const seconds = (result.milliseconds / 1000).toFixed(1);
  console.log(`${verdict} ${result.file}: ${tally(result)} (${seconds} s)`);
  for (const failure of result.failures) printFailure(failure);
  if (result.failures.length > 0 && result.stderr)
    console.log(indent(result.stderr.trimEnd(), '       stderr | '));
}

function printFailure(failure: FileResult['failures'][number]): void {
  console.log(`     ✗ ${failure.name}`);
  for (const line of describe(failure.details)) console.log(`       ${line}`);
}

/** A failure's details, the readable ones first; where and why matter, tap's own bookkeeping does not. */
function describe(details: Record<string, unknown>): string[] {
  const lines: string[] = [];
  for (const [key, value] of Object.entries(details)) {
    if (key === 'source' || key === 'compare') continue;
    const text = typeof value === 'string' ? value.trimEnd() : inspect(value, { depth: 4, breakLength: 100 });
    if (text.includes('\n')) lines.push(`${key}:`, ...shorten(text.split('\n')).map((line) => `  ${line}`));
    else lines.push(`${key}: ${text}`);
  }
  return lines;
}

/** The whole is in the file's TAP. */
function shorten(lines: string[]): string[] {
  const rest = lines.length - MOST_DETAIL;
  return rest > 0 ? [...lines.slice(0, MOST_DETAIL), `… ${rest} more lines, in ${LOGS}`] : lines;
}

function report(results: FileResult[]): void {
  const skips = results.flatMap((result) => result.skips.map((skip) => ({ file: result.file, ...skip })));
  if (skips.length > 0) console.log('\nskipped:');
  for (const skip of skips) console.log(`  ${relative('.', skip.file)}: ${skip.name}: ${skip.reason}`);
  const failed = results.filter((result) => result.failures.length > 0);
  // Once more, at the end: who reads a log of CI may be shown no more than that.
  if (failed.length > 0) console.log('\nfailed:');
  for (const result of failed) {
    console.log(`  ${result.file}`);
    for (const failure of result.failures) printFailure(failure);
  }
  const total = { passed: 0, failures: results.flatMap((result) => result.failures), skips };
  for (const result of results) total.passed += result.passed;
  process.exitCode = total.failures.length > 0 || total.passed === 0 ? 1 : 0;
  console.log(`\n${tally(total)}`);
}

function tally(result: { passed: number; failures: unknown[]; skips: unknown[] }): string {
  const skipped = result.skips.length > 0 ? `, ${result.skips.length} skipped` : '';
  return `${result.passed} passed, ${result.failures.length} failed${skipped}`;
}

function indent(text: string, prefix: string): string {
  return text.replace(/^/gm, prefix);
}
