/** What idle VMs take of the host's memory together, from one template and booted. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Vm } from '../../host/runtime/index.ts';
import { startTestVm } from '../lib/vm.ts';
import type { BenchContext } from './context.ts';
import type { Figure } from './figure.ts';
import { memoryOf } from './memory.ts';
import { withOwner } from './owner.ts';

const VMS = 8;
/** From the last VM's start until the guests have come to rest, milliseconds. */
const SETTLE = 3000;
const MB = 1e6;

export async function measureMemory({ accel, say }: BenchContext, env: NodeJS.ProcessEnv): Promise<Figure[]> {
  const takenBy = async (start: 'cold' | 'template') => {
    const taken = await withOwner(async (owner) => {
      const vms: Vm[] = [];
      while (vms.length < VMS) vms.push(await startTestVm(owner, { accel, start }, { env }));
      await delay(SETTLE);
      return vms.reduce((sum, { pid }) => sum + memoryOf(pid).pss, 0);
    });
    say(`${VMS} VMs, ${start}: ${(taken / MB).toFixed(0)} MB`);
    return taken;
  };
  const template = await takenBy('template');
  const cold = await takenBy('cold');
  const what = `${VMS} idle VMs, PSS of QEMU`;
  return [
    { what: `${what}: template / cold`, value: template / cold, unit: '×', limit: { atMost: 0.4 } },
    { what: `${what}: template`, value: template / MB, unit: 'MB' },
    { what: `${what}: cold`, value: cold / MB, unit: 'MB' },
  ];
}
