/**
 * When a template is made anew: all VMs of one have in common what its guest drew by lot at its boot, as the layout of its
 * kernel's memory (docs/security.md). Pure.
 */

import { formatDuration, parseDuration } from '../../lib/duration.ts';
import { YavmError } from '../../lib/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** How old a template gets; default: as old as may be. */
export const RENEW_VARIABLE = 'YA_VM_TEMPLATES_RENEW';
/** How many VMs start from one; default: any number. */
export const RENEW_STARTS_VARIABLE = 'YA_VM_TEMPLATES_RENEW_STARTS';
/** Starts are not counted any further. */
export const MOST_STARTS = 1_000_000;

/** Null: this alone makes none anew. */
export interface Renewal {
  /** Milliseconds. */
  age: number | null;
  starts: number | null;
}

/** @throws {YavmError} YAVM_E_USAGE */
export function renewalOf(env: Environment): Renewal {
  return { age: ageOf(env[RENEW_VARIABLE]), starts: startsOf(env[RENEW_STARTS_VARIABLE]) };
}

/** Why a template is to be made anew; null: it is not. `now`: milliseconds since the epoch. */
export function whyDue(
  renewal: Renewal,
  template: { made: string; starts: number },
  now: number,
): string | null {
  const age = now - Date.parse(template.made);
  if (renewal.starts !== null && template.starts >= renewal.starts)
    return `${template.starts} VMs have started from it`;
  if (renewal.age === null) return null;
  // A host's clock that was set back must not keep it for ever.
  if (!(age >= 0)) return 'it was made at a time that is yet to come';
  return age >= renewal.age ? `it is ${formatDuration(age)} old` : null;
}

/** A number alone is refused: seconds are not what somebody means who writes `24`. */
function ageOf(text: string | undefined): number | null {
  if (!text) return null;
  try {
    if (!/\d\s*$/.test(text)) return parseDuration(text);
  } catch {
    // Said below.
  }
  throw new YavmError('YAVM_E_USAGE', `${RENEW_VARIABLE}=${text}: no duration with a unit`, {
    hint: 'For example 24h or 7d.',
  });
}

function startsOf(text: string | undefined): number | null {
  if (!text) return null;
  const starts = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (starts >= 1 && starts <= MOST_STARTS) return starts;
  throw new YavmError('YAVM_E_USAGE', `${RENEW_STARTS_VARIABLE}=${text}: no number from 1 to ${MOST_STARTS}`);
}
