/**
 * What the last self-test that passed has found out, kept in the cache folder until the host boots again, or QEMU, the
 * kernel, the initramfs, ya-vm or the acceleration asked for change. Losing it costs one self-test.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePrivate } from '../runtime/run-folder.ts';
import type { CpuFacts } from './cpu.ts';

export interface Verdict {
  accel: 'kvm' | 'tcg';
  /** As a task sees it. */
  cpu: CpuFacts;
  /** `golem.runtime.capabilities` that were tried and work. */
  capabilities: string[];
}

const FILE = 'self-test.json';
const MAX_FILE = 64 * 1024;

/** Null when there is none for this key. */
export function readVerdict(folder: string, key: string): Verdict | null {
  try {
    const text = readFileSync(join(folder, FILE), 'utf8');
    if (text.length > MAX_FILE) return null;
    const entry = JSON.parse(text);
    return entry?.key === key ? decode(entry.verdict) : null;
  } catch {
    return null;
  }
}

/** A folder that cannot be written is no reason to fail. */
export function writeVerdict(folder: string, key: string, verdict: Verdict): void {
  try {
    ensurePrivate(folder);
    const path = join(folder, FILE);
    writeFileSync(`${path}.${process.pid}`, JSON.stringify({ key, verdict }), { mode: 0o600 });
    renameSync(`${path}.${process.pid}`, path);
  } catch {
    return;
  }
}

function decode(value: unknown): Verdict | null {
  const { accel, cpu, capabilities } = (value ?? {}) as Record<string, unknown>;
  const { vendor, brand, model, capabilities: flags } = (cpu ?? {}) as Record<string, unknown>;
  if (accel !== 'kvm' && accel !== 'tcg') return null;
  if (typeof vendor !== 'string' || typeof brand !== 'string' || typeof model !== 'string') return null;
  if (!isWords(flags) || !isWords(capabilities)) return null;
  return { accel, cpu: { vendor, brand, model, capabilities: flags }, capabilities };
}

function isWords(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
