/** What a VM that was started from a snapshot has in common with others, and must not: random pool and clock. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import type { ConfigureRequest } from '../protocol/messages.ts';

/** Least number of fresh bytes: 256 bits, the pool's strength. */
const MIN_ENTROPY = 32;
/** 2020-01-01 and 2200-01-01 UTC: a clock outside is a host's mistake, and certificates would fail for no visible reason. */
const CLOCK_RANGE = [1_577_836_800, 7_258_118_400] as const;

/** What the host says of the time, and random bytes of its own. */
export type Renewal = Pick<ConfigureRequest, 'clock' | 'uptime' | 'entropy'>;

/** Feeds the pool, then sets the clock. Must come before anything asks for randomness. @throws {GuestError} bad-request, internal */
export function renew(native: Native, { clock, uptime, entropy }: Renewal): void {
  if (entropy.byteLength < MIN_ENTROPY) {
    throw new GuestError(
      'bad-request',
      `${entropy.byteLength} bytes of entropy are fewer than ${MIN_ENTROPY}`,
    );
  }
  if (!(clock >= CLOCK_RANGE[0] && clock < CLOCK_RANGE[1])) {
    throw new GuestError('bad-request', `clock ${clock} is outside the years 2020 to 2200`);
  }
  try {
    native.addEntropy(entropy);
    native.setClock(uptime === undefined ? clock : clock + (native.monotonic() - uptime) / 1000);
  } catch (error) {
    throw fromNative('internal', 'cannot renew random pool and clock', error);
  }
}
