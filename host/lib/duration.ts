/** Durations as people write them: `30s`, `1m30s`, `250ms`, `2h`, `45`. */
import { YavmError } from './errors.ts';

/** Milliseconds of each unit. */
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Longest duration that makes sense here, milliseconds: 365 days. */
const MAX_DURATION = 365 * 86_400_000;

/**
 * Reads a duration in milliseconds; a number without a unit counts seconds, as `timeout(1)` does.
 * @throws {YavmError} YAVM_E_USAGE when it is no duration, is not above 0, or exceeds a year.
 */
export function parseDuration(text: string): number {
  const milliseconds = /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) * 1000 : sumParts(text.trim());
  if (Number.isNaN(milliseconds)) {
    throw new YavmError('YAVM_E_USAGE', `'${text}' is not a duration`, {
      hint: 'Write numbers and units: 30s, 1m30s, 250ms, 2h; a bare number counts seconds.',
    });
  }
  if (milliseconds < 1 || milliseconds > MAX_DURATION) {
    throw new YavmError('YAVM_E_USAGE', `'${text}' is out of range for a duration (1ms to 365d)`);
  }
  return milliseconds;
}

/** NaN when the text is anything but `number unit` pairs. */
function sumParts(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== text) return Number.NaN;
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS[unit as string] as number), 0);
}

/** A duration for people, with two figures of what matters: `85 ms`, `1.24 s`, `2 min 5 s`, `3 h 20 min`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 59.995) return `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return pair(Math.floor(whole / 60), 'min', whole % 60, 's');
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return pair(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.round(minutes / 60);
  return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}
