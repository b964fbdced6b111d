/** Sizes as people write them: `512M`, `1.5GiB`, `10GB`, `4096`. */
import { YavmError } from './errors.ts';

/**
 * Bytes of each unit. As docker, QEMU and mke2fs do, a bare letter is binary (`2G` = 2 × 1024³), and so is `GiB`;
 * only the SI spelling `GB` is decimal.
 */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
};

/**
 * Reads a size; the result is in whole bytes, rounded down.
 * @throws {YavmError} YAVM_E_USAGE when it is no size, is not above 0, or cannot be counted exactly (above 2^53).
 */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]{0,3})\s*$/i.exec(text);
  const unit = UNITS[(match?.[2] ?? '').toLowerCase()];
  if (!match || unit === undefined) {
    throw new YavmError('YAVM_E_USAGE', `'${text}' is not a size`, {
      hint: 'Write a number and a unit: 512M, 1.5GiB (1024 each), 10GB (1000 each), or bytes.',
    });
  }
  const bytes = Math.floor(Number(match[1]) * unit);
  if (bytes < 1 || !Number.isSafeInteger(bytes)) {
    throw new YavmError('YAVM_E_USAGE', `'${text}' is out of range for a size`);
  }
  return bytes;
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes for people: three digits that count, binary units: `512 MiB`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < BINARY_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${BINARY_UNITS[unit]}`;
}
