/**
 * What one process of this host has used, from /proc: CPU time of all its threads, and the memory that is its own. Pages of
 * files are told apart: programs, and templates of VMs, which all who map them have together.
 */
import { readFileSync } from 'node:fs';

export interface ProcessMemory {
  /** Its own now, bytes: what it has written itself, huge pages included. */
  memory: number;
  /** Pages of files that it maps now, bytes: in memory once, however many processes map them. */
  shared: number;
  /** Most that both were together at a time, bytes, without huge pages. The kernel keeps no peak of one of them. */
  residentPeak: number;
  /** Huge pages that were set aside, bytes; they are in `memory`. */
  huge: number;
}

export interface ProcessUsage extends ProcessMemory {
  /** User and system time, seconds, threads that have ended included. */
  cpuSeconds: number;
}

/** How a VM came to be: by a boot, or from a template, which is a file whose pages it has until it writes to them. */
export type VmStart = 'template' | 'boot';

/** Clock ticks a second in /proc: USER_HZ, 100 on every Linux of x86. */
const TICKS = 100;

/**
 * Usage of process `pid`; null when there is none (a zombie has no memory, but still its CPU time). `start`: how the VM came to
 * be that it runs.
 */
export function readProcessUsage(pid: number, start: VmStart = 'boot'): ProcessUsage | null {
  return readProcessUsageWith((file) => readFileSync(`/proc/${pid}/${file}`, 'latin1'), start);
}

/** The same; `read` gives a file of the process's folder. */
export function readProcessUsageWith(
  read: (file: 'stat' | 'status') => string,
  start: VmStart = 'boot',
): ProcessUsage | null {
  try {
    return { cpuSeconds: parseCpu(read('stat')), ...parseMemory(read('status'), start) };
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

/**
 * The counts of /proc/PID/status. A private mapping's page counts as a file's until it is written to, then as anonymous. Not
 * smaps_rollup: it walks all page tables, each second for each VM, to say the same.
 *
 * Shared memory (a memfd, for folders of the host) is the VM's own. One from a template has none: what counts there as such is
 * a template on a tmpfs.
 */
export function parseMemory(status: string, start: VmStart = 'boot'): ProcessMemory {
  const of = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1024;
  const [anonymous, files, shared, huge] = [of('RssAnon'), of('RssFile'), of('RssShmem'), of('HugetlbPages')];
  const own = start === 'template' ? 0 : shared;
  return {
    memory: anonymous + own + huge,
    shared: files + shared - own,
    residentPeak: Math.max(of('VmHWM'), anonymous + files + shared),
    huge,
  };
}

/** Follows the memory of one process: the peak of what is its own, which no file of /proc tells. */
export class MemoryPeak {
  readonly #start: VmStart;
  #own = 0;
  #shared = 0;

  constructor(start: VmStart) {
    this.#start = start;
  }

  /**
   * Takes a reading in. @returns most that was its own so far, bytes.
   *
   * What a guest has touched stays QEMU's until its end, so that the last reading is about the most. Of a VM that booted the
   * kernel's peak tells what was missed: its files are QEMU's program, whose part hardly changes. Of one from a template it
   * does not, for there a page that leaves one part enters the other.
   */
  take({ memory, shared, residentPeak, huge }: ProcessMemory): number {
    this.#shared = Math.max(this.#shared, shared);
    const missed = this.#start === 'template' ? 0 : residentPeak - this.#shared + huge;
    this.#own = Math.max(this.#own, memory, missed);
    return this.#own;
  }
}
