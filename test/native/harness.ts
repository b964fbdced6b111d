/**
 * Runs the addon's cases under either host: nothing here needs Node. A case fails by throwing, and by leaving
 * descriptors open.
 */
import type { Native, NativeError } from '../../native/face.ts';

/** Longest that one case may take, milliseconds: a case that waits for what never comes. */
const DEADLINE = { ordinary: 150_000, soak: 900_000 };

/** What a case checks with; each call counts. */
export interface Assert {
  ok(value: unknown, message: string): void;
  /** Equal by structure: numbers, strings, arrays and plain objects. */
  equal(actual: unknown, expected: unknown, message: string): void;
  /** The call throws a system error with at least these fields. */
  fails(call: () => unknown, expected: Partial<NativeError>, message: string): void;
  /** The call throws a TypeError whose message matches. */
  rejects(call: () => unknown, pattern: RegExp, message: string): void;
  /** Ends the case: this environment cannot do it. */
  skip(reason: string): never;
  /** Full counts were asked for (`make soak`). */
  soak: boolean;
  /** Whether the host is the guest's engine. */
  engine: boolean;
}

export interface Case {
  name: string;
  run(native: Native, assert: Assert): void | Promise<void>;
}

export interface CaseResult {
  name: string;
  ok: boolean;
  checks: number;
  /** Why it was left out. */
  skip?: string;
  error?: string;
}

class Skipped extends Error {}

/** Runs cases one after the other. */
export async function runCases(
  cases: Case[],
  native: Native,
  options: { soak: boolean; engine: boolean },
  report: (result: CaseResult) => void,
): Promise<void> {
  for (const one of cases) report(await runCase(one, native, options));
}

async function runCase(
  { name, run }: Case,
  native: Native,
  options: { soak: boolean; engine: boolean },
): Promise<CaseResult> {
  const assert = makeAssert(options);
  const before = openDescriptors(native);
  try {
    await withDeadline(async () => run(native, assert), options.soak ? DEADLINE.soak : DEADLINE.ordinary);
    const left = openDescriptors(native).filter((fd) => !before.includes(fd));
    if (left.length > 0) throw new Error(`descriptors left open: ${left.join(', ')}`);
    if (assert.count() === 0) throw new Error('the case checked nothing');
    return { name, ok: true, checks: assert.count() };
  } catch (error) {
    if (error instanceof Skipped) return { name, ok: true, checks: assert.count(), skip: error.message };
    return { name, ok: false, checks: assert.count(), error: describe(error) };
  }
}

function withDeadline(run: () => Promise<void>, deadline: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not done after ${deadline} ms`)), deadline);
    run().then(
      () => {
        clearTimeout(timer);
        resolve();
      },
      (error) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/** Descriptors of this process with what they refer to, less the one that lists them. */
function openDescriptors(native: Native): string[] {
  const fd = native.open('/proc/self/fd', 0o200000, 0);
  const names = native.readDirectory(fd).map((entry) => entry.name);
  const links = names
    .filter((name) => name !== String(fd))
    .map((name) => `${name} → ${native.readlink(`/proc/self/fd/${name}`)}`);
  native.close(fd);
  return links;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.stack ?? '';
  return stack.includes(error.message) ? stack : `${error.message}\n${stack}`;
}

function makeAssert(options: { soak: boolean; engine: boolean }): Assert & { count(): number } {
  let checks = 0;
  const ok = (value: unknown, message: string): void => {
    checks++;
    if (!value) throw new Error(message);
  };
  const thrownBy = (call: () => unknown, message: string): unknown => {
    checks++;
    try {
      call();
    } catch (error) {
      return error;
    }
    throw new Error(`${message}: nothing was thrown`);
  };
  return {
    ...options,
    count: () => checks,
    ok,
    equal: (actual, expected, message) =>
      ok(same(actual, expected), `${message}: got ${show(actual)}, not ${show(expected)}`),
    fails(call, expected, message) {
      const error = thrownBy(call, message) as NativeError;
      for (const [key, value] of Object.entries(expected)) {
        ok(
          same(error[key as keyof NativeError], value),
          `${message}: ${key} of "${error.message}" is ${show(error[key as keyof NativeError])}, not ${show(value)}`,
        );
      }
      ok(error instanceof Error && error.errno > 0, `${message}: a positive errno in "${error.message}"`);
    },
    rejects(call, pattern, message) {
      const error = thrownBy(call, message) as Error;
      ok(error instanceof TypeError, `${message}: "${error.message}" is a TypeError`);
      ok(pattern.test(error.message), `${message}: "${error.message}" does not match ${pattern}`);
    },
    skip(reason) {
      throw new Skipped(reason);
    },
  };
}

function same(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return false;
  const keys = Object.keys(left);
  return (
    keys.length === Object.keys(right).length &&
    keys.every((key) => same((left as Record<string, unknown>)[key], (right as Record<string, unknown>)[key]))
  );
}

function show(value: unknown): string {
  return typeof value === 'number' || value === undefined ? String(value) : JSON.stringify(value);
}
