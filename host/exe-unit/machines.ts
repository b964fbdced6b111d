/** What an activity's VMs have used, those that ended included. */
import type { Vm } from '../runtime/vm.ts';
import type { VmEnd } from '../runtime/vm-end.ts';
import { readProcessUsage } from '../usage/process.ts';
import type { RuntimeUsage } from './types.ts';

/** What of a VM is counted. */
export type CountedVm = Pick<Vm, 'pid' | 'ended' | 'diskAllocated'>;

/** Sums never fall: a machine that is gone counts with what was seen of it last. */
export class Machines {
  /** CPU seconds of machines that have ended. */
  #ended = 0;
  /** Of the others, CPU seconds as last seen. */
  readonly #running = new Map<CountedVm, number>();
  /** Bytes. */
  #memoryPeak = 0;

  /** From now on the machine is counted. */
  add(vm: CountedVm, onEnd: (end: VmEnd) => void): void {
    this.#running.set(vm, 0);
    void vm.ended.then((end) => {
      this.#ended += Math.max(end.cpuSeconds, this.#running.get(vm) ?? 0);
      this.#running.delete(vm);
      onEnd(end);
    });
  }

  /** Of all machines so far, one that is just being stopped included; without the network. */
  usage(): Omit<RuntimeUsage, 'networkIn' | 'networkOut'> & { memoryPeak: number } {
    const usage = { cpuSeconds: this.#ended, memory: 0, memoryPeak: 0, storage: 0 };
    for (const [vm, before] of this.#running) {
      const reading = readProcessUsage(vm.pid);
      const cpuSeconds = Math.max(before, reading?.cpuSeconds ?? 0);
      this.#running.set(vm, cpuSeconds);
      usage.cpuSeconds += cpuSeconds;
      usage.memory += reading?.memory ?? 0;
      usage.memoryPeak += reading?.memoryPeak ?? 0;
      usage.storage += vm.diskAllocated;
    }
    this.#memoryPeak = usage.memoryPeak = Math.max(this.#memoryPeak, usage.memoryPeak);
    return usage;
  }
}
