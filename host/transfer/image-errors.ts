/** Why an image could not be fetched. Messages hold the whole reason: requestors see nothing else. */
import { hasErrno, isYavmError, toError, YavmError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';

/** Upstream's text (exe-unit.md 6.2). */
export function hashError(calculated: string, expected: string): YavmError {
  return new YavmError(
    'YAVM_E_IMAGE_HASH',
    'Incorrect hash provided or downloaded image is corrupted: ' +
      `calculated hash ${calculated} differs from the expected one ${expected}`,
  );
}

export function spaceError(folder: string, needed: number, free: number): YavmError {
  return new YavmError(
    'YAVM_E_IMAGE_DOWNLOAD',
    `${folder}: no room for the image: it needs ${formatSize(needed)}, ${formatSize(free)} are free`,
    { hint: 'Remove images that are not used any more from this folder.' },
  );
}

/** What stopped a download into `folder`, as an error of ours. */
export function downloadError(cause: unknown, folder: string): YavmError {
  if (isYavmError(cause, 'YAVM_E_HTTP')) {
    return new YavmError('YAVM_E_IMAGE_DOWNLOAD', cause.message, { cause, hint: cause.hint });
  }
  if (isYavmError(cause)) return cause;
  if (hasErrno(cause, 'ENOSPC') || hasErrno(cause, 'EDQUOT')) {
    return new YavmError('YAVM_E_IMAGE_DOWNLOAD', `${folder}: the disk is full`, {
      cause,
      hint: 'Remove images that are not used any more from this folder.',
    });
  }
  const text = `${folder}: the image cannot be stored: ${toError(cause).message}`;
  return new YavmError('YAVM_E_IMAGE_CACHE', text, { cause });
}
