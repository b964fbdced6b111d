/** The addon's suite under the guest's engine: the same cases as under Node. `YAVM_CASE=text` runs those with that text in their name. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { buildEngineTest, compileBytecode } from '../../build/engine.ts';
import { bundle } from '../../build/guest.ts';
import { soak } from '../lib/scale.ts';
import type { CaseResult } from './harness.ts';

// Each case has a deadline of its own.
t.setTimeout(0);

const folder = mkdtempSync(join(tmpdir(), 'yavm-addon-engine-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

t.test('addon under the engine', async (t) => {
  t.setTimeout(0);
  const bytecode = await compileSuite();
  const engine = await buildEngineTest();
  const { results, done, end, errors } = await runSuite(engine, bytecode);
  for (const { name, ok, skip, error, checks } of results) {
    if (skip) t.pass(name, { skip });
    else if (ok) t.pass(`${name} (${checks} checks)`);
    else t.fail(name, { diagnostic: true, error });
  }
  t.equal(end, '0', `the engine ended well${errors && `; it said:\n${errors}`}`);
  t.equal(results.length, done, 'every case was reported');
});

async function compileSuite(): Promise<string> {
  const script = join(folder, 'suite.js');
  const bytecode = join(folder, 'suite.bin');
  await bundle({ entry: join(import.meta.dirname, 'suite-engine.ts'), out: script, test: true });
  await compileBytecode(script, bytecode, 'suite.js');
  return bytecode;
}

interface Outcome {
  results: CaseResult[];
  /** What the suite says it ran; -1 when it did not come that far. */
  done: number;
  /** Exit code, or signal. */
  end: string;
  /** The last of what it wrote on descriptor 2. */
  errors: string;
}

async function runSuite(engine: string, bytecode: string): Promise<Outcome> {
  const args = [bytecode, soak ? 'soak' : 'ci', process.env.YAVM_CASE ?? ''];
  const child = spawn(engine, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? String(code)));
  });
  const outcome: Outcome = { results: [], done: -1, end: '', errors: '' };
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    outcome.errors = `${outcome.errors}${text}`.slice(-16_384);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const result = JSON.parse(line) as CaseResult | { done: number };
    if ('done' in result) outcome.done = result.done;
    else outcome.results.push(result);
  }
  outcome.end = await exited;
  return outcome;
}
