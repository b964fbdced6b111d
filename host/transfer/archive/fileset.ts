/** A script's `fileset`: which of a directory's files are transferred (exe-unit.md 5.1, 6.7). */
import { YavmError } from '../../lib/errors.ts';
import { isLiteral } from './glob.ts';

/** Patterns as glob.ts takes them. A file is in when an `includes` has it, and no `excludes`. */
export interface FilePatterns {
  /** The script's `desc`: for people. */
  description?: string;
  includes: string[];
  excludes: string[];
}

/** A file is in when one of them has it. */
export type Fileset = readonly FilePatterns[];

/** What a set without `includes` has: everything. */
export const EVERYTHING = '**/*';

const MAX_SETS = 64;
/** Of all sets together. */
const MAX_PATTERNS = 1024;
/** Characters of one pattern, and of all. */
const MAX_PATTERN = 512;
const MAX_TEXT = 64 * 1024;
/** Characters of all patterns that are more than a name: a match takes time for each of them and of a path. */
const MAX_WILD = 2048;
const MAX_DESCRIPTION = 4096;

/**
 * Reads every spelling: a pattern, patterns, a set, sets. Undefined and null are no restriction; fields that the grammar
 * does not have are ignored, as upstream does.
 * @throws {YavmError} YAVM_E_TRANSFER_FORMAT
 */
export function parseFileset(value: unknown): Fileset {
  if (value === undefined || value === null) return [everything()];
  const sets = setsOf(value);
  const patterns = sets.flatMap(({ includes, excludes }) => [...includes, ...excludes]);
  if (patterns.length > MAX_PATTERNS) throw refused(`${patterns.length} patterns, at most ${MAX_PATTERNS}`);
  const text = lengthOf(patterns);
  if (text > MAX_TEXT) throw refused(`${text} characters of patterns, at most ${MAX_TEXT}`);
  const wild = lengthOf(patterns.filter((pattern) => !isLiteral(pattern)));
  if (wild > MAX_WILD) throw refused(`${wild} characters of patterns with wildcards, at most ${MAX_WILD}`);
  return sets;
}

function lengthOf(patterns: readonly string[]): number {
  return patterns.reduce((sum, pattern) => sum + pattern.length, 0);
}

function setsOf(value: unknown): FilePatterns[] {
  if (typeof value === 'string') return [{ includes: [pattern(value, 'fileset')], excludes: [] }];
  if (!Array.isArray(value)) return [setOf(value, 'fileset')];
  if (value.length === 0) throw refused('an empty list: nothing would be transferred');
  // A list of texts is one set, a list of objects are several.
  if (typeof value[0] === 'string') return [{ includes: patterns(value, 'fileset') ?? [], excludes: [] }];
  if (value.length > MAX_SETS) throw refused(`${value.length} sets, at most ${MAX_SETS}`);
  return value.map((item, index) => setOf(item, `fileset[${index}]`));
}

function setOf(value: unknown, path: string): FilePatterns {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw refused(`${path} is neither a pattern nor a set`);
  }
  const { desc, includes, excludes } = value as Record<string, unknown>;
  const set: FilePatterns = {
    includes: patterns(includes, `${path}.includes`) ?? [EVERYTHING],
    excludes: patterns(excludes, `${path}.excludes`) ?? [],
  };
  if (desc !== undefined && desc !== null) {
    if (typeof desc !== 'string' || desc.length > MAX_DESCRIPTION) {
      throw refused(`${path}.desc is no text of at most ${MAX_DESCRIPTION} characters`);
    }
    set.description = desc;
  }
  return set;
}

/** One pattern or several; undefined for what is not there. */
function patterns(value: unknown, path: string): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) return [pattern(value, path)];
  if (value.length > MAX_PATTERNS)
    throw refused(`${path}: ${value.length} patterns, at most ${MAX_PATTERNS}`);
  return value.map((item, index) => pattern(item, `${path}[${index}]`));
}

function pattern(value: unknown, path: string): string {
  if (typeof value !== 'string') throw refused(`${path} is no text`);
  if (value === '') throw refused(`${path} is empty`);
  if (value.length > MAX_PATTERN) {
    throw refused(`${path} has ${value.length} characters, at most ${MAX_PATTERN}`);
  }
  if (value.includes('\0')) throw refused(`${path} contains a NUL`);
  return value;
}

function everything(): FilePatterns {
  return { includes: [EVERYTHING], excludes: [] };
}

function refused(problem: string): YavmError {
  return new YavmError(
    'YAVM_E_TRANSFER_FORMAT',
    problem.startsWith('fileset') ? problem : `fileset: ${problem}`,
    {
      hint: "A pattern is a path relative to the directory: '*' stays within one name, '**' does not.",
    },
  );
}
