/** A VM's record, kept in its run folder for others to read. Nothing of the VM depends on it: failures are logged. */
import { toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { startTimeOf } from '../lib/process.ts';
import type { RunFolder } from './run-folder.ts';
import type { VmRecord, VmSpec } from './types.ts';

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

/** Of a VM that has just been launched. */
export function recordOf(
  spec: Pick<VmSpec, 'title' | 'supervisor' | 'memoryMiB' | 'cpus' | 'layers' | 'hostname'>,
  id: string,
  { accel, start, qemu }: Pick<VmRecord, 'accel' | 'start'> & { qemu: { pid: number; startTime: number } },
): VmRecord {
  return {
    id,
    title: spec.title ?? '',
    supervisor: spec.supervisor ?? { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0 },
    qemu: { pid: qemu.pid, startTime: qemu.startTime },
    state: 'new',
    started: new Date().toISOString(),
    memoryMiB: spec.memoryMiB,
    cpus: spec.cpus,
    accel,
    start,
    layers: spec.layers,
    hostname: spec.hostname,
    console: null,
  };
}
