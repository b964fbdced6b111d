/**
 * What a GSB router does, as tests that the embedded one and the real one must pass alike (exe-unit.md section 1).
 * Nothing here knows which of them it talks to.
 */
import type { Test } from 'tap';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { CALL_CASES } from './router-calls.ts';
import { NAME_CASES } from './router-names.ts';

/** Milliseconds. */
export interface RouterTimes {
  pingInterval?: number;
  pingTimeout?: number;
  stalledAfter?: number;
}

/** Starts a router that ends with the test. */
export type StartRouter = (t: Test, times?: RouterTimes) => Promise<GsbAddress>;

export interface Case {
  name: string;
  times?: RouterTimes;
  run(t: Test, address: GsbAddress): Promise<void>;
}

/** Runs all cases, each with a router of its own. */
export function routerSuite(t: Test, start: StartRouter): void {
  for (const { name, times, run } of [...NAME_CASES, ...CALL_CASES]) {
    t.test(name, async (t) => run(t, await start(t, times)));
  }
}
