/** A VM's record, kept in its run folder for others to read. Nothing of the VM depends on it: failures are logged. */
import { toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { RunFolder } from './run-folder.ts';
import type { VmRecord } from './types.ts';

export class KeptRecord {
  readonly #folder: RunFolder;
  readonly #record: VmRecord;
  readonly #logger: Logger;

  constructor(folder: RunFolder, record: VmRecord, logger: Logger) {
    this.#folder = folder;
    this.#record = record;
    this.#logger = logger;
  }

  save(change: Partial<VmRecord>): void {
    Object.assign(this.#record, change);
    this.#try('cannot write vm.json', () => this.#folder.write(this.#record));
  }

  /** With the folder and all that is in it. */
  remove(): void {
    this.#try('cannot remove the run folder', () => this.#folder.remove());
  }

  #try(failure: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#logger.warn({ vm: this.#folder.id, err: toError(error) }, failure);
    }
  }
}
