/**
 * What the last self-test that passed has found out, kept in the cache folder until the host boots again, or QEMU, the
 * kernel, the initramfs, ya-vm or the acceleration asked for change. Losing it costs one self-test.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePrivate } from '../runtime/run-folder.ts';
import type { CpuFacts } from './cpu.ts';
import { decodeGpuFacts, type GpuFacts } from './gpu-facts.ts';

export interface Verdict {
  accel: 'kvm' | 'tcg';
  /** As a task sees it. */
  cpu: CpuFacts;
  /** `golem.runtime.capabilities` that were tried and work. */
  capabilities: string[];
  /** Cards that were passed on, and work. */
  gpu?: GpuFacts;
}

/** Each has a verdict of its own: a provider may sell VMs with cards beside others. */
const FILES = { plain: 'self-test.json', gpu: 'self-test-gpu.json' } as const;
export type VerdictKind = keyof typeof FILES;

const MAX_FILE = 64 * 1024;

/** Null when there is none for this key. */
export function readVerdict(folder: string, key: string, kind: VerdictKind = 'plain'): Verdict | null {
  try {
    const text = readFileSync(join(folder, FILES[kind]), 'utf8');
    if (text.length > MAX_FILE) return null;
    const entry = JSON.parse(text);
    return entry?.key === key ? decode(entry.verdict) : null;
  } catch {
    return null;
  }
}

/** A folder that cannot be written is no reason to fail. */
export function writeVerdict(
  folder: string,
  key: string,
  verdict: Verdict,
  kind: VerdictKind = 'plain',
): void {
  try {
    ensurePrivate(folder);
    const path = join(folder, FILES[kind]);
    writeFileSync(`${path}.${process.pid}`, JSON.stringify({ key, verdict }), { mode: 0o600 });
    renameSync(`${path}.${process.pid}`, path);
  } catch {
    return;
  }
}

function decode(value: unknown): Verdict | null {
  const { accel, cpu, capabilities, gpu } = (value ?? {}) as Record<string, unknown>;
  const { vendor, brand, model, capabilities: flags } = (cpu ?? {}) as Record<string, unknown>;
  if (accel !== 'kvm' && accel !== 'tcg') return null;
  if (typeof vendor !== 'string' || typeof brand !== 'string' || typeof model !== 'string') return null;
  if (!isWords(flags) || !isWords(capabilities)) return null;
  const verdict: Verdict = { accel, cpu: { vendor, brand, model, capabilities: flags }, capabilities };
  if (gpu === undefined) return verdict;
  const facts = decodeGpuFacts(gpu);
  return facts && { ...verdict, gpu: facts };
}

function isWords(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
