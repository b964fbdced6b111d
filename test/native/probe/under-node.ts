/** The transcript, printed by Node (`node --expose-gc under-node.ts ADDON.node`), a line each as JSON. */
import { createRequire } from 'node:module';
import type { Probe } from './show.ts';
import { transcript } from './transcript.ts';

const probe = createRequire(import.meta.url)(process.argv[2] as string) as Probe;

/** V8 calls finalizers from tasks of their own, after the collection. */
async function collect(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

void transcript(probe, collect).then((lines) => {
  for (const line of lines) console.log(JSON.stringify(line));
});
