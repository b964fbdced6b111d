/** How a manifest's rule is compared with a command. */
import type { Decoder } from './decode.ts';

export type RuleMatch = 'strict' | 'regex';

/** Undefined when the manifest does not say. */
export function parseMatch(decoder: Decoder, value: unknown, path: string): RuleMatch | undefined {
  if (value === undefined || value === null) return undefined;
  return value === 'strict' || value === 'regex' ? value : decoder.refuse(path, 'neither strict nor regex');
}
