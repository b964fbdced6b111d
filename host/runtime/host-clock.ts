/** What this host's time-stamp counter runs at, for emulated guests (see kernel-words). */
import { existsSync, readFileSync } from 'node:fs';
import { hostTscKhz } from './kernel-words.ts';

const CPUFREQ = '/sys/devices/system/cpu/cpu0/cpufreq';

/** In kHz; undefined when it is not known for sure. */
export function readTscKhz(): number | undefined {
  return hostTscKhz(read('/proc/cpuinfo') ?? '', read(`${CPUFREQ}/base_frequency`), existsSync(CPUFREQ));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
