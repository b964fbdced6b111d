/** Errors about archives. */
import { YavmError } from '../../lib/errors.ts';
import { TarError } from '../../lib/tar/error.ts';

export function archiveError(problem: string, options: { cause?: unknown; hint?: string } = {}): YavmError {
  return new YavmError('YAVM_E_ARCHIVE', `the archive cannot be used: ${problem}`, options);
}

/** Something is wrong at a place of a tar. */
export function damagedTar(problem: string, offset: number): YavmError {
  return archiveError(`${problem} at offset ${offset} of the tar`);
}

/** What the codec of tars says, as such an error; anything else is as it was. */
export function codedTarError(error: unknown): unknown {
  return error instanceof TarError ? damagedTar(error.reason, error.offset) : error;
}
