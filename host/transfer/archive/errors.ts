/** Errors about archives. */
import { YavmError } from '../../lib/errors.ts';

export function archiveError(problem: string, options: { cause?: unknown; hint?: string } = {}): YavmError {
  return new YavmError('YAVM_E_ARCHIVE', `the archive cannot be used: ${problem}`, options);
}

/** Something is wrong at a place of a tar. */
export function damagedTar(problem: string, offset: number): YavmError {
  return archiveError(`${problem} at offset ${offset} of the tar`);
}
