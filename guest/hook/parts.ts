/** What the agent and the hook's process have in common: where things lie, and what they say to each other. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { HOOK, type HookManifest, MAX_MANIFEST } from './manifest.ts';

export const RECORDS_FD = 3;
export const TASK_FD = 4;

/** Longest text of one record, characters. */
export const MAX_TEXT = 4000;

/** One line from the hook's process. */
export type HookRecord =
  | { level: 'debug' | 'info' | 'warn' | 'error'; text: string }
  | { done: true }
  | { failed: string };

/** Null: this initramfs has no hook. */
export function readHook(native: Native): HookManifest | null {
  try {
    return JSON.parse(native.readText(-1, HOOK.manifest, MAX_MANIFEST)) as HookManifest;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

/** What failed, with lines of the script turned into lines of what it was made from; the first of them leads. */
export function hookFailure(hook: HookManifest, text: string): string {
  const { name, sources = [], lines } = hook;
  let first: string | undefined;
  const [message = '', ...stack] = text.trim().split('\n');
  const escaped = name.replace(/[^\w]/g, '\\$&');
  const place = new RegExp(`${escaped}:(\\d+)(?::\\d+)?`);
  for (const frame of stack) {
    const line = Number(place.exec(frame)?.[1]);
    if (!line) continue;
    const at = 2 * (line - 1);
    first = lines
      ? lines[at + 1]
        ? `${sources[lines[at] as number]}:${lines[at + 1]}`
        : undefined
      : `${name}:${line}`;
    if (first !== undefined) break;
  }
  return `${first ?? name}: ${message}`;
}
