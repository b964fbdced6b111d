/** The requestor's manifest; see section 10 of the spec's exe-unit.md. */
import type { ScriptCommand } from './types.ts';

/** What `run` and `transfer` commands must match, one rule at least. */
export interface ScriptRules {
  readonly rules: readonly { text: string; regex: boolean }[];
}

export function checkScript(_rules: ScriptRules, _script: readonly ScriptCommand[]): void {}
