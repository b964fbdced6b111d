/** Looks at other processes of this machine, through /proc. */
import { readdirSync, readFileSync } from 'node:fs';
import { sleep } from '../../host/lib/deadline.ts';

/** Arguments of a process; empty for one that is gone (or a zombie). */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** Pids of all processes. */
function allProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Pids of processes in whose environment `text` occurs. */
export function findProcesses(text: string): number[] {
  return allProcesses().filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text);
    } catch {
      // Gone, or somebody else's.
      return false;
    }
  });
}

/** Pids of the QEMUs of the VMs named; a QEMU of ya-vm has its VM's id in its name. */
export function findQemu(ids: readonly string[]): number[] {
  const names = new Set(ids.map((id) => `guest=ya-vm-${id}`));
  return allProcesses().filter((pid) => argumentsOf(pid).some((word) => names.has(word)));
}

/** The values of a line of /proc/PID/status (`Uid`, `Groups`), as words. @throws for a process that is gone */
export function statusOf(pid: number, name: string): string[] {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const line = text.split('\n').find((each) => each.startsWith(`${name}:`)) ?? '';
  return line
    .slice(name.length + 1)
    .trim()
    .split(/\s+/);
}

/** Waits until `gone` says so, looking every 10 ms. @returns milliseconds that it took, or null at the deadline. */
export async function waitUntil(gone: () => boolean, deadline: number): Promise<number | null> {
  const began = performance.now();
  while (!gone()) {
    if (performance.now() - began >= deadline) return null;
    await sleep(10);
  }
  return performance.now() - began;
}

/** Pids of the file servers (virtiofsd) below a process. */
export function fileServers(pid: number): number[] {
  const servers = childrenOf(pid).filter(({ words }) => words.some((word) => word.endsWith('/virtiofsd')));
  return servers.map(({ pid }) => pid);
}

/** The processes that a process started, and those that they started, with their arguments. */
function childrenOf(pid: number): { pid: number; words: string[] }[] {
  let list: string;
  try {
    list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
  } catch {
    return [];
  }
  const pids = list.split(' ').filter((word) => word !== '');
  return pids
    .map(Number)
    .flatMap((child) => [{ pid: child, words: argumentsOf(child) }, ...childrenOf(child)]);
}
