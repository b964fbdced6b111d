/** What a VM takes of this host, as its kernel counts it. */
import { isAlive } from '../lib/process.ts';
import type { VmRecord } from '../runtime/types.ts';
import { readProcessUsage } from '../usage/process.ts';

export interface VmUsage {
  /** Of QEMU, seconds. */
  cpuSeconds: number;
  /** Bytes that are this VM's alone. */
  memory: number;
  /** Bytes of files that other VMs have in memory too, once for all of them: its template, QEMU. */
  shared: number;
}

/** Null: its QEMU is gone. */
export function usageOfVm({ qemu, start }: Pick<VmRecord, 'qemu' | 'start'>): VmUsage | null {
  const usage = qemu === null ? null : readProcessUsage(qemu.pid, start);
  // Looked at after it was read: then it was this very process.
  if (usage === null || qemu === null || !isAlive(qemu)) return null;
  const { cpuSeconds, memory, shared } = usage;
  return { cpuSeconds, memory, shared };
}
