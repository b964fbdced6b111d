/**
 * Kernel modules, from the initramfs' own /lib/modules: an image never supplies kernel code, and after the
 * task's root has come up `/lib/modules` beneath it is the image's. Hence the directory descriptor.
 */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_RDONLY } from '../lib/constants.ts';
import { MODULE_SETS, type ModuleSet, type Purpose } from './module-sets.ts';

/** Bound on modules.dep and modules.builtin, bytes: a whole Debian kernel's are 700 KB and 9 KB. */
const MAX_LIST = 4 * 1024 * 1024;
/** MODULE_INIT_COMPRESSED_FILE of finit_module(2): the kernel unpacks .xz, .zst and .gz (Linux 5.17). */
const COMPRESSED = 4;

/** A line of modules.dep. */
interface Entry {
  /** Path beneath the release's folder. */
  path: string;
  /** Paths of all modules that must be there first, the deepest last (depmod lists them transitively). */
  dependencies: string;
}

/** Loads the modules that every VM needs before it can say hello. @throws {GuestError} module-failed */
export function loadEarlyModules(native: Native, initramfsFd: number): ModuleLoader {
  const loader = new ModuleLoader(native, initramfsFd);
  loader.loadFor('ports');
  return loader;
}

export class ModuleLoader {
  readonly #native: Native;
  readonly #rootFd: number;
  readonly #folder: string;
  /** Module name → its line; read when the first module is asked for. */
  #index: Map<string, Entry> | null = null;
  #builtin: Set<string> | null = null;
  /** Paths and names that need no further look. */
  readonly #done = new Set<string>();

  /** `rootFd`: the initramfs' root directory. `release`: the kernel's, by default the running one's. */
  constructor(native: Native, rootFd: number, release = native.uname().release) {
    this.#native = native;
    this.#rootFd = rootFd;
    this.#folder = `lib/modules/${release}`;
  }

  /** Loads a purpose's set. @throws {GuestError} module-failed, naming the module */
  loadFor(purpose: Purpose): void {
    const { required, optional = [] }: ModuleSet = MODULE_SETS[purpose];
    for (const name of required) this.load(name);
    for (const name of optional) this.loadOptional(name);
  }

  /**
   * Loads a module and what it depends on, each once. Built in or loaded already is fine.
   * @throws {GuestError} module-failed: not in the initramfs, or refused by the kernel
   */
  load(name: string): void {
    if (this.#done.has(name)) return;
    const entry = this.#find(name);
    if (!entry && !this.#isBuiltin(name)) {
      throw new GuestError(
        'module-failed',
        `kernel module '${name}' is neither in the initramfs nor built into the kernel`,
        {
          path: `/${this.#folder}`,
        },
      );
    }
    if (entry) {
      const dependencies = entry.dependencies.split(' ');
      for (let i = dependencies.length - 1; i >= 0; i--) {
        if (dependencies[i] !== '') this.#insert(dependencies[i] as string, name);
      }
      this.#insert(entry.path, name);
    }
    this.#done.add(name);
  }

  /** Loads a module if the initramfs has it; whether it is there now. A device that is missing is no failure. */
  loadOptional(name: string): boolean {
    if (!this.#done.has(name) && !this.#find(name)) return this.#isBuiltin(name);
    try {
      this.load(name);
      return true;
    } catch (error) {
      if (error instanceof GuestError && error.errno === 'ENODEV') return false;
      throw error;
    }
  }

  #insert(path: string, wanted: string): void {
    if (this.#done.has(path)) return;
    try {
      const fd = this.#native.openBeneath(this.#rootFd, `${this.#folder}/${path}`, O_RDONLY | O_CLOEXEC, 0);
      try {
        this.#native.loadModule(fd, '', path.endsWith('.ko') ? 0 : COMPRESSED);
      } finally {
        this.#native.close(fd);
      }
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) {
        const chain = moduleName(path) === wanted ? '' : `, needed by '${wanted}'`;
        throw fromNative(
          'module-failed',
          `cannot load kernel module '${moduleName(path)}' (${path})${chain}`,
          error,
        );
      }
    }
    this.#done.add(path);
  }

  #find(name: string): Entry | undefined {
    this.#index ??= parseDependencies(this.#readList('modules.dep'));
    return this.#index.get(name);
  }

  #isBuiltin(name: string): boolean {
    this.#builtin ??= new Set(this.#readList('modules.builtin').split('\n').map(moduleName));
    return this.#builtin.has(name);
  }

  /** A list of depmod's; one that is missing is empty (a kernel without any modules has none). */
  #readList(file: string): string {
    try {
      return this.#native.readText(this.#rootFd, `${this.#folder}/${file}`, MAX_LIST);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return '';
      throw fromNative('module-failed', `cannot read the list of kernel modules '${file}'`, error);
    }
  }
}

/** Lines `path: path path…` by module name. Dependencies stay text: few modules are ever asked for. */
export function parseDependencies(text: string): Map<string, Entry> {
  const index = new Map<string, Entry>();
  let start = 0;
  while (start < text.length) {
    let end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    const colon = text.indexOf(':', start);
    if (colon > start && colon < end) {
      const path = text.slice(start, colon);
      index.set(moduleName(path), { path, dependencies: text.slice(colon + 1, end) });
    }
    start = end + 1;
  }
  return index;
}

/** `kernel/drivers/char/hw_random/virtio-rng.ko.xz` → `virtio_rng`: the kernel's names have no dashes. */
export function moduleName(path: string): string {
  const base = path.slice(path.lastIndexOf('/') + 1);
  const suffix = base.indexOf('.ko');
  const name = suffix < 0 ? base : base.slice(0, suffix);
  return name.includes('-') ? name.split('-').join('_') : name;
}
