/** What the options of several commands mean: text of the command line → typed values. Pure; errors are YAVM_E_USAGE. */
import { YavmError } from '../lib/errors.ts';
import { parseSize } from '../lib/size.ts';
import { MIN_DISK } from '../runtime/disk-size.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export function usageError(message: string, hint?: string): YavmError {
  return new YavmError('YAVM_E_USAGE', message, { hint });
}

/** For commander's repeatable options: collects the values in order. */
export function collect<T>(parse: (text: string) => T): (text: string, previous?: T[]) => T[] {
  return (text, previous = []) => [...previous, parse(text)];
}

/** A parser whose errors name the option: `--memory: '1x' is not a size`. */
export function forOption<T>(option: string, parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof YavmError)) throw error;
      throw new YavmError(error.code, `${option}: ${error.message}`, {
        cause: error.cause,
        hint: error.hint,
      });
    }
  };
}

// ---------------------------------------------------------------- environment

/** A name without `=` or NUL, then a value without NUL. Anything else cannot be an environment string. */
const ENV_ENTRY = /^([^=\0]+)(?:=([^\0]*))?$/s;

/**
 * One `--env`: `K=V`, or `K` alone for the value that ya-vm's own environment has.
 * @returns undefined when `K` alone is not set here: it is then left out, as docker does.
 */
export function parseEnv(text: string, environment: Environment): string | undefined {
  const match = ENV_ENTRY.exec(text);
  if (!match) throw usageError(`'${text}' is not an environment variable`, 'Write KEY=value, or KEY alone.');
  const [, key, value] = match;
  if (value !== undefined) return text;
  const inherited = environment[key as string];
  return inherited === undefined ? undefined : `${key}=${inherited}`;
}

/**
 * An `--env-file`: one entry a line as {@link parseEnv} takes it; blank lines and lines that start with `#` are left
 * out. Values are literal to the end of the line, quotes included (docker's format).
 */
export function parseEnvFile(content: string, name: string, environment: Environment): string[] {
  const entries: string[] = [];
  for (const [index, line] of content
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const text = line.trimStart();
    if (text === '' || text.startsWith('#')) continue;
    const key = text.split('=', 1)[0] as string;
    if (key === '' || /\s/.test(key)) {
      throw usageError(`${name}:${index + 1}: '${key}' cannot be the name of an environment variable`);
    }
    const entry = parseEnv(text, environment);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/** Later entries replace earlier ones of the same name, in the earlier one's place. */
export function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of lists.flat()) merged.set(entry.split('=', 1)[0] as string, entry);
  return [...merged.values()];
}

// ---------------------------------------------------------------- limits

/** Names of getrlimit(2), without RLIMIT_ and in lower case. */
export const RLIMIT_NAMES = [
  'as',
  'core',
  'cpu',
  'data',
  'fsize',
  'locks',
  'memlock',
  'msgqueue',
  'nice',
  'nofile',
  'nproc',
  'rss',
  'rtprio',
  'rttime',
  'sigpending',
  'stack',
] as const;

export interface Rlimit {
  name: string;
  soft: number;
  hard: number;
}

/** `name=soft[:hard]`; a value is a whole number, or `unlimited` (-1). Without hard, hard = soft. */
export function parseRlimit(text: string): Rlimit {
  const match = /^([a-z]+)=([^:]+)(?::(.+))?$/.exec(text.toLowerCase());
  const hint = `Write name=soft[:hard], as in nofile=1024:4096. Names: ${RLIMIT_NAMES.join(', ')}.`;
  if (!match) throw usageError(`'${text}' is not a limit`, hint);
  const [, name, softText, hardText] = match as unknown as [string, string, string, string | undefined];
  if (!(RLIMIT_NAMES as readonly string[]).includes(name))
    throw usageError(`there is no limit '${name}'`, hint);
  const soft = limitValue(softText, text, hint);
  const hard = hardText === undefined ? soft : limitValue(hardText, text, hint);
  if (hard !== -1 && (soft === -1 || soft > hard)) {
    throw usageError(`'${text}': the soft limit is above the hard one`, hint);
  }
  return { name, soft, hard };
}

function limitValue(value: string, text: string, hint: string): number {
  if (value === 'unlimited' || value === '-1') return -1;
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw usageError(`'${text}': '${value}' is no limit's value`, hint);
  return number;
}

/** The least memory that a VM is tried with, MiB: kernel, agent and a small command. */
const MIN_MEMORY_MIB = 64;

/** `--memory`: a size, in whole MiB, at least 64. */
export function parseMemory(text: string): number {
  const mebibytes = Math.floor(parseSize(text) / 1024 ** 2);
  if (mebibytes < MIN_MEMORY_MIB)
    throw usageError(`'${text}' is less memory than the ${MIN_MEMORY_MIB} MiB that a VM needs`);
  return mebibytes;
}

/** `--storage`: bytes that the guest can use; what ext4 itself takes comes on top. */
export function parseStorage(text: string): number {
  const bytes = parseSize(text);
  if (bytes < MIN_DISK) throw usageError(`'${text}' is too small for a root disk`, 'Give at least 16M.');
  return bytes;
}

/** Upper bound of `-smp` for q35 in QEMU 7.2. */
const MAX_CPUS = 255;

export function parseCpus(text: string): number {
  return parseInteger(text, 1, MAX_CPUS, 'number of CPUs');
}

/** A whole number in `low…high`. `what` names it in the error. */
export function parseInteger(text: string, low: number, high: number, what: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= low && number <= high)) {
    throw usageError(`'${text}' is no ${what}`, `Give a whole number from ${low} to ${high}.`);
  }
  return number;
}

/** One of a few words. */
export function parseChoice<T extends string>(text: string, choices: readonly T[], what: string): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined)
    throw usageError(`'${text}' is no ${what}`, `Choose one of: ${choices.join(', ')}.`);
  return found;
}

/** Host name as the guest's kernel takes it: labels of RFC 1123, at most 64 bytes (HOST_NAME_MAX). */
export function parseHostname(text: string): string {
  const label = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?';
  if (text.length > 64 || !new RegExp(`^${label}(\\.${label})*$`, 'i').test(text)) {
    throw usageError(`'${text}' is no host name`, 'Use letters, digits and dashes, at most 64 characters.');
  }
  return text;
}

/** An absolute path in the guest. */
export function parseGuestPath(text: string): string {
  if (!text.startsWith('/') || text.includes('\0')) {
    throw usageError(`'${text}' is not an absolute path in the VM`, "Start it with '/'.");
  }
  return text;
}
