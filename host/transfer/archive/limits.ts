/** What an archive may hold. Whoever made it, it must not fill the host's memory, or the VM's disk by a few bytes. */
import { YavmError } from '../../lib/errors.ts';

export interface ArchiveLimits {
  entries: number;
  /** Bytes when unpacked, headers included. */
  bytes: number;
  /** Unpacked bytes for each packed one; counts from {@link RATIO_FROM} unpacked bytes on. */
  ratio: number;
  /** Bytes of an entry's name, and of a link's target: PATH_MAX (limits.h) with its NUL. */
  name: number;
  /** Directories within each other; the guest's files role has the same bound. */
  depth: number;
  /** Bytes of the names of directories and links, which are remembered to tell where links lead. */
  memory: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_LIMITS: Readonly<ArchiveLimits> = {
  entries: 1_000_000,
  bytes: 64 * 1024 * MIB,
  ratio: 1000,
  name: 4096,
  depth: 512,
  memory: 128 * MIB,
};

/** Small archives of zeros are no attack. */
export const RATIO_FROM = 16 * MIB;

/** NAME_MAX (limits.h). */
export const MAX_PART = 255;

export function limitError(problem: string): YavmError {
  return new YavmError('YAVM_E_ARCHIVE_LIMIT', `the archive is refused: ${problem}`, {
    hint: 'Send it in parts, or as a file that is unpacked in the VM.',
  });
}

/** Counts what goes into an unpacker and what comes out of it. */
export class Meter {
  readonly #limits: ArchiveLimits;
  #packed = 0;
  #unpacked = 0;
  #entries = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  packed(bytes: number): void {
    this.#packed += bytes;
    if (this.#packed > this.#limits.bytes) throw limitError(`more than ${this.#limits.bytes} bytes`);
  }

  /** @throws {YavmError} YAVM_E_ARCHIVE_LIMIT */
  unpacked(bytes: number): void {
    const { bytes: most, ratio } = this.#limits;
    this.#unpacked += bytes;
    if (this.#unpacked > most) throw limitError(`more than ${most} bytes when unpacked`);
    if (this.#unpacked > RATIO_FROM && this.#unpacked > ratio * this.#packed) {
      throw limitError(`${this.#packed} bytes become more than ${ratio} times as many`);
    }
  }

  /** @throws {YavmError} YAVM_E_ARCHIVE_LIMIT */
  entry(): void {
    if (++this.#entries > this.#limits.entries) throw limitError(`more than ${this.#limits.entries} entries`);
  }
}
