/**
 * A `run` request on attach.sock may name a command that already runs, by `adopt: token`. Its client then has that
 * command's stdin, window size, signals and end; what it would run is not looked at.
 */
import { at, word } from '../../guest/protocol/check.ts';

/** Characters of a token. */
const MAX_TOKEN = 128;

/** The token in a decoded request; undefined when it adopts nothing. @throws {ValidationError} when it is no word. */
export function adoptedToken(map: Record<string, unknown>): string | undefined {
  if (map.op !== 'run' || map.adopt === undefined) return undefined;
  return at('adopt', word(MAX_TOKEN, 1), map.adopt);
}
