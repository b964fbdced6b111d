/** The addon that this program runs on, whichever host it has (native/face.ts). */
import type { Native } from './face.ts';

/** The native addon. @throws Error when the program was started without one */
export function native(): Native {
  const { yavmNative } = globalThis as { yavmNative?: Native };
  if (!yavmNative) throw new Error('the native addon is not registered as globalThis.yavmNative');
  return yavmNative;
}
