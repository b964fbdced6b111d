/** What the kernel says about a module that it refuses: finit_module(2) has a number for it, the log has the reason. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY } from '../lib/constants.ts';
import { parseRecord, RECORD_SIZE, readRecord } from '../lib/kernel-record.ts';

const PATH = '/dev/kmsg';
const SEEK_END = 2;
/** Records looked at after one failure: a module with many missing symbols has a line for each. */
const MAX_RECORDS = 256;
/** A record begins with facility × 8 + level; the kernel's own facility is 0, others come from programs. */
const OTHER_FACILITY = 8;
const MAX_TEXT = 300;
/** Modules that speak under another name. NVIDIA's says why it gives up, and then that a part of it, named nvidia-…, has ended. */
const SPEAKS_AS: ReadonlyMap<string, string> = new Map([['nvidia', 'NVRM: ']]);

export class ModuleLog {
  readonly #native: Native;
  #fd = -1;

  constructor(native: Native) {
    this.#native = native;
  }

  /** What was said until now is not of interest. */
  mark(): void {
    try {
      if (this.#fd < 0) this.#fd = this.#native.open(PATH, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
      this.#native.seek(this.#fd, 0, SEEK_END);
    } catch {
      // The log is for the message of a failure; without it there is the errno.
    }
  }

  /** The last line since the mark that is the module's or names it, else the kernel's last; empty when it said nothing. */
  lastLine(name: string): string {
    if (this.#fd < 0) return '';
    let last = '';
    let named = '';
    let spoken = '';
    const speaker = SPEAKS_AS.get(name);
    const buffer = new Uint8Array(RECORD_SIZE);
    const decoder = new TextDecoder();
    try {
      for (let count = 0; count < MAX_RECORDS; count++) {
        const size = readRecord(this.#native, this.#fd, buffer);
        if (size <= 0) break;
        const bytes = decoder.decode(buffer.subarray(0, size));
        const record = Number.parseInt(bytes, 10) < OTHER_FACILITY ? parseRecord(bytes) : null;
        if (!record) continue;
        last = record.text;
        if (last.split('-').join('_').includes(name)) named = last;
        if (speaker !== undefined && last.startsWith(speaker)) spoken = last;
      }
    } catch {
      // As above.
    }
    return (spoken || named || last).slice(0, MAX_TEXT);
  }

  /** Closes the log until the next mark. */
  rest(): void {
    if (this.#fd >= 0) this.#native.close(this.#fd);
    this.#fd = -1;
  }
}
