/** Why an image could not be fetched. Messages hold the whole reason: requestors see nothing else. */
import { isDiskFull, isYavmError, toError, YavmError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';

/** Upstream's text (exe-unit.md 6.2), and where the image is from, when that is given. */
export function hashError(calculated: string, expected: string, shown?: string): YavmError {
  return new YavmError(
    'YAVM_E_IMAGE_HASH',
    'Incorrect hash provided or downloaded image is corrupted: ' +
      `calculated hash ${calculated} differs from the expected one ${expected}` +
      (shown === undefined ? '' : ` (${shown})`),
  );
}

export function spaceError(folder: string, needed: number, free: number): YavmError {
  return new YavmError(
    'YAVM_E_IMAGE_DOWNLOAD',
    `${folder}: no room for the image: it needs ${formatSize(needed)}, ${formatSize(free)} can be had`,
    { hint: 'Make room on this disk. Images that are used are not evicted.' },
  );
}

/** Errors of the ways to an image, which tell the whole reason. */
const WAYS = /^YAVM_E_(?:HTTP|GFTP|GSB_.*)$/;

/** What stopped the download of `shown` into `folder`, as an error of ours. */
export function downloadError(cause: unknown, folder: string, shown: string): YavmError {
  if (isYavmError(cause) && WAYS.test(cause.code)) {
    const text = cause.message.includes(shown) ? cause.message : `${shown}: ${cause.message}`;
    return new YavmError('YAVM_E_IMAGE_DOWNLOAD', text, { cause, hint: cause.hint });
  }
  if (isYavmError(cause)) return cause;
  if (isDiskFull(cause)) {
    return new YavmError('YAVM_E_IMAGE_DOWNLOAD', `${folder}: the disk is full, no room for ${shown}`, {
      cause,
      hint: 'Make room on this disk; images that no activity uses were evicted already.',
    });
  }
  const text = `${folder}: the image cannot be stored: ${toError(cause).message}`;
  return new YavmError('YAVM_E_IMAGE_CACHE', text, { cause });
}
