/**
 * Kernel modules, from the initramfs' own /lib/modules, and from sources that the host's driver layer adds: an image never
 * supplies kernel code, and after the task's root has come up `/lib/modules` beneath it is the image's. Hence descriptors.
 * The rules are modprobe's (kmod): dependencies first, soft dependencies around, options, blacklist.
 */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_RDONLY } from '../lib/constants.ts';
import type { ModulesSpec } from '../protocol/messages.ts';
import { ModuleLog } from './module-log.ts';
import { type ModuleRules, readRules } from './module-rules.ts';
import { MODULE_SETS, type ModuleSet, type Purpose } from './module-sets.ts';
import { ModuleSource, moduleName } from './module-source.ts';

/** MODULE_INIT_COMPRESSED_FILE of finit_module(2): the kernel unpacks .xz, .zst and .gz (Linux 5.17). */
const COMPRESSED = 4;
/** What a kernel answers that cannot: without CONFIG_MODULE_DECOMPRESS, or older than the flag. */
const CANNOT_UNPACK = ['EOPNOTSUPP', 'EINVAL'];

/** Loads the modules that every VM needs before it can say hello. @throws {GuestError} module-failed */
export function loadEarlyModules(native: Native, initramfsFd: number): ModuleLoader {
  const loader = new ModuleLoader(native, initramfsFd);
  loader.loadFor('ports');
  return loader;
}

export class ModuleLoader {
  readonly #native: Native;
  readonly #release: string;
  /** The initramfs first: no later source takes the place of what it has. */
  readonly #sources: ModuleSource[];
  readonly #log: ModuleLog;
  #rules: ModuleRules | null = null;
  /** Names that need no further look. */
  readonly #done = new Set<string>();
  /** Names being loaded, with what they need: soft dependencies may form a ring. */
  readonly #underway = new Set<string>();

  /** `rootFd`: the initramfs' root directory. `release`: the kernel's, by default the running one's. */
  constructor(native: Native, rootFd: number, release = native.uname().release) {
    this.#native = native;
    this.#release = release;
    this.#sources = [new ModuleSource(native, rootFd, release)];
    this.#log = new ModuleLog(native);
  }

  /**
   * Adds modules below `lib/modules/RELEASE` of the directory `rootFd`, which must stay open. What they depend on may be in
   * any source.
   */
  addSource(rootFd: number): void {
    this.#sources.push(new ModuleSource(this.#native, rootFd, this.#release));
  }

  /** Takes the host's options and blacklist; they hold for modules that are not loaded yet. @throws {GuestError} module-failed */
  configure(spec: ModulesSpec): void {
    this.#settings().addSpec(spec);
  }

  /** Loads a purpose's set. @throws {GuestError} module-failed, naming the module */
  loadFor(purpose: Purpose): void {
    const { required, optional = [] }: ModuleSet = MODULE_SETS[purpose];
    for (const name of required) this.load(name);
    for (const name of optional) this.loadOptional(name);
  }

  /** The same for what may not be needed: what no source has is left out. @throws {GuestError} module-failed */
  loadWhereThere(purpose: Purpose): void {
    const { required, optional = [] }: ModuleSet = MODULE_SETS[purpose];
    for (const name of [...required, ...optional]) this.loadOptional(name);
  }

  /**
   * Loads a module and what it depends on, each once. Built in or loaded already is fine. The blacklist is not asked.
   * @throws {GuestError} module-failed: not in the initramfs, or refused by the kernel
   */
  load(name: string): void {
    this.#load(moduleName(name), moduleName(name));
  }

  /**
   * Loads a module if some source has it; whether it is there now. A device that is missing is no failure, and one on the
   * blacklist stays out.
   */
  loadOptional(wanted: string): boolean {
    const name = moduleName(wanted);
    if (this.#settings().isBlacklisted(name)) return false;
    if (!this.#done.has(name) && !this.#find(name)) return this.#isBuiltin(name);
    try {
      this.load(name);
      return true;
    } catch (error) {
      if (isAbsentDevice(error)) return false;
      throw error;
    }
  }

  /**
   * Loads the modules for a device, by its MODALIAS, but for those on the blacklist. Each is tried.
   * @returns the names of those that are loaded now.
   */
  loadAlias(alias: string, onFailure: (error: unknown) => void): string[] {
    return this.#resolve(alias).filter((name) => {
      try {
        this.load(name);
        return true;
      } catch (error) {
        if (!isAbsentDevice(error)) onFailure(error);
        return false;
      }
    });
  }

