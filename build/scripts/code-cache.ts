/**
 * V8's code of the host's scripts, made at the build: the functions that a start runs are in the program compiled. A
 * start of `ya-vm --help` compiles for 40 ms otherwise, longer than Node itself takes.
 *
 * The code comes from a run of the same Node with the same options, which prints every command's help and forgets it.
 * It holds no machine code, so that it fits any CPU, and V8 refuses what does not fit. A fixed seed (V8 leaves it out of
 * what it compares) makes the same bytes each time.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from '../tool.ts';
import { LOADER } from './loader.ts';

export interface CodeCacheInputs {
  node: string;
  /** Options that the program starts Node with: code of other options would not fit. */
  options: readonly string[];
  /** Folder of the scripts. */
  scripts: string;
  /** The script that is the command line, without its ending. */
  entry: string;
  /** Command lines that are run. None may do more than write to standard output and standard error. */
  commands: readonly (readonly string[])[];
  /** For what is in between. */
  work: string;
  /** Folder for the code: a file for each script, of its name. */
  output: string;
}

/** @throws when the run fails */
export async function buildCodeCache(inputs: CodeCacheInputs): Promise<void> {
  const { node, options, scripts, work, output } = inputs;
  const trainer = join(work, 'code-cache.cjs');
  mkdirSync(output, { recursive: true });
  writeFileSync(trainer, trainerScript(inputs));
  // An environment of its own: what this machine has must not show in the code.
  await runTool('env', [
    ...['-i', `HOME=${work}`, `XDG_CACHE_HOME=${work}`, `YAVM_ASSETS=${work}`],
    ...['YAVM_QEMU=/nonexistent', 'LANG=C', 'TERM=dumb'],
    ...[node, ...options, '--random-seed=1', trainer],
  ]);
  rmSync(trainer);
  const made = readdirSync(output);
  const missing = readdirSync(scripts).filter((name) => !made.includes(name));
  if (missing.length > 0) throw new Error(`no code of ${missing[0]} was made`);
}

/**
 * Runs the commands one after the other in one process: each time a command line ends it, the entry starts anew. Then
 * the code of all scripts is written; of those that no command has loaded, what compiling them gives.
 */
function trainerScript({ scripts, entry, commands, output }: CodeCacheInputs): string {
  return `'use strict';
const fs = require('node:fs');
const v8 = require('node:v8');
const textOf = (name) => fs.readFileSync(${JSON.stringify(`${scripts}/`)} + name, 'latin1');
const codeOf = () => undefined;
const here = 'file:///ya-vm/program.cjs';
const scripts = new Map();
const compiled = (name, script) => scripts.set(name, script);
${LOADER}
const entry = '${entry}.mjs';
const commands = ${JSON.stringify(commands)};
const { exit } = process;
for (const each of [process, process.stdout, process.stderr]) each.setMaxListeners(0);
// Nothing is written that depends on who reads.
for (const each of [process.stdout, process.stderr]) each._write = (bytes, encoding, done) => done();
// What ran once stays compiled until the end. V8 compares options as they are when the code is written.
v8.setFlagsFromString('--no-flush-bytecode');
process.exit = () => setImmediate(next);
next();
function next() {
  const words = commands.shift();
  if (words === undefined) return finish();
  process.argv = [process.argv[0], process.argv[1], ...words];
  modules.delete(entry);
  const script = scripts.get(entry);
  if (script) rerun(script);
  else load(entry);
}
function rerun(script) {
  const module = { exports: {} };
  script.runInThisContext()(module, module.exports, find, '/ya-vm', '/ya-vm/' + entry, here);
}
function finish() {
  v8.setFlagsFromString('--flush-bytecode');
  for (const name of fs.readdirSync(${JSON.stringify(scripts)}).sort()) {
    const script = scripts.get(name) ?? compile(name);
    fs.writeFileSync(${JSON.stringify(`${output}/`)} + name, script.createCachedData());
  }
  exit.call(process, 0);
}
`;
}
