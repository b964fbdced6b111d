/** An activity with a stand-in for its VM, for tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Activity, type ActivityLimits } from '../../host/exe-unit/activity.ts';
import type { Clock } from '../../host/exe-unit/clock.ts';
import type { ScriptRules } from '../../host/exe-unit/manifest.ts';
import { parseScript } from '../../host/exe-unit/script.ts';
import type { StatePair } from '../../host/exe-unit/types.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { FakeRuntime } from './fake-runtime.ts';

export interface ActivityFixture {
  activity: Activity;
  runtime: FakeRuntime;
  folder: string;
  /** State pairs as reported. */
  reports: StatePair[];
  /** Takes the script in its JSON form. */
  exec(batchId: string, script: unknown): void;
  /** Results of a batch that ends within 60 s. */
  results(batchId: string, index?: number | null): Promise<ResultItem[]>;
}

export interface ResultItem {
  index: number;
  result: string;
  stdout: Flex;
  stderr: Flex;
  message: string | null;
  isBatchFinished: boolean;
  eventDate: string;
}

export interface EventItem {
  batch_id: string;
  index: number;
  timestamp: string;
  kind: Record<string, Flex>;
}

export interface FixtureOptions {
  limits?: Partial<ActivityLimits>;
  clock?: Clock;
  rules?: ScriptRules | null;
  reportState?(pair: StatePair): Promise<void>;
}

/** Never fires. */
export const never: AbortSignal = new AbortController().signal;

/** Initialized; shut down and removed at the test's end. */
export async function startActivity(
  t: { teardown(cleanup: () => unknown): unknown },
  options: FixtureOptions = {},
): Promise<ActivityFixture> {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-activity-'));
  const runtime = new FakeRuntime();
  const reports: StatePair[] = [];
  const activity = new Activity({
    id: 'a1',
    folder,
    runtime,
    rules: options.rules ?? null,
    async reportState(pair) {
      reports.push(pair);
      await options.reportState?.(pair);
    },
    limits: options.limits,
    clock: options.clock,
    logger: silentLogger,
  });
  t.teardown(async () => {
    await activity.shutdown(2000);
    rmSync(folder, { recursive: true, force: true });
  });
  await activity.initialized();
  return {
    activity,
    runtime,
    folder,
    reports,
    exec: (batchId, script) => activity.exec(batchId, parseScript(script)),
    results: async (batchId, index = null) =>
      (await activity.results(batchId, 60, index, never)) as unknown as ResultItem[],
  };
}

export const deploy = { deploy: {} };
export const start = { start: {} };
export const terminate = { terminate: {} };

/** A run command; both streams captured as `mode` says: default everything at the end. */
export function run(entryPoint: string, args: (string | number)[] = [], mode: object | null = { atEnd: {} }) {
  const capture = mode === null ? {} : { capture: { stdout: mode, stderr: mode } };
  return { run: { entry_point: entryPoint, args: args.map(String), ...capture } };
}

/** Events of a batch, to its end. */
export async function allEvents(activity: Activity, batchId: string): Promise<EventItem[]> {
  const events: EventItem[] = [];
  for await (const event of activity.stream(batchId, never)) events.push(event as unknown as EventItem);
  return events;
}

/** Short form: `2 stdout hi\n`, `2 finished 0`. */
export function brief(events: readonly EventItem[]): string[] {
  return events.map(({ index, kind }) => {
    const [name, value] = Object.entries(kind)[0] as [string, Flex];
    if (name === 'started') return `${index} started`;
    if (name === 'finished') return `${index} finished ${(value as { return_code: number }).return_code}`;
    return `${index} ${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`;
  });
}
