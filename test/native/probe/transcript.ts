/**
 * What the probe addon gives for many calls, as text: the same lines must come from Node and from the guest's engine.
 * Runs under either host.
 */
import { buffers } from './buffers.ts';
import { functions } from './functions.ts';
import { lives, promises } from './lives.ts';
import { objects } from './objects.ts';
import type { Ask, Probe } from './show.ts';
import { values } from './values.ts';

/** Everything, in order. `collect` runs the garbage collector and lets finalizers run. */
export async function transcript(probe: Probe, collect: () => Promise<void>): Promise<string[]> {
  const ask: Ask = (name, ...args) => (probe[name] as Probe[string])(...args);
  const lines = [...values(ask), ...objects(ask, probe), ...functions(ask, probe), ...buffers(ask)];
  for await (const line of lives(ask, collect)) lines.push(line);
  for await (const line of promises(ask)) lines.push(line);
  return lines;
}
