/**
 * The recorded bus of upstream's supervisor is played to ours, a process each. What ours sends is compared by meaning
 * with what the real one sent; where it may differ, and why, is listed in test/lib/replay-exceptions.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { buildAgreement } from '../../host/node/agreement-file.ts';
import { DEFAULT_VECTOR } from '../../host/usage/counters.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { noRecordings, recordingNames } from '../lib/gsb-recordings.ts';
import { startServer } from '../lib/http-server.ts';
import { EXCEPTIONS, type Exception, isExcepted } from '../lib/replay-exceptions.ts';
import { callsOf, differences, meaningOf, streamOrder } from '../lib/replay-meaning.ts';
import { activityOf, readScenario, type Step, usageOf, withoutCommand } from '../lib/replay-recording.ts';
import { ReplayRouter } from '../lib/replay-router.ts';
import { NOT_PLAYED, PLAYED, type Scenario } from '../lib/replay-scenarios.ts';
import type { ReplaySettings } from '../lib/replay-supervisor.ts';

const PROGRAM = resolve('test/lib/replay-supervisor.ts');
/** Scenarios at a time: most of their time is a process's start, or waiting. */
const JOBS = 3;
const used = new Set<Exception>();

t.test('the recordings', { skip: noRecordings, jobs: JOBS, buffered: false }, async (t) => {
  for (const [name, scenario] of Object.entries(PLAYED)) t.test(name, (t) => replay(t, name, scenario));
});

t.test('every recording is played, or it is said why not', { skip: noRecordings }, async (t) => {
  const played = Object.entries(PLAYED).map(([name, { recording = name }]) => recording);
  t.strictSame([...new Set([...played, ...Object.keys(NOT_PLAYED)])].sort(), recordingNames());
});

t.test('every exception was met', { skip: noRecordings }, async (t) => {
  const stale = EXCEPTIONS.filter((exception) => !used.has(exception) && !exception.byPace);
  t.strictSame(
    stale.map(({ why }) => why),
    [],
  );
});

async function replay(t: Test, name: string, scenario: Scenario): Promise<void> {
  const { vector = DEFAULT_VECTOR, exitCode = 0, recording = name, missing, without } = scenario;
  const recorded = readScenario(recording);
  const steps = without === undefined ? recorded : withoutCommand(recorded, without);
  const router = new ReplayRouter(steps, scenario);
  t.teardown(() => router.close());
  const folder = socketFolder(t);
  const socket = join(folder, 'gsb.sock');
  await router.listen(socket);
  const web = missing && (await serveTransfers(t, missing));
  const settings = { ...settingsFor(folder, steps, scenario), server: web?.host };
  const child = start(t, folder, socket, settings);
  const exited = once(child, 'exit');
  await router.play({
    signal: (signal) => void child.kill(signal),
    open: (call) => void child.send(call),
    exited,
  });
  t.strictSame(await exited, exitCode === null ? [null, 'SIGKILL'] : [exitCode, null], 'how it ends');
  compare(t, name, steps, router.conversation, vector);
  checkUsage(t, usageOf(router.conversation), vector);
  if (recording === 'transfer')
    t.strictSame(web?.uploads, new Map([['/put.bin', DATA]]), 'what was uploaded');
}

/** Of the recorded server, and of the recorded publisher. */
const DATA = Buffer.from(Array.from({ length: 50_000 }, (_, index) => 7 * index));

/** `/in.bin`, and what is uploaded; for all else the page that servers have. */
async function serveTransfers(
  t: Test,
  missing: number,
): Promise<{ host: string; uploads: Map<string, Buffer> }> {
  const uploads = new Map<string, Buffer>();
  const { origin } = await startServer(t, async (request, response) => {
    if (request.method === 'PUT') {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      uploads.set(request.url ?? '', Buffer.concat(pieces));
      response.end();
    } else if (request.url === '/in.bin') response.end(DATA);
    else response.writeHead(missing).end('Not found');
  });
  return { host: origin.replace('http://', ''), uploads };
}

function settingsFor(folder: string, steps: readonly Step[], scenario: Scenario): ReplaySettings {
  const { vector = DEFAULT_VECTOR, memoryLimit, manifest, runtime } = scenario;
  const [work, cache, agreement] = ['work', 'cache', 'agreement.json'].map((file) => join(folder, file)) as [
    string,
    string,
    string,
  ];
  mkdirSync(work);
  const terms = {
    requestorId: `0x${'1'.repeat(40)}`,
    providerId: `0x${'2'.repeat(40)}`,
    usageVector: vector,
    limits: { memoryGib: memoryLimit ?? 1, storageGib: 1, cores: 1 },
    manifest: manifest && Buffer.from(JSON.stringify(manifest)).toString('base64'),
  };
  writeFileSync(agreement, JSON.stringify(buildAgreement(terms)));
  return {
    ...activityOf(steps),
    ...runtime,
    agreement,
    work,
    cache,
    capHandoff: memoryLimit === undefined,
  };
}

function start(t: Test, folder: string, socket: string, settings: ReplaySettings): ChildProcess {
  const child = spawn(process.execPath, [...process.execArgv, PROGRAM, JSON.stringify(settings)], {
    cwd: settings.work,
    env: { ...process.env, GSB_URL: `unix:${socket}`, EXE_UNIT_LOG_DIR: join(folder, 'logs') },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  return child;
}

function compare(
  t: Test,
  name: string,
  theirs: readonly Step[],
  ours: readonly Step[],
  vector: readonly string[],
): void {
  const found = differences(meaningOf(theirs, vector), meaningOf(ours, vector));
  const unexplained = found.filter((difference) => {
    const exceptions = EXCEPTIONS.filter((exception) => isExcepted(exception, name, difference));
    for (const exception of exceptions) used.add(exception);
    return exceptions.length === 0;
  });
  t.strictSame(unexplained, [], 'it says what the recorded one said');
  const streams = callsOf(ours).filter(({ streams }) => streams);
  for (const [index, recorded] of callsOf(theirs)
    .filter(({ streams }) => streams)
    .entries()) {
    const [a, b] = [recorded, streams[index] ?? recorded].map(streamOrder) as [string[], string[]];
    t.strictSame(
      b.filter((event) => a.includes(event)),
      a.filter((event) => b.includes(event)),
      `${recorded.name}: its events in order`,
    );
  }
}

/** Vectors of the agreement's length, that never fall. */
function checkUsage(t: Test, reports: readonly number[][], vector: readonly string[]): void {
  for (const [index, values] of reports.entries()) {
    t.equal(values.length, vector.length);
    const before = reports[index - 1] ?? [];
    t.ok(
      values.every((value, at) => value >= (before[at] ?? 0)),
      'it never falls',
    );
  }
}
