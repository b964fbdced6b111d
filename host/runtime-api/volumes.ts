/** What `--volume-override` asks for, as the supervisor writes it. Pure. Spec: runtime-vm.md 3.2. */
import { resolve } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import type { ShareSpec } from '../runtime/types.ts';
import { type VolumeRequest, volumePath } from '../runtime/volume-plan.ts';

/** A volume that the supervisor is told of: a folder beneath the work folder, and its path in the VM. */
export interface HostVolume {
  name: string;
  path: string;
}

/** The supervisor writes into these folders, and reads what the task leaves there. */
export function sharesOf(workFolder: string, volumes: readonly HostVolume[]): ShareSpec[] {
  return volumes.map(({ name, path }) => ({ hostPath: resolve(workFolder, name), path }));
}

const MAX_VOLUMES = 256;
/** A disk has whole pages. */
const PAGE = 4096;

/** Powers of 1000 and 1024 by the letter before `b` or `ib`. */
const UNIT_LETTERS = ['', 'k', 'm', 'g', 't', 'p'];

/** @throws {YavmError} YAVM_E_VOLUME */
export function parseOverride(text: string | undefined): Map<string, VolumeRequest> {
  const volumes = new Map<string, VolumeRequest>();
  if (text === undefined || text.trim() === '') return volumes;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw volumeError('the volumes are not JSON', cause);
  }
  if (!isMap(json)) throw volumeError('the volumes are not a JSON object');
  const entries = Object.entries(json);
  if (entries.length > MAX_VOLUMES) throw volumeError(`${entries.length} volumes, ${MAX_VOLUMES} at most`);
  for (const [path, value] of entries) {
    const plain = volumePath(path);
    volumes.set(plain, parseVolume(plain, value));
  }
  return volumes;
}

function parseVolume(path: string, value: unknown): VolumeRequest {
  const [[kind, spec] = [], ...others] = isMap(value) ? Object.entries(value) : [];
  if (others.length === 0 && isMap(spec)) {
    if (kind === 'host') return { kind };
    if (kind === 'ram') return { kind, size: parseVolumeSize(spec.size).size };
    if (kind === 'storage') return { kind, ...parseVolumeSize(spec.size), ...parseDiskOptions(path, spec) };
  }
  throw volumeError(`volume '${path}': neither host, nor ram, nor storage`);
}

/** Both may be absent or null. */
function parseDiskOptions(
  path: string,
  { preallocate, errors }: Record<string, unknown>,
): { preallocate?: number; errors?: string } {
  if (typeof (errors ?? '') !== 'string') throw volumeError(`volume '${path}': its errors are no word`);
  return {
    preallocate: isNothing(preallocate) ? undefined : parseVolumeSize(preallocate).size,
    errors: (errors as string | null | undefined) ?? undefined,
  };
}

/** Zero reserves nothing. */
function isNothing(value: unknown): boolean {
  return (
    value === undefined || value === null || value === 0 || /^\s*0+(\.0*)?\s*b?\s*$/i.test(String(value))
  );
}

/**
 * A whole number of bytes, or `10.7 GB`: here k and kb count in 1000, ki and kib in 1024, as the supervisor means it.
 * Rounded up to whole pages. The supervisor rounds to one decimal before (1 MiB comes as 1048.6 KB, 5 GiB as 5.4 GB):
 * `least` is what was meant at least. @throws {YavmError} YAVM_E_VOLUME
 */
export function parseVolumeSize(value: unknown): { size: number; least: number } {
  const text = typeof value === 'number' ? String(value) : value;
  const match = typeof text === 'string' ? /^\s*(\d+(?:\.(\d+))?)\s*([kmgtp]?)(i?)b?\s*$/i.exec(text) : null;
  const [, digits, decimals = '', letter = '', binary] = match ?? [];
  const unit = (binary ? 1024 : 1000) ** UNIT_LETTERS.indexOf(letter.toLowerCase());
  const bytes = Number(digits) * unit;
  const size = wholePages(bytes);
  if (digits === undefined || (binary && letter === '') || size < 1 || !Number.isSafeInteger(size)) {
    throw volumeError(`${JSON.stringify(value) ?? value} is no size of a volume`);
  }
  if (unit === 1) return { size, least: size };
  // Half a unit of the last digit, and of the first decimal where none is written.
  const slack = unit / 2 / 10 ** Math.max(1, decimals.length);
  return { size, least: Math.max(PAGE, wholePages(bytes - slack)) };
}

function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function volumeError(message: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_VOLUME', message, { cause });
}
