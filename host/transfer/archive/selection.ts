/** Which entries of an archive are wanted: by a set of files, and by how deep they lie (exe-unit.md 6.7). */
import { nameText, type RawName } from '../../lib/raw-name.ts';
import type { ArchiveEntry } from './entry.ts';
import { archiveError } from './errors.ts';
import { EVERYTHING, type FilePatterns, type Fileset } from './fileset.ts';
import { compileGlob, type Matcher } from './glob.ts';
import { limitError } from './limits.ts';
import { shownName } from './names.ts';

interface Rules {
  includes: Matcher[];
  excludes: Matcher[];
}

/** More than any name has. */
const MOST_PARTS = 4096;
/** What a remembered directory takes beside its name, bytes. */
const ENTRY_COST = 300;

/**
 * Passes on what is wanted. A directory that is not, but has something in it that is, comes before that; what an
 * `excludes` has is out with everything in it. Names are relative, without slashes at their ends.
 */
export class Selection {
  readonly #rules: Rules[];
  /** Parts that a name may have. */
  readonly #parts: number;
  readonly #everything: boolean;
  /** Characters of all patterns. */
  readonly #text: number;
  readonly #memory: number;
  /** Directories that are written if something in them is. */
  readonly #pending = new Map<RawName, ArchiveEntry>();
  /** Directories in which something is. */
  readonly #used = new Set<RawName>();
  #remembered = 0;

  /** `memory`: bytes of names that are kept. @throws {YavmError} YAVM_E_TRANSFER_FORMAT */
  constructor(fileset: Fileset | undefined, depth: number | undefined, memory: number) {
    const sets = fileset ?? [{ includes: [EVERYTHING], excludes: [] }];
    // A depth of 0 is the directory alone: one part, as a walk of depth 1 has it.
    this.#parts = Math.min(depth ?? MOST_PARTS, MOST_PARTS) + 1;
    this.#everything = depth === undefined && sets.some(isEverything);
    this.#rules = sets.map(({ includes, excludes }) => ({
      includes: includes.map(compileGlob),
      excludes: excludes.map(compileGlob),
    }));
    this.#text = sets.flatMap((set) => [...set.includes, ...set.excludes]).join('').length;
    this.#memory = memory;
  }

  /** About how much work a name is, in bytes moved. */
  work(name: RawName): number {
    return this.#everything ? 0 : name.length * this.#text;
  }

  /** What is to be written for an entry: nothing, the entry, or before it directories that it lies in. */
  select(entry: ArchiveEntry): readonly ArchiveEntry[] {
    if (this.#everything) return [entry];
    const { name } = entry;
    const ancestors = ancestorsOf(name);
    const wanted = this.#wants(name);
    if (entry.type === 'directory' && !wanted && !this.#used.has(name)) {
      this.#remember(name);
      this.#pending.set(name, entry);
      return [];
    }
    if (!wanted && entry.type !== 'directory') return [];
    if (entry.type === 'hardlink' && !this.#wants(entry.target)) {
      throw archiveError(
        `${shownName(name)} is the same file as ${shownName(entry.target)}, which is left out and has the content`,
        { hint: 'Include both, or exclude both.' },
      );
    }
    return [...this.#parents(ancestors), entry];
  }

  #wants(name: RawName): boolean {
    if (name.split('/', this.#parts + 1).length > this.#parts) return false;
    const text = nameText(name);
    return this.#rules.some(({ includes, excludes }) => {
      return includes.some((glob) => glob.matches(text)) && !excludes.some((glob) => glob.covers(text));
    });
  }

  #parents(ancestors: readonly RawName[]): ArchiveEntry[] {
    const written: ArchiveEntry[] = [];
    for (const name of ancestors) {
      if (this.#used.has(name)) continue;
      this.#used.add(name);
      this.#remember(name);
      const entry = this.#pending.get(name);
      if (!entry) continue;
      this.#pending.delete(name);
      written.push(entry);
    }
    return written;
  }

  #remember(name: RawName): void {
    this.#remembered += name.length + ENTRY_COST;
    if (this.#remembered > this.#memory) throw limitError('too many directories');
  }
}

/** The directories that a name lies in, the outermost first. */
export function ancestorsOf(name: RawName): RawName[] {
  const ancestors: RawName[] = [];
  for (let slash = name.indexOf('/'); slash >= 0; slash = name.indexOf('/', slash + 1)) {
    ancestors.push(name.slice(0, slash));
  }
  return ancestors;
}

function isEverything({ includes, excludes }: FilePatterns): boolean {
  return excludes.length === 0 && includes.some((pattern) => pattern === EVERYTHING || pattern === '**');
}
