/** Times that an issue demands. A machine that does other things besides may stand still for seconds: that is no failure. */
import { soak } from './scale.ts';

/** Room of an ordinary run: times the demanded time, and milliseconds at least. */
const FACTOR = 5;
const LEAST = 30_000;

interface Judge {
  ok(value: unknown, what: string): unknown;
  comment(text: string): unknown;
}

/** The longest that is let pass where `demanded` milliseconds are asked for: that in a soak, much more else. */
export function roomFor(demanded: number): number {
  return soak ? demanded : Math.max(FACTOR * demanded, LEAST);
}

/** For a supervisor to end in order before it is killed, milliseconds; upstream gives it 5 s. */
export const SUPERVISOR_ENDS = roomFor(5000);

/** Tells how long `what` took, and fails when it took longer than there is room for. Null: it did not happen. */
export function tookAtMost(t: Judge, what: string, milliseconds: number | null, demanded: number): void {
  const room = roomFor(demanded);
  const took = milliseconds === null ? 'never' : `${Math.round(milliseconds)} ms`;
  t.comment(`${what}: ${took}; ${demanded} ms are demanded`);
  t.ok(milliseconds !== null && milliseconds < room, `${what}: ${took}, of ${room} ms`);
}
