/** `hello`: the first message, and the point where a VM's snapshot can be taken. */
import type { Native } from '../../native/face.ts';
import { type Hello, PROTOCOL_VERSION } from '../protocol/messages.ts';
import type { BootTimes } from './agent.ts';
import { memoryInfo } from './stats.ts';

/** Set by the bundler. */
declare const __YAVM_VERSION__: string;

/** Optional abilities that a host may ask for; none is implied by the protocol's version alone. */
const FEATURES = ['ping', 'prepare', 'tty', 'files', 'network', 'stats', 'cgroup'];

export function hello(native: Native, times: BootTimes): Hello {
  return {
    event: 'hello',
    protocol: PROTOCOL_VERSION,
    agent: __YAVM_VERSION__,
    features: FEATURES,
    kernel: native.uname().release,
    boot: { ...times, hello: native.monotonic() },
    memory: memoryInfo(native).total,
    cpus: onlineCpus(native.readText(-1, '/sys/devices/system/cpu/online', 256)),
  };
}

/** Number of CPUs in a kernel list such as `0-3,5`. */
export function onlineCpus(list: string): number {
  let count = 0;
  for (const range of list.trim().split(',')) {
    const [first, last] = range.split('-');
    count += last === undefined ? 1 : Number(last) - Number(first) + 1;
  }
  return count;
}
