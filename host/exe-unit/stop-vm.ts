/** Ends a VM within a time that the activity's own end has. */
import { sleep } from '../lib/deadline.ts';
import type { Vm } from '../runtime/vm.ts';

/** Parts of a stop's time: for the processes between TERM and KILL, and until the whole machine is killed. */
const PROCESSES_SHARE = 0.4;
const ORDERLY_SHARE = 0.8;
/** Milliseconds for a killed QEMU to be gone. */
const KILLED = 1000;

/** In order, if there is time for it; else, or when it takes too long, by force. */
export async function stopVm(vm: Pick<Vm, 'stop' | 'kill'>, milliseconds: number): Promise<void> {
  if (milliseconds > 0) {
    const patience = new AbortController();
    const late = sleep(milliseconds * ORDERLY_SHARE, patience.signal).catch(() => {});
    await Promise.race([vm.stop({ grace: Math.floor(milliseconds * PROCESSES_SHARE) }), late]);
    patience.abort();
  }
  await Promise.race([vm.kill(), sleep(KILLED)]);
}
