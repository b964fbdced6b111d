import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Batch } from '../../host/exe-unit/batch.ts';
import { OutputCapture } from '../../host/exe-unit/capture.ts';
import { runningCommands } from '../../host/exe-unit/running.ts';
import { parseScript } from '../../host/exe-unit/script.ts';
import { SpoolStore } from '../../host/exe-unit/spool-store.ts';
import type { ScriptCommand } from '../../host/exe-unit/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { FakeClock } from '../lib/fake-clock.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-batch-'));
const store = new SpoolStore({ folder: join(folder, 'spool'), limit: 1e9, logger: silentLogger });
t.teardown(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

const SCRIPT = parseScript([
  { start: { args: ['a'] } },
  { transfer: { from: 'x', to: 'y' } },
  { sign: {} },
]) as [ScriptCommand, ScriptCommand, ScriptCommand];
const OK = { returnCode: 0, message: null };

function newBatch() {
  const batch = new Batch('b1', SCRIPT, 100, new FakeClock());
  const capture = () => new OutputCapture({ mode: 'stream', limit: null, format: 'text' }, 1e6, store);
  return {
    batch,
    begin: (at: 0 | 1 | 2) => batch.started(SCRIPT[at], { stdout: capture(), stderr: capture() }),
  };
}

t.test('the log: marks grow while nothing else comes', async (t) => {
  const { batch, begin } = newBatch();
  const record = begin(0);
  for (const stream of ['stdout', 'stdout', 'stderr', 'stdout'] as const) {
    await batch.output(record, stream, Buffer.from('abc'));
  }
  batch.progress(record, { done: 1, total: null });
  batch.finished(record, OK, false);
  await batch.output(record, 'stdout', Buffer.from('late'));
  batch.progress(record, { done: 2, total: null });
  t.strictSame(
    batch.log.map((entry) => (entry.kind === 'output' ? `${entry.stream} ${entry.to}` : entry.kind)),
    ['started', 'stdout 6', 'stderr 3', 'stdout 9', 'progress', 'finished'],
  );
});

t.test('what is done and what is under way', async (t) => {
  const { batch, begin } = newBatch();
  t.equal(batch.done, 0);
  t.strictSame(runningCommands([batch]), []);
  const first = begin(0);
  t.equal(batch.done, 0);
  t.strictSame(runningCommands([batch]), [{ command: 'Start', params: ['a'] }]);
  batch.finished(first, OK, false);
  t.equal(batch.done, 1);
  begin(1);
  t.strictSame(runningCommands([batch, batch]), [
    { command: 'Transfer', params: ['x', 'y'] },
    { command: 'Transfer', params: ['x', 'y'] },
  ]);
});

t.test('who waits is told once, and can leave', async (t) => {
  const { batch, begin } = newBatch();
  let told = 0;
  batch.onChange(() => told++);
  batch.onChange(() => told++)();
  begin(0);
  batch.ended();
  t.equal(told, 1);
});

t.test('a frozen batch tells nothing any more', async (t) => {
  const { batch, begin } = newBatch();
  const record = begin(0);
  let told = 0;
  batch.onChange(() => told++);
  batch.freeze();
  await batch.output(record, 'stdout', Buffer.from('x'));
  batch.progress(record, { done: 1, total: 1 });
  batch.finished(record, OK, false);
  batch.ended();
  t.equal(told, 0);
  t.notOk(batch.over);
  t.equal(batch.done, 0);
  t.equal(batch.log.length, 1);
});
