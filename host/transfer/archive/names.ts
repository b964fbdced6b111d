/** Names in archives, beside what every raw name can do. */
import { printable } from '../../lib/logger.ts';
import { nameText, type RawName } from '../../lib/raw-name.ts';

/** Characters of a name that a message repeats. */
const SHOWN = 200;

/** For messages: in quotes, without control characters, not too long. */
export function shownName(raw: RawName): string {
  const text = printable(nameText(raw.slice(0, 4 * SHOWN))).replace(/\n/g, '\\n');
  return `'${text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text}'`;
}

/** The parts of a path: what lies between slashes, without `.`; `..` stays. */
export function partsOf(raw: RawName): string[] {
  return raw.split('/').filter((part) => part !== '' && part !== '.');
}