  /** Buses of sysfs for whose devices there may be modules. */
  buses(): Set<string> {
    return new Set(this.#sources.flatMap((source) => [...source.buses()]));
  }

  /** Gives up what only loading needs: lists of modules, the kernel's log. The next call reads it again. */
  rest(): void {
    for (const source of this.#sources) source.rest();
    this.#log.rest();
  }

  #load(name: string, wanted: string): void {
    if (this.#done.has(name) || this.#underway.has(name)) return;
    const found = this.#find(name);
    if (!found && !this.#isBuiltin(name)) throw this.#missing(name, wanted);
    if (found) {
      const { source, entry } = found;
      this.#underway.add(name);
      try {
        const soft = [this.#settings(), source].map((each) => each.softDependencies(name));
        for (const { before } of soft) this.#loadSoft(before);
        for (const path of entry.dependencies.reverse()) this.#load(moduleName(path), wanted);
        this.#insert(source, entry.path, wanted);
        for (const { after } of soft) this.#loadSoft(after);
      } finally {
        this.#underway.delete(name);
      }
    }
    this.#done.add(name);
  }

  /** Names or aliases. What is not there, or does not load, is passed over, as modprobe does. */
  #loadSoft(wanted: string[]): void {
    for (const each of wanted) {
      const name = moduleName(each);
      const names = this.#find(name) || this.#isBuiltin(name) ? [name] : this.#resolve(each);
      for (const found of names) {
        try {
          this.#load(found, found);
        } catch {
          // Soft: the module itself knows what it can do without.
        }
      }
    }
  }

  #insert(source: ModuleSource, path: string, wanted: string): void {
    const name = moduleName(path);
    const flags = path.endsWith('.ko') ? 0 : COMPRESSED;
    this.#log.mark();
    try {
      const fd = this.#native.openBeneath(source.rootFd, `${source.folder}/${path}`, O_RDONLY | O_CLOEXEC, 0);
      try {
        this.#native.loadModule(fd, this.#settings().options(name), flags);
      } finally {
        this.#native.close(fd);
      }
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) return;
      const chain = name === wanted ? '' : `, needed by '${wanted}'`;
      const unpack = flags === COMPRESSED && CANNOT_UNPACK.some((errno) => hasErrno(error, errno));
      const failure = unpack
        ? 'is compressed, and this kernel does not unpack it: it must lie there unpacked'
        : 'cannot be loaded';
      const line = this.#log.lastLine(name);
      const failed = fromNative(
        'module-failed',
        `kernel module '${name}' (${path})${chain} ${failure}`,
        error,
      );
      throw line === '' ? failed : new GuestError(failed.code, `${failed.message}; kernel: ${line}`, failed);
    }
  }

  #missing(name: string, wanted: string): GuestError {
    const chain = name === wanted ? '' : `, which '${wanted}' needs,`;
    return new GuestError(
      'module-failed',
      `kernel module '${name}'${chain} is neither in the initramfs nor built into the kernel`,
      { path: `/${this.#sources[0]?.folder}` },
    );
  }

  #find(name: string) {
    for (const source of this.#sources) {
      const entry = source.find(name);
      if (entry) return { source, entry };
    }
    return undefined;
  }

  #isBuiltin(name: string): boolean {
    return this.#sources.some((source) => source.isBuiltin(name));
  }

  /** Modules for an alias, less those on the blacklist. */
  #resolve(alias: string): string[] {
    const rules = this.#settings();
    const names = [rules, ...this.#sources].flatMap((each) => each.aliases(alias)).map(moduleName);
    return [...new Set(names)].filter((name) => !rules.isBlacklisted(name));
  }

  #settings(): ModuleRules {
    this.#rules ??= readRules(this.#native, this.#sources[0]?.rootFd ?? -1);
    return this.#rules;
  }
}

/** The driver is fine, the machine lacks what it drives. */
function isAbsentDevice(error: unknown): boolean {
  return error instanceof GuestError && error.errno === 'ENODEV';
}
