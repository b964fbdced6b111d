/** The size of the VMs that a provider's activities have. Upstream: yagna, agent/provider/src/hardware.rs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface ProviderShape {
  memoryMiB: number;
  cpus: number;
}

/** In the provider's data folder: hardware profiles, of which one is active. Every offer of it has that one's figures. */
const PROFILES = 'hardware.json';
/** From where a provider starts `test` and `offer-template`: `<data>/exe-unit/work`. */
const TO_DATA_FOLDER = ['..', '..'];
const MAX_FILE = 1024 * 1024;
/** QEMU's q35 has no more CPUs. */
const MAX_CPUS = 255;
const MAX_GIB = 1024 * 1024;

/**
 * The shape that the active profile gives to activities, from the provider's folder `work`. Null: there is no provider's data, or
 * not as it is known; then it is nobody's fault, and nothing can be made ahead.
 */
export function providerShape(work: string): ProviderShape | null {
  try {
    const text = readFileSync(join(work, ...TO_DATA_FOLDER, PROFILES), 'utf8');
    return text.length > MAX_FILE ? null : shapeOf(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Rounded as an agreement is, see planVm. Null: not such a file. */
export function shapeOf(value: unknown): ProviderShape | null {
  const { active, profiles } = asMap(value);
  if (typeof active !== 'string' || !Object.hasOwn(asMap(profiles), active)) return null;
  const { cpu_threads: threads, mem_gib: gib } = asMap(asMap(profiles)[active]);
  if (typeof threads !== 'number' || !Number.isFinite(threads) || threads > MAX_CPUS) return null;
  if (typeof gib !== 'number' || !(gib > 0 && gib <= MAX_GIB)) return null;
  return { memoryMiB: Math.floor(gib * 1024), cpus: Math.max(1, Math.floor(threads)) };
}

function asMap(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
