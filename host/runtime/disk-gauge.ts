/** How much room a VM's writable disks take, also those without a name: through descriptors of our own. */
import { closeSync, fstatSync, openSync } from 'node:fs';

/** st_blocks counts in these (stat(2)). */
const BLOCK = 512;

export class DiskGauge {
  readonly #fds: number[] = [];

  /** `fds` are those of the disks, and stay their owner's. */
  constructor(fds: readonly number[]) {
    try {
      for (const fd of fds) this.#fds.push(openSync(`/proc/self/fd/${fd}`, 'r'));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes allocated now for all of them; 0 after the end. */
  get allocated(): number {
    return this.#fds.reduce((sum, fd) => sum + fstatSync(fd).blocks * BLOCK, 0);
  }

  /** Lets go of the disks: a file without a name is gone with its last descriptor. */
  close(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}
