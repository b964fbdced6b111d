/** How much room a VM's writable disk takes, also when it has no name: through a descriptor of our own. */
import { closeSync, fstatSync, openSync } from 'node:fs';

/** st_blocks counts in these (stat(2)). */
const BLOCK = 512;

export class DiskGauge {
  #fd: number | null;

  /** `fd` is that of the disk, and stays its owner's. */
  constructor(fd: number) {
    this.#fd = openSync(`/proc/self/fd/${fd}`, 'r');
  }

  /** Bytes allocated now; 0 after the end. */
  get allocated(): number {
    return this.#fd === null ? 0 : fstatSync(this.#fd).blocks * BLOCK;
  }

  /** Lets go of the disk: a file without a name is gone with its last descriptor. */
  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}
