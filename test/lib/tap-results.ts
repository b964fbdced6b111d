/** Reads the TAP that one test file prints, and counts what it asserts. */
import { Parser, type Result, type TapError } from 'tap-parser';

/** One failed assertion, or a test that failed by itself (a time-out, a wrong plan). */
export interface Failure {
  /** Names of the tests around it and its own, `outer > inner > assertion`. */
  name: string;
  /** Details as tap gives them: `diff`, `at`, `stack` … */
  details: Record<string, unknown>;
}

export interface Skip {
  name: string;
  reason: string;
}

export interface TapResults {
  /** Assertions that passed. A test that groups others is not counted beside them. */
  passed: number;
  failures: Failure[];
  skips: Skip[];
}

/** Feed it the bytes as they come, then call `finish`. */
export class TapReader {
  readonly #parser = new Parser();
  readonly #results: TapResults = { passed: 0, failures: [], skips: [] };

  constructor() {
    this.#listen(this.#parser, []);
  }

  write(chunk: Uint8Array): void {
    this.#parser.write(chunk);
  }

  /** The whole result. A stream that stopped inside a test, or that breaks its plan, has a failure for it. */
  finish(): TapResults {
    this.#parser.end();
    return this.#results;
  }

  #listen(parser: Parser, path: string[]): void {
    /** Failures before the subtest that is being read: its own closing line adds one only when nothing inside did. */
    let failuresBefore = 0;
    let resultsBefore = 0;
    parser.on('child', (child: Parser) => {
      failuresBefore = this.#results.failures.length;
      resultsBefore = this.#count();
      this.#listen(child, [...path, child.name]);
    });
    parser.on('assert', (result: Result) => {
      if (!result.closingTestPoint) this.#leaf(result, path);
      else if (!result.ok && this.#results.failures.length === failuresBefore) this.#fail(result, path);
      else if (result.ok && this.#count() === resultsBefore)
        this.#leaf({ ...result, skip: result.skip || 'asserts nothing' }, path);
    });
    parser.on('complete', (results: { failures: TapError[]; bailout: boolean | string }) => {
      for (const failure of results.failures)
        if ('tapError' in failure && failure.tapError) this.#fail(failure, path);
      if (results.bailout) this.#fail({ name: `bailed out: ${results.bailout}` }, path);
    });
  }

  #count(): number {
    return this.#results.passed + this.#results.failures.length + this.#results.skips.length;
  }

  #leaf(result: Pick<Result, 'ok' | 'name' | 'skip' | 'todo' | 'diag'>, path: string[]): void {
    const excuse = result.skip || result.todo;
    if (excuse)
      this.#results.skips.push({
        name: [...path, result.name].join(' > '),
        reason: excuse === true ? 'no reason given' : excuse,
      });
    else if (result.ok) this.#results.passed++;
    else this.#fail(result, path);
  }

  #fail(what: { name?: string; tapError?: string | null; diag?: unknown }, path: string[]): void {
    const name = [...path, what.name ?? what.tapError ?? 'unknown'].join(' > ');
    const details = {
      ...(what.tapError ? { tap: what.tapError } : {}),
      ...(what.diag as Record<string, unknown> | null),
    };
    this.#results.failures.push({ name, details });
  }
}
