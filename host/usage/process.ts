/** What one process of this host has used, from /proc: CPU time of all its threads, resident memory now and at most. */
import { readFileSync } from 'node:fs';

export interface ProcessUsage {
  /** User and system time, seconds, threads that have ended included. */
  cpuSeconds: number;
  /** Resident now, bytes. */
  memory: number;
  /** Most that was resident so far, bytes. */
  memoryPeak: number;
}

/** Clock ticks a second in /proc: USER_HZ, 100 on every Linux of x86. */
const TICKS = 100;

/** Usage of process `pid`; null when there is none (a zombie has no memory, but still its CPU time). */
export function readProcessUsage(pid: number): ProcessUsage | null {
  return readProcessUsageWith((file) => readFileSync(`/proc/${pid}/${file}`, 'latin1'));
}

/** The same; `read` gives a file of the process's folder. */
export function readProcessUsageWith(read: (file: 'stat' | 'status') => string): ProcessUsage | null {
  try {
    const cpuSeconds = parseCpu(read('stat'));
    const { memory, memoryPeak } = parseMemory(read('status'));
    return { cpuSeconds, memory, memoryPeak };
  } catch {
    return null;
  }
}

/** Fields 14 and 15 of /proc/PID/stat. Field 2, the name, is in parentheses and may hold spaces and parentheses. */
export function parseCpu(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (!Number.isSafeInteger(ticks)) throw new Error('not the text of /proc/PID/stat');
  return ticks / TICKS;
}

/** VmRSS and VmHWM of /proc/PID/status, bytes. */
export function parseMemory(status: string): Pick<ProcessUsage, 'memory' | 'memoryPeak'> {
  const of = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1024;
  const memory = of('VmRSS');
  return { memory, memoryPeak: Math.max(memory, of('VmHWM')) };
}
