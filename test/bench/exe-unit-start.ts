/** From a provider's spawn of ya-vm to the report [Initialized, null] at its node. */
import type { Bench } from './context.ts';
import { startProvider, YA_VM } from './exe-unit-provider.ts';
import { median } from './figure.ts';
import { withOwner } from './owner.ts';

const STARTS = 15;

export const exeUnitStart: Bench = {
  name: 'start',
  what: `ya-vm service-bus, spawn to Initialized, ${STARTS} times`,
  run: ({ accel }) =>
    withOwner(async (owner) => {
      const provider = await startProvider(owner, YA_VM, accel);
      const samples: number[] = [];
      // The first one reads the program from disk.
      for (let round = -1; round < STARTS; round++) {
        const began = performance.now();
        const { activity } = await provider.begin();
        const took = performance.now() - began;
        if (round >= 0) samples.push(took);
        await activity.stop();
      }
      return [
        {
          what: 'spawn → Initialized, median',
          value: median(samples),
          unit: 'ms',
          limit: { atMost: 150 },
        },
        { what: 'spawn → Initialized, fastest', value: Math.min(...samples), unit: 'ms' },
      ];
    }),
};
