/**
 * One step of the build: inputs → outputs. A step whose inputs have the same contents as last time, and whose outputs
 * are as it left them, is not run: that is all the incrementality there is.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface Step {
  /** Short, unique; names the stamp. */
  name: string;
  /** What it does, for the person who waits. */
  says: string;
  /** Files, or folders taken whole, from the repository's top. */
  inputs: string[];
  /** Files that it makes. */
  outputs: string[];
  /** Names of steps whose outputs it reads; they run before it. */
  after: string[];
  run: () => Promise<void>;
}

/** What is known of a step's last run. */
interface Stamp {
  /** Digest of the inputs. */
  key: string;
  /** Size in bytes and mtime in milliseconds of each output. */
  outputs: Record<string, string>;
}

/** Files and folders that are outputs inside input folders. */
const NOT_INPUT = new Set(['native/addon/build', 'build/out', 'build/cache']);

/** A folder where stamps are kept. */
const STAMPS = 'build/cache/steps';

/**
 * Runs the steps that are out of date, each after those that it names. Steps that do not depend on each other
 * run together.
 * @returns the names of the steps that ran.
 * @throws the error of a step that failed (an AggregateError when several did), once the steps that were running have
 * ended. Those after a failed one do not start.
 */
export async function runSteps(steps: Step[], say: (line: string) => void): Promise<string[]> {
  const ran: string[] = [];
  const done = new Map<string, Promise<void>>();
  for (const step of steps) {
    const before = step.after.map((name) => done.get(name) ?? unknown(step, name));
    done.set(
      step.name,
      Promise.all(before).then(() => runStep(step, say, ran)),
    );
  }
  const results = await Promise.allSettled(done.values());
  // A step that waited for a failed one has failed with the same error.
  const errors = new Set(results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : [])));
  if (errors.size === 1) throw [...errors][0];
  if (errors.size > 1) throw new AggregateError(errors, [...errors].map(messageOf).join('\n'));
  return ran;
}

async function runStep(step: Step, say: (line: string) => void, ran: string[]): Promise<void> {
  const key = digest(step.inputs);
  if (isCurrent(step, key)) return;
  say(step.says);
  const started = performance.now();
  await step.run();
  const missing = step.outputs.filter((file) => !existsSync(file));
  if (missing.length > 0) throw new Error(`step "${step.name}" did not make ${missing.join(', ')}`);
  writeStamp(step, { key, outputs: Object.fromEntries(step.outputs.map((file) => [file, mark(file)])) });
  ran.push(step.name);
  say(`${step.says}: done in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function unknown(step: Step, name: string): never {
  throw new Error(`step "${step.name}" comes after "${name}", which is not among the steps before it`);
}

/** SHA-256 over the names and contents of all files of the inputs. A missing input is a mistake in the table. */
export function digest(inputs: string[]): string {
  const hash = createHash('sha256').update(process.version);
  for (const file of inputs.flatMap(filesOf)) hash.update(`\0${file}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

function filesOf(path: string): string[] {
  if (NOT_INPUT.has(path)) return [];
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesOf(join(path, name)));
}

function isCurrent(step: Step, key: string): boolean {
  const stamp = readStamp(step);
  return (
    stamp?.key === key && step.outputs.every((file) => existsSync(file) && stamp.outputs[file] === mark(file))
  );
}

/** Tells whether a file is the one that was made, without reading it. */
function mark(file: string): string {
  const { size, mtimeMs } = statSync(file);
  return `${size} ${mtimeMs}`;
}

function readStamp(step: Step): Stamp | null {
  try {
    return JSON.parse(readFileSync(stampFile(step), 'utf8')) as Stamp;
  } catch {
    return null; // never run, or a stamp cut short: the step runs again
  }
}

function writeStamp(step: Step, stamp: Stamp): void {
  mkdirSync(dirname(stampFile(step)), { recursive: true });
  writeFileSync(stampFile(step), JSON.stringify(stamp));
}

function stampFile(step: Step): string {
  return join(STAMPS, `${step.name}.json`);
}
