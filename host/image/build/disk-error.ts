/** What failed while something was written. */
import { type ErrorCode, hasErrno, isDiskFull, YavmError } from '../../lib/errors.ts';
import { ImageBuildError } from '../errors.ts';

export const DISK_FULL: ErrorCode = 'YAVM_E_DISK_FULL';

/** The error for a failed write to `path`. */
export function writeError(path: string, cause: unknown): YavmError {
  if (cause instanceof YavmError) return cause;
  // A file that may not grow (RLIMIT_FSIZE) is no better than a full disk.
  if (isDiskFull(cause) || hasErrno(cause, 'EFBIG')) return diskFull(path, cause);
  return new ImageBuildError(`${path}: cannot be written`, { cause });
}

export function diskFull(path: string, cause?: unknown): YavmError {
  return new YavmError(DISK_FULL, `${path}: there is no room left to build the image`, {
    cause,
    hint: 'Free some room, or choose other places with --output and --temp.',
  });
}
