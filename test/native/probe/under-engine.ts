/** The transcript, printed by the guest's engine, a line each as JSON. */
import type { Probe } from './show.ts';
import { transcript } from './transcript.ts';

declare const yavmEngine: { collectGarbage(): void; exit(code: number): void };
const probe = (globalThis as unknown as { yavmNative: Probe }).yavmNative;

async function collect(): Promise<void> {
  yavmEngine.collectGarbage();
  await new Promise((resolve) => setTimeout(resolve, 1));
}

void transcript(probe, collect).then((lines) => {
  for (const line of lines) console.log(JSON.stringify(line));
});
