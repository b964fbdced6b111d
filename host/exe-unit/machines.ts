/** What an activity's VMs have used, those that ended included. */
import type { Vm } from '../runtime/vm.ts';
import type { VmEnd } from '../runtime/vm-end.ts';
import { MemoryPeak, readProcessUsage } from '../usage/process.ts';
import type { RuntimeUsage } from './types.ts';

/** What of a VM is counted. */
export type CountedVm = Pick<Vm, 'pid' | 'start' | 'ended' | 'diskAllocated'>;

interface Running {
  /** As last seen. */
  cpuSeconds: number;
  memory: MemoryPeak;
}

/** Sums never fall: a machine that is gone counts with what was seen of it last. */
export class Machines {
  /** CPU seconds of machines that have ended. */
  #ended = 0;
  readonly #running = new Map<CountedVm, Running>();
  /** Bytes. */
  #memoryPeak = 0;

  /** From now on the machine is counted. */
  add(vm: CountedVm, onEnd: (end: VmEnd) => void): void {
    this.#running.set(vm, { cpuSeconds: 0, memory: new MemoryPeak(vm.start) });
    void vm.ended.then((end) => {
      this.#ended += Math.max(end.cpuSeconds, this.#running.get(vm)?.cpuSeconds ?? 0);
      this.#running.delete(vm);
      onEnd(end);
    });
  }

  /** Of all machines so far, one that is just being stopped included; without the network. */
  usage(): Omit<RuntimeUsage, 'networkIn' | 'networkOut'> & { memoryPeak: number } {
    const usage = { cpuSeconds: this.#ended, memory: 0, memoryPeak: 0, shared: 0, storage: 0 };
    for (const [vm, seen] of this.#running) {
      const reading = readProcessUsage(vm.pid, vm.start);
      seen.cpuSeconds = Math.max(seen.cpuSeconds, reading?.cpuSeconds ?? 0);
      usage.cpuSeconds += seen.cpuSeconds;
      usage.storage += vm.diskAllocated;
      if (reading === null) continue;
      usage.memory += reading.memory;
      usage.shared += reading.shared;
      usage.memoryPeak += seen.memory.take(reading);
    }
    this.#memoryPeak = usage.memoryPeak = Math.max(this.#memoryPeak, usage.memoryPeak);
    return usage;
  }
}
