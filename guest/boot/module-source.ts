/** A folder of kernel modules with depmod's lists: the initramfs', or a driver layer's. */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { aliasBuses, findAliases } from './aliases.ts';

/** Bound on each list, bytes: a whole Debian kernel's modules.alias is 1 MB, its modules.dep 700 KB. */
const MAX_LIST = 4 * 1024 * 1024;

type ListName = 'modules.dep' | 'modules.softdep' | 'modules.alias' | 'modules.builtin';

/** A line of modules.dep. */
export interface ModuleEntry {
  /** Path beneath the release's folder. */
  path: string;
  /** Paths of all modules that must be there first, the deepest last (depmod lists them transitively). */
  dependencies: string[];
}

/** What should be loaded before and after a module, by name or alias; that it cannot is no failure. */
export interface SoftDependencies {
  before: string[];
  after: string[];
}

export class ModuleSource {
  /** Root directory of what has the folder. */
  readonly rootFd: number;
  /** Beneath it. */
  readonly folder: string;
  readonly #native: Native;
  /** Lists that have been read. They stay text: few modules are ever asked for, and an index is several times the size. */
  #lists = new Map<ListName, string>();

  constructor(native: Native, rootFd: number, release: string) {
    this.#native = native;
    this.rootFd = rootFd;
    this.folder = `lib/modules/${release}`;
  }

  /** The module of this name, as the kernel spells it. @throws {GuestError} module-failed: the list cannot be read */
  find(name: string): ModuleEntry | undefined {
    const line = findModuleLine(this.#list('modules.dep'), name);
    const colon = line?.indexOf(':') ?? -1;
    if (line === undefined || colon < 0) return undefined;
    return {
      path: line.slice(0, colon),
      dependencies: line
        .slice(colon + 1)
        .split(' ')
        .filter(Boolean),
    };
  }

  isBuiltin(name: string): boolean {
    return findModuleLine(this.#list('modules.builtin'), name) !== undefined;
  }

  softDependencies(name: string): SoftDependencies {
    return findSoftDependencies(this.#list('modules.softdep'), name);
  }

  /** Names of the modules for a device, or for a name that is none of a module. */
  aliases(alias: string): string[] {
    return findAliases(this.#list('modules.alias'), alias);
  }

  /** Buses of sysfs whose devices it may have modules for. */
  buses(): Set<string> {
    return aliasBuses(this.#list('modules.alias'));
  }

  /** Forgets what was read: the next question reads it again. */
  rest(): void {
    this.#lists.clear();
  }

  /** A list of depmod's; one that is missing is empty (a kernel without any modules has none). */
  #list(file: ListName): string {
    let text = this.#lists.get(file);
    if (text !== undefined) return text;
    try {
      text = this.#native.readText(this.rootFd, `${this.folder}/${file}`, MAX_LIST);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT'))
        throw fromNative('module-failed', `cannot read the list of kernel modules '${file}'`, error);
      text = '';
    }
    this.#lists.set(file, text);
    return text;
  }
}

/**
 * The line for a module in a list whose lines begin with a module's path (modules.dep, modules.builtin). Looks for the
 * longest part of the name that all spellings share, and only then at the line around it.
 */
export function findModuleLine(text: string, name: string): string | undefined {
  const part = name.split('_').reduce((longest, each) => (each.length > longest.length ? each : longest), '');
  if (part === '') return undefined;
  for (let at = text.indexOf(part); at >= 0; ) {
    const start = text.lastIndexOf('\n', at) + 1;
    let end = text.indexOf('\n', at);
    if (end < 0) end = text.length;
    const colon = text.indexOf(':', start);
    const pathEnd = colon < 0 || colon > end ? end : colon;
    if (pathEnd > start && moduleName(text.slice(start, pathEnd)) === name) return text.slice(start, end);
    at = text.indexOf(part, end);
  }
  return undefined;
}

/** From lines `softdep NAME pre: a b post: c`, of which a module may have several. Words before any `pre:` mean nothing. */
export function findSoftDependencies(text: string, name: string): SoftDependencies {
  const found: SoftDependencies = { before: [], after: [] };
  if (text === '') return found;
  for (const line of text.split('\n')) {
    if (!line.startsWith('softdep ')) continue;
    const [, of = '', ...words] = line.trim().split(/\s+/);
    if (moduleName(of) !== name) continue;
    let list: string[] | null = null;
    for (const word of words) {
      if (word === 'pre:') list = found.before;
      else if (word === 'post:') list = found.after;
      else list?.push(word);
    }
  }
  return found;
}

/** `kernel/drivers/char/hw_random/virtio-rng.ko.xz` → `virtio_rng`: the kernel's names have no dashes. */
export function moduleName(path: string): string {
  const base = path.slice(path.lastIndexOf('/') + 1);
  const suffix = base.indexOf('.ko');
  const name = suffix < 0 ? base : base.slice(0, suffix);
  return name.includes('-') ? name.split('-').join('_') : name;
}
