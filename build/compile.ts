/** Compiles sources to objects, each only when its command or a file that it reads has changed. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { ROOT, runTool } from './tool.ts';

/** Objects and other results on the way. */
export const OBJECTS = join(ROOT, 'build/out/obj');

/** One object file. */
export interface Unit {
  /** Compiler, `musl-gcc`. */
  compiler: string;
  /** Its flags, without source and output. */
  flags: string[];
  source: string;
  object: string;
}

/** What an object was made from; lies beside it, or, for a result elsewhere, under OBJECTS. */
interface Record {
  command: string;
  /** SHA-256 by file: the source and every header. */
  inputs: { [file: string]: string };
}

/** Contents by file name, as digests; files do not change while a build runs. */
const digests = new Map<string, string>();

/** Makes this process read files anew: they have changed while it ran. */
export function forgetFiles(): void {
  digests.clear();
}

function digestOf(file: string): string {
  let digest = digests.get(file);
  if (digest === undefined) {
    digest = existsSync(file) ? createHash('sha256').update(readFileSync(file)).digest('hex') : 'missing';
    digests.set(file, digest);
  }
  return digest;
}

function recordFile(output: string): string {
  if (output.startsWith(`${OBJECTS}/`)) return `${output}.json`;
  return join(OBJECTS, 'elsewhere', `${relative(ROOT, output).replaceAll('/', '+')}.json`);
}

/** Nothing is remembered of files outside the repository: they are some test's, and gone soon. */
function writeRecord(output: string, record: Record): void {
  if (relative(ROOT, output).startsWith('..')) return;
  mkdirSync(dirname(recordFile(output)), { recursive: true });
  writeFileSync(recordFile(output), JSON.stringify(record));
}

function readRecord(unit: Unit): Record | null {
  try {
    return JSON.parse(readFileSync(recordFile(unit.object), 'utf8')) as Record;
  } catch {
    return null; // Never compiled, or cut short.
  }
}

function isCurrent(unit: Unit, command: string): boolean {
  const record = readRecord(unit);
  if (record?.command !== command || !existsSync(unit.object)) return false;
  return Object.entries(record.inputs).every(([file, digest]) => digestOf(file) === digest);
}

/** The files that a make rule, as gcc's -MF writes it, names after the colon. */
export function parseDependencies(rule: string): string[] {
  const joined = rule.replaceAll('\\\n', ' ');
  const names = joined.slice(joined.indexOf(': ') + 1).match(/(?:\\.|[^\s\\])+/g) ?? [];
  return [...new Set(names.map((name) => name.replaceAll('\\', '')))].sort();
}

async function compileOne(unit: Unit): Promise<void> {
  const command = [unit.compiler, ...unit.flags].join(' ');
  if (isCurrent(unit, command)) return;
  mkdirSync(dirname(unit.object), { recursive: true });
  const [made, rule] = [temporary(unit.object), temporary(`${unit.object}.d`)];
  await runTool(unit.compiler, [...unit.flags, '-MD', '-MF', rule, '-c', unit.source, '-o', made]);
  const inputs = parseDependencies(readFileSync(rule, 'utf8')).map((file) => [file, digestOf(file)]);
  rmSync(rule);
  renameSync(made, unit.object);
  const record: Record = { command, inputs: Object.fromEntries(inputs) };
  writeRecord(unit.object, record);
}

/**
 * Brings objects up to date, as many at a time as there are processors.
 * @returns their names, in the order given.
 * @throws {ToolError} with the compiler's messages.
 */
export async function compileAll(units: Unit[]): Promise<string[]> {
  const waiting = [...units];
  const worker = async () => {
    for (let unit = waiting.shift(); unit !== undefined; unit = waiting.shift()) await compileOne(unit);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return units.map((unit) => unit.object);
}

/** A name beside `file` for what is not complete yet; of this process, so that two builds do not meet. */
function temporary(file: string): string {
  return `${file}.${process.pid}.part`;
}

/**
 * Runs `make(file)`, which writes `file`, unless `output` is there and was made by the same `command` from `inputs`
 * as they are now; then names the file `output`. For steps that are no compilation: a link, a conversion.
 */
export async function makeOnce(
  output: string,
  command: string,
  inputs: string[],
  make: (file: string) => Promise<unknown>,
): Promise<void> {
  const unit: Unit = { compiler: '', flags: [], source: '', object: output };
  for (const file of inputs) digests.delete(file); // They may have been made a moment ago.
  if (isCurrent(unit, command)) return;
  mkdirSync(dirname(output), { recursive: true });
  const made = temporary(output);
  await make(made);
  renameSync(made, output);
  const record: Record = {
    command,
    inputs: Object.fromEntries(inputs.map((file) => [file, digestOf(file)])),
  };
  writeRecord(output, record);
}
