/** What the activity has used: the runtime's readings, put into the agreement's vector and held against its limits. */
import { CPU, DURATION, MEMORY, STORAGE, type UsageReading, UsageVector } from '../usage/counters.ts';

/** A limit of the agreement was passed: the activity is to end. The text is upstream's (7.4), measured value included. */
export class UsageLimitError extends Error {
  override name = 'UsageLimitError';
}

export interface MeterOptions {
  /** The agreement's vector. */
  names: readonly string[];
  /** The agreement's `golem.inf`; null: the VM's size is the limit, nothing is watched here. */
  limits: Readonly<Record<string, number>> | null;
  /** The runtime's readings. */
  read(): UsageReading;
  /** Bytes allocated for the activity besides the runtime's disks. */
  folder(): number;
  /** Seconds since the start. */
  now?: () => number;
}

/** Counters with a limit, and the limit's name in `golem.inf`; both in GiB. */
const LIMITED: readonly (readonly [counter: string, limit: string])[] = [
  [MEMORY, 'mem.gib'],
  [STORAGE, 'storage.gib'],
];

export class Meter {
  readonly #options: MeterOptions;
  readonly #vector: UsageVector;

  constructor(options: MeterOptions) {
    this.#options = options;
    this.#vector = new UsageVector(options.names, options.now);
  }

  /** Takes a reading and gives the vector. @throws {UsageLimitError} */
  values(): number[] {
    this.#sample();
    this.#checkLimits();
    return this.#vector.values();
  }

  /** The vector, limits or not: for the last report. */
  finalValues(): number[] {
    this.#sample();
    return this.#vector.values();
  }

  /** What is used right now, for the log; in seconds and bytes. */
  current(): Record<string, number> {
    const { memory, shared = 0, storage, networkIn, networkOut } = this.#sample();
    const round = (value: number) => Number(value.toFixed(3));
    return {
      duration: round(this.#vector.value(DURATION)),
      cpu: round(this.#vector.value(CPU)),
      memory,
      shared,
      storage,
      networkIn,
      networkOut,
    };
  }

  #sample(): UsageReading {
    const reading = this.#options.read();
    const whole = { ...reading, storage: reading.storage + this.#options.folder() };
    this.#vector.update(whole);
    return whole;
  }

  /** Only counters of the agreement have limits, and only where it names one. */
  #checkLimits(): void {
    const { limits, names } = this.#options;
    if (limits === null) return;
    for (const [counter, limit] of LIMITED) {
      const most = Object.hasOwn(limits, limit) ? limits[limit] : undefined;
      const used = this.#vector.value(counter);
      if (most === undefined || !names.includes(counter) || used <= most) continue;
      throw new UsageLimitError(`"${counter}" exceeded the value of ${used}`);
    }
  }
}
