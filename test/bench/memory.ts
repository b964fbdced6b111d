/** What a process takes of the host's memory, from /proc/PID/smaps_rollup. */
import { readFileSync } from 'node:fs';

/** Bytes. `private` = `clean` + `dirty`: what would be free if the process ended, the measure of the limits. */
export interface Memory {
  rss: number;
  pss: number;
  private: number;
  clean: number;
  dirty: number;
}

/** @throws when the process is gone. */
export function memoryOf(pid: number): Memory {
  return parseRollup(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
}

/** Reads the kernel's text, whose figures are in KiB. */
export function parseRollup(text: string): Memory {
  const field = (name: string): number => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text);
    if (!match) throw new Error(`smaps_rollup has no ${name}`);
    return Number(match[1]) * 1024;
  };
  const clean = field('Private_Clean');
  const dirty = field('Private_Dirty');
  return { rss: field('Rss'), pss: field('Pss'), private: clean + dirty, clean, dirty };
}
