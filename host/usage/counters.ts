/**
 * The usage vector of an activity: one number for each name in the agreement, in its order. It is what the activity
 * costs, so it never falls: memory and storage are lifetime peaks, the rest are sums. Memory is what the VM itself took: what it
 * has in common with others is a counter of its own. Facts: the spec's exe-unit.md, 7.
 */

/** What was used so far, in all. */
export interface UsageReading {
  /** Of the VM alone. */
  cpuSeconds: number;
  /** The VM's own now, bytes. */
  memory: number;
  /** Most so far, bytes, where somebody knows better than a sample each second. */
  memoryPeak?: number;
  /** Not in `memory`: pages of files that other VMs have too, their template's above all; now, bytes. */
  shared?: number;
  /** Now, bytes. */
  storage: number;
  /** Bytes. */
  networkIn: number;
  networkOut: number;
}

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

export const DURATION = 'golem.usage.duration_sec';
export const CPU = 'golem.usage.cpu_sec';
export const MEMORY = 'golem.usage.gib';
export const STORAGE = 'golem.usage.storage_gib';
/** Ours, for who asks for it: memory that costs nothing more, because other VMs have it too. No offer has it. */
export const SHARED = 'ya-vm.usage.shared_gib';
export const NETWORK_IN = 'golem.usage.network.in-mib';
export const NETWORK_OUT = 'golem.usage.network.out-mib';

type Sums = Required<Omit<UsageReading, 'memory' | 'memoryPeak' | 'shared' | 'storage'>>;
interface Totals extends Sums {
  duration: number;
  memory: number;
  shared: number;
  storage: number;
}

/** The counters that ya-vm has; every other name of an agreement is a custom counter and stays 0. */
const COUNTERS: Readonly<Record<string, (totals: Totals) => number>> = {
  [DURATION]: ({ duration }) => duration,
  [CPU]: ({ cpuSeconds }) => cpuSeconds,
  [MEMORY]: ({ memory }) => memory / GIB,
  [SHARED]: ({ shared }) => shared / GIB,
  [STORAGE]: ({ storage }) => storage / GIB,
  [NETWORK_IN]: ({ networkIn }) => networkIn / MIB,
  [NETWORK_OUT]: ({ networkOut }) => networkOut / MIB,
};

/** The vector of an offer: what is counted by default. */
export const DEFAULT_VECTOR: readonly string[] = [DURATION, CPU, MEMORY, STORAGE];

const SUMS = ['cpuSeconds', 'networkIn', 'networkOut'] as const;

export class UsageVector {
  readonly names: readonly string[];
  readonly #now: () => number;
  /** What ended machines had used, and what the present one was last seen with. */
  readonly #carried: Sums = { cpuSeconds: 0, networkIn: 0, networkOut: 0 };
  readonly #last: Sums = { cpuSeconds: 0, networkIn: 0, networkOut: 0 };
  #memory = 0;
  #shared = 0;
  #storage = 0;
  #duration = 0;

  /** `now`: seconds since the start of the activity, which is that of this process. */
  constructor(names: readonly string[], now: () => number = () => performance.now() / 1000) {
    this.names = names;
    this.#now = now;
  }

  /** Takes a reading. A sum that is lower than before belongs to a new machine: the old one's stays counted. */
  update(reading: UsageReading): void {
    for (const name of SUMS) {
      const value = atLeastZero(reading[name]);
      if (value < this.#last[name]) this.#carried[name] += this.#last[name];
      this.#last[name] = value;
    }
    const { memory, memoryPeak = memory, shared = 0, storage } = reading;
    this.#memory = Math.max(this.#memory, atLeastZero(memory), atLeastZero(memoryPeak));
    this.#shared = Math.max(this.#shared, atLeastZero(shared));
    this.#storage = Math.max(this.#storage, atLeastZero(storage));
  }

  /** The vector as of now, in the agreement's order and length. */
  values(): number[] {
    const totals = this.#totals();
    return this.names.map((name) => this.#counter(name)?.(totals) ?? 0);
  }

  /** One counter, whether the agreement has it or not; 0 for a custom one. */
  value(name: string): number {
    return this.#counter(name)?.(this.#totals()) ?? 0;
  }

  /** Hostile names (`__proto__`) are names like any other. */
  #counter(name: string): ((totals: Totals) => number) | undefined {
    return Object.hasOwn(COUNTERS, name) ? COUNTERS[name] : undefined;
  }

  #totals(): Totals {
    this.#duration = Math.max(this.#duration, atLeastZero(this.#now()));
    const sum = (name: (typeof SUMS)[number]) => this.#carried[name] + this.#last[name];
    return {
      duration: this.#duration,
      cpuSeconds: sum('cpuSeconds'),
      networkIn: sum('networkIn'),
      networkOut: sum('networkOut'),
      memory: this.#memory,
      shared: this.#shared,
      storage: this.#storage,
    };
  }
}

function atLeastZero(value: number): number {
  return value > 0 && Number.isFinite(value) ? value : 0;
}
