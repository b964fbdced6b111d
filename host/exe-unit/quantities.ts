/** Sizes and durations as scripts write them: the spec's exe-unit.md, 5.2. They differ from those of our command line. */

const PREFIXES = ['', 'k', 'm', 'g', 't', 'p'];
const DECIMAL = 1000;
const BINARY = 1024;

/** Bytes of `7000m`, `10GiB`, `8 GB`: a prefix alone is decimal. NaN when it is none. Rounded down, at most 2^53 - 1. */
export function parseBytes(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)\s*$/i.exec(text);
  if (!match) return Number.NaN;
  const [, number, prefix = '', binary] = match;
  if (binary !== '' && prefix === '') return Number.NaN;
  const power = PREFIXES.indexOf(prefix.toLowerCase());
  const bytes = Math.floor(Number(number) * (binary === '' ? DECIMAL : BINARY) ** power);
  return Math.min(bytes, Number.MAX_SAFE_INTEGER);
}

const DAY = 86_400_000;
/** Milliseconds of each unit, by all its names. */
const UNITS: readonly (readonly [milliseconds: number, ...names: string[]])[] = [
  [1e-6, 'nsec', 'ns'],
  [1e-3, 'usec', 'us'],
  [1, 'msec', 'ms'],
  [1000, 'seconds', 'second', 'sec', 's'],
  [60_000, 'minutes', 'minute', 'min', 'm'],
  [3_600_000, 'hours', 'hour', 'hr', 'h'],
  [DAY, 'days', 'day', 'd'],
  [7 * DAY, 'weeks', 'week', 'w'],
  [30.44 * DAY, 'months', 'month', 'M'],
  [365.25 * DAY, 'years', 'year', 'y'],
];
const MILLISECONDS = new Map(UNITS.flatMap(([size, ...names]) => names.map((name) => [name, size])));

/** Longer texts are no durations. */
const MAX_DURATION_TEXT = 100;

/** Milliseconds of `1s 300ms`; NaN when it is none. */
export function parseDuration(text: string): number {
  if (text.length > MAX_DURATION_TEXT || !/^\s*(\d+\s*[a-zA-Z]+\s*)+$/.test(text)) return Number.NaN;
  let sum = 0;
  for (const [, number, unit = ''] of text.matchAll(/(\d+)\s*([a-zA-Z]+)/g)) {
    sum += Number(number) * (MILLISECONDS.get(unit) ?? Number.NaN);
  }
  return sum;
}
