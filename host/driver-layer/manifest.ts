/** manifest.json at the top of a layer: what the guest checks, and what a person or a program looks up. */
import { DriverLayerError } from './errors.ts';

export interface LayerManifest {
  format: 1;
  driverVersion: string;
  /** `uname -r` of the kernel that the modules are for. */
  kernelRelease: string;
  vermagic: string;
  /** Sorted by path; a link has its target instead of a hash. */
  files: LayerFile[];
}

export type LayerFile = { path: string; size: number; sha256: string } | { path: string; link: string };

/** Bound, bytes: 60 files make 8 KB. */
export const MAX_MANIFEST = 1024 * 1024;

/** @throws {DriverLayerError} it is none */
export function parseManifest(text: string, from: string): LayerManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DriverLayerError(`${from}: its manifest.json cannot be read`, { cause });
  }
  const manifest = (value ?? {}) as Partial<Record<keyof LayerManifest, unknown>>;
  const { format, driverVersion, kernelRelease, vermagic, files } = manifest;
  const words = [driverVersion, kernelRelease, vermagic].every((word) => typeof word === 'string');
  if (format === 1 && words && Array.isArray(files) && files.every(isFile)) return value as LayerManifest;
  throw new DriverLayerError(`${from}: its manifest.json is not that of a driver layer`);
}

function isFile(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { path, size, sha256, link } = value as Record<string, unknown>;
  if (typeof path !== 'string') return false;
  return typeof link === 'string' || (typeof size === 'number' && typeof sha256 === 'string');
}
