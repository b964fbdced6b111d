/** What the agent and the hook's process have in common: where things lie, and what they say to each other. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { HOOK, type HookManifest, MAX_MANIFEST } from './manifest.ts';

export const RECORDS_FD = 3;
export const TASK_FD = 4;

/** Longest text of one record, characters. */
export const MAX_TEXT = 4000;

export interface LogRecord {
  level: 'debug' | 'info' | 'warn' | 'error';
  text: string;
}

export interface FailedRecord {
  failed: string;
  /** It is bytecode of another engine. */
  foreign?: true;
}

/** One line from the hook's process. */
export type HookRecord = LogRecord | { done: true } | FailedRecord;

/** Null: this initramfs has no hook. */
export function readHook(native: Native): HookManifest | null {
  try {
    return JSON.parse(native.readText(-1, HOOK.manifest, MAX_MANIFEST)) as HookManifest;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
}
