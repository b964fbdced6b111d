/**
 * Keeps an archive in its directory. What passes is safe for any program that extracts entries in order, even one that
 * follows links: no name climbs, no name leads through a link of the archive, no link leads out. The guest resolves
 * everything beneath the directory once more, against what a task put there.
 */
import type { RawName } from '../../lib/raw-name.ts';
import type { EntryType } from '../../lib/tar/header.ts';
import type { ArchiveEntry } from './entry.ts';
import { archiveError } from './errors.ts';
import { type ArchiveLimits, limitError, MAX_PART } from './limits.ts';
import { partsOf, shownName } from './names.ts';
import { ancestorsOf } from './selection.ts';

/** What a remembered name takes beside its bytes. */
const NAME_COST = 100;

/** What an archive of ours does not hold. */
const SPECIAL: Partial<Record<EntryType, string>> = {
  character: 'a character device',
  block: 'a block device',
  fifo: 'a named pipe',
};

export function isSpecial(type: EntryType): boolean {
  return SPECIAL[type] !== undefined;
}

/**
 * A name, relative and without `.` parts and slashes at its end; empty for the directory itself.
 * @throws {YavmError} YAVM_E_ARCHIVE, YAVM_E_ARCHIVE_LIMIT
 */
export function checkedName(name: RawName, limits: ArchiveLimits): RawName {
  if (name === '') throw archiveError('an entry has no name');
  if (name.includes('\0')) throw archiveError(`the name ${shownName(name)} contains a NUL`);
  if (name.startsWith('/')) throw archiveError(`the name ${shownName(name)} is absolute`);
  // Mostly nothing is to be done.
  const parts = partsOf(name);
  if (parts.includes('..')) throw archiveError(`the name ${shownName(name)} leads out of the directory`);
  if (name.length >= limits.name) throw limitError(`a name of ${name.length} bytes`);
  if (parts.length > limits.depth) throw limitError(`${parts.length} directories within each other`);
  if (parts.some((part) => part.length > MAX_PART)) {
    throw limitError(`the name ${shownName(name)} has a part of more than ${MAX_PART} bytes`);
  }
  return parts.join('/');
}

export class Guard {
  readonly #limits: ArchiveLimits;
  readonly #directories = new Set<RawName>();
  /** Symbolic links and where they lead. */
  readonly #links = new Map<RawName, RawName>();
  /** Names that must not become links: a link's target climbs up from what is behind them. */
  readonly #pinned = new Set<RawName>();
  #remembered = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** Takes the next entry, its names checked, or refuses it. @throws {YavmError} YAVM_E_ARCHIVE, YAVM_E_ARCHIVE_LIMIT */
  check(entry: ArchiveEntry): void {
    const { name, type, target } = entry;
    const special = SPECIAL[type];
    if (special) {
      throw archiveError(`${shownName(name)} is ${special}`, { hint: "Leave it out: fileset's excludes." });
    }
    this.#enterParents(name);
    if (type === 'directory') {
      if (this.#links.has(name)) throw archiveError(`${shownName(name)} is a link, and then a directory`);
      this.#addDirectory(name);
      return;
    }
    if (this.#directories.has(name)) {
      throw archiveError(`${shownName(name)} is a directory, and then something else`);
    }
    if (type === 'symlink') this.#addLink(name, target);
    else if (type === 'hardlink') this.#hardLink(name, target);
    else this.#links.delete(name);
  }

  /** Every directory that a name lies in is one, and no link to one. */
  #enterParents(name: RawName): void {
    const slash = name.lastIndexOf('/');
    if (slash < 0 || this.#directories.has(name.slice(0, slash))) return;
    for (const ancestor of ancestorsOf(name)) {
      if (this.#links.has(ancestor)) {
        throw archiveError(`${shownName(name)} leads through the link ${shownName(ancestor)}`);
      }
      this.#addDirectory(ancestor);
    }
  }

  /** `target` is a name of the archive. */
  #hardLink(name: RawName, target: RawName): void {
    const ancestor = ancestorsOf(target).find((directory) => this.#links.has(directory));
    if (target === '' || this.#directories.has(target)) {
      throw archiveError(`${shownName(name)} is a hard link to a directory`);
    }
    if (ancestor !== undefined) {
      throw archiveError(`the hard link ${shownName(name)} leads through the link ${shownName(ancestor)}`);
    }
    const symlink = this.#links.get(target);
    // A second name for a symbolic link: it leads somewhere else from there.
    if (symlink !== undefined) this.#addLink(name, symlink);
    else this.#links.delete(name);
  }

  #addLink(name: RawName, target: RawName): void {
    this.#checkTarget(name, target);
    if (this.#pinned.has(name)) {
      throw archiveError(`${shownName(name)} is a link that another link's target leads through and out of`);
    }
    if (!this.#links.has(name)) this.#remember(name);
    this.#remember(target);
    this.#links.set(name, target);
  }

  /**
   * Where a symbolic link leads, step by step, must stay inside. The directory that it lies in is none that a link leads to,
   * so `..` at the beginning mean what they seem to mean. Behind a name they do only if that name is no link: such
   * names are remembered. All other names may be links, each of which stays inside by itself.
   */
  #checkTarget(name: RawName, target: RawName): void {
    if (target === '') throw archiveError(`the link ${shownName(name)} leads nowhere`);
    if (target.includes('\0')) throw archiveError(`the target of the link ${shownName(name)} contains a NUL`);
    if (target.length >= this.#limits.name) throw limitError(`a link's target of ${target.length} bytes`);
    if (target.startsWith('/')) {
      throw archiveError(`the link ${shownName(name)} is absolute: it leads to ${shownName(target)}`, {
        hint: "Make it relative, or leave it out: fileset's excludes.",
      });
    }
    const position = partsOf(name).slice(0, -1);
    const parts = partsOf(target);
    if (parts.length > 2 * this.#limits.depth) throw limitError(`a link's target of ${parts.length} parts`);
    const lastClimb = parts.lastIndexOf('..');
    let passed: RawName[] = [];
    for (const [index, part] of parts.entries()) {
      if (part !== '..') {
        position.push(part);
        if (index < lastClimb) passed.push(position.join('/'));
        continue;
      }
      if (position.pop() === undefined) {
        throw archiveError(`the link ${shownName(name)} leads out of the directory, to ${shownName(target)}`);
      }
      this.#pin(name, passed);
      passed = [];
    }
  }

  #pin(name: RawName, passed: readonly RawName[]): void {
    for (const path of passed) {
      if (this.#links.has(path)) {
        throw archiveError(
          `the link ${shownName(name)} leads through the link ${shownName(path)}, and up from there`,
        );
      }
      if (this.#pinned.has(path)) continue;
      this.#remember(path);
      this.#pinned.add(path);
    }
  }

  #addDirectory(name: RawName): void {
    if (this.#directories.has(name)) return;
    this.#remember(name);
    this.#directories.add(name);
  }

  #remember(name: RawName): void {
    this.#remembered += name.length + NAME_COST;
    if (this.#remembered > this.#limits.memory) throw limitError('too many directories and links');
  }
}
