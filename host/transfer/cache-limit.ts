/** How much the provider's folder of images may take, as its owner says it in the environment. */
import { isYavmError, YavmError } from '../lib/errors.ts';
import { parseSize } from '../lib/size.ts';

const VARIABLE = 'YA_VM_CACHE_SIZE';

/**
 * Bytes; undefined when nothing is said, and the disk decides (cache-room.ts).
 * @throws {YavmError} YAVM_E_USAGE, which names the variable.
 */
export function cacheLimit(env: Readonly<Record<string, string | undefined>>): number | undefined {
  const text = env[VARIABLE];
  if (text === undefined || text === '') return undefined;
  try {
    return parseSize(text);
  } catch (cause) {
    const { message, hint } = isYavmError(cause) ? cause : { message: String(cause), hint: undefined };
    throw new YavmError('YAVM_E_USAGE', `${VARIABLE}: ${message}`, { cause, hint });
  }
}
