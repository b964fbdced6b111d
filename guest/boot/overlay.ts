/** Options of the overlay that is the task's root. */
import { GuestError } from '../errors.ts';

/** mount(2) takes one page of options. */
const MAX_OPTIONS = 4095;

/**
 * How the overlay behaves, each with the reason. All are written out, because their defaults are a matter of the
 * kernel's configuration.
 */
const BEHAVIOUR: [option: string, why: string][] = [
  [
    'redirect_dir=on',
    'rename(2) of a directory of the image works, as on any disk; without it programs meet EXDEV',
  ],
  [
    'index=off',
    'an upper disk may come back under an image that was built anew; an index would refuse it (ESTALE)',
  ],
  [
    'metacopy=off',
    'a file that the upper layer has is whole there: the disk stays readable for any tool, as in Docker',
  ],
  [
    'xino=off',
    'inode numbers stay below 2^53, exact in JavaScript, and (device, inode) still tells files apart: hard links in archives depend on it',
  ],
];

/**
 * Data for mount(2). `lower` is topmost first, as overlayfs wants it. No `volatile`: an fsync(2) must reach the disk.
 * @throws {GuestError} bad-request when the options do not fit
 */
export function overlayOptions(lower: string[], upper: string, work: string): string {
  const options = [
    `lowerdir=${lower.join(':')}`,
    `upperdir=${upper}`,
    `workdir=${work}`,
    ...BEHAVIOUR.map(([option]) => option),
  ].join(',');
  if (options.length > MAX_OPTIONS) {
    throw new GuestError('bad-request', `${lower.length} layers are more than one overlay takes`);
  }
  return options;
}
