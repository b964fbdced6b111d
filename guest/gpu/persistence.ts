/** Keeps NVIDIA cards started between programs: without it each first use costs seconds, and settings are lost. */
import type { GpuContext } from './context.ts';
import { PLACE } from './libraries.ts';
import { findInRoot, runInRoot } from './tool.ts';

/** By preference: the daemon, which returns when its cards are up; the tool, whose way is deprecated and works. */
const TOOLS = [
  [`${PLACE}/bin/nvidia-persistenced`, '--uvm-persistence-mode'],
  [`${PLACE}/bin/nvidia-smi`, '-pm', '1'],
];

/** Milliseconds until cards are up: eight of a data centre's took 100 s (nvrc allows 120). */
const DEADLINE = 120_000;

/** Without a tool in the layer nothing happens; one that fails is a warning. */
export async function keepAwake(context: GpuContext): Promise<void> {
  for (const argv of TOOLS) {
    if (findInRoot(context, [argv[0] as string]) === null) continue;
    const said = await runInRoot(context, argv, DEADLINE);
    if (said === null) return;
    context.warn(`/${argv[0]} ${said}: cards start anew with each program`);
  }
}
