/** The second's beat of an activity: usage is read, held against limits and reported. */

/** Between two ticks, milliseconds. */
const INTERVAL = 1000;

/**
 * Calls `tick` each second, counted from the process's start. Ticks that could not run (the machine slept) are not made
 * up for. Returns how to stop.
 * @param sinceStart Milliseconds since the process's start.
 */
export function everySecond(tick: () => void, sinceStart: number = performance.now()): () => void {
  let timer = setTimeout(
    () => {
      timer = setInterval(tick, INTERVAL);
      tick();
    },
    Math.max(0, INTERVAL - sinceStart),
  );
  return () => clearTimeout(timer);
}
