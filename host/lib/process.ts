/** Processes of this machine, told apart from later ones with a recycled pid by their start time. */
import { readFileSync } from 'node:fs';

export interface ProcessIdentity {
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since the boot. */
  startTime: number;
}

/** Start time of a process in clock ticks since the boot; null when there is none with this pid. */
export function startTimeOf(pid: number): number | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  return parseStartTime(stat);
}

/** From the text of /proc/PID/stat. The command's name, field 2, is in parentheses and may hold spaces and parentheses. */
export function parseStartTime(stat: string): number | null {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie ('Z', field 3) has ended: only its exit status is left.
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  const startTime = Number(fields[19]);
  return Number.isSafeInteger(startTime) && startTime > 0 ? startTime : null;
}

/** True when this very process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return startTimeOf(identity.pid) === identity.startTime;
}
