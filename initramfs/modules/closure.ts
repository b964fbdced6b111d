/** Which module files the initramfs carries for a list of requests, in an order that loads. Pure. */
import { KernelConfigError, ModuleError } from '../errors.ts';
import type { KernelConfig } from '../kconfig.ts';
import { type ModuleIndex, moduleName } from './index-files.ts';
import type { ModuleRequest, Stage } from './table.ts';

export interface CarriedModule {
  name: string;
  /** In the kernel's modules folder. */
  path: string;
  stage: Stage;
  reason: string;
  /** The module that brought it along; null: asked for by itself. */
  via: string | null;
  /** Everything that must be loaded before it, all levels; loading from last to first works (depmod's order). */
  dependencies: string[];
}

export interface Closure {
  /** In load order: each comes after all that it depends on. */
  modules: CarriedModule[];
  /** Requested names that the kernel has built in. */
  builtin: string[];
  /** Optional requests that this kernel does not have. */
  absent: ModuleRequest[];
}

/**
 * Resolves requests to module files with all their dependencies. Soft dependencies (`softdep … pre:`) are taken in as
 * hard ones, so that the guest's loader needs to know no second kind: ext4 as a module finds no crc32c without.
 * @param config The kernel's configuration, when known: it tells "not in this kernel" from "its file is missing".
 * @throws {KernelConfigError} required ones are neither module nor built in; all are named, with their symbols.
 * @throws {ModuleError} a file that the index or the configuration promises is not there, or a dependency loop.
 */
export function resolveClosure(
  index: ModuleIndex,
  requests: readonly ModuleRequest[],
  config: KernelConfig | null = null,
): Closure {
  const walk = new Walk(index);
  const closure: Closure = { modules: walk.modules, builtin: [], absent: [] };
  const missing: ModuleRequest[] = [];
  for (const request of requests) {
    const name = moduleName(request.name);
    if (index.modules.has(name)) walk.request(name, request.stage, request.reason);
    else if (index.builtin.has(name) || symbolValue(config, request) === 'y') closure.builtin.push(name);
    else if (request.optional) closure.absent.push(request);
    else missing.push(request);
  }
  if (missing.length > 0) throw missingError(missing, config);
  return closure;
}

/** Depth-first: a module is listed when all before it are. */
class Walk {
  readonly modules: CarriedModule[] = [];
  readonly #index: ModuleIndex;
  /** Finished ones, by name; null while one is being walked. */
  readonly #seen = new Map<string, CarriedModule | null>();

  constructor(index: ModuleIndex) {
    this.#index = index;
  }

  /** A module that is asked for, and those that want to be loaded after it or after what it brings along. */
  request(name: string, stage: Stage, reason: string): void {
    let from = this.modules.length;
    this.#add(name, stage, reason, null);
    // Afterwards: one in the middle of the walk may want a module that is still being walked. The list grows meanwhile.
    for (; from < this.modules.length; from++) {
      const { name: first } = this.modules[from] as CarriedModule;
      for (const wanted of this.#index.softAfter.get(first) ?? [])
        for (const later of this.#meant(wanted))
          this.#add(later, 'configure', `is to be loaded after ${first}`, first);
    }
  }

  #add(name: string, stage: Stage, reason: string, via: string | null): CarriedModule {
    const known = this.#seen.get(name);
    if (known) return known;
    if (known === null) throw new ModuleError(`modules.dep: ${name} depends on itself`);
    const file = this.#index.modules.get(name);
    if (!file) throw new ModuleError(`modules.dep names ${name} as a dependency, but has no line for it`);
    this.#seen.set(name, null);
    const order: string[] = [];
    for (const before of [...this.#softBefore(name), ...file.dependencies.toReversed()]) {
      const dependency = this.#add(before, stage, `${name} needs it`, name);
      for (const each of [...dependency.dependencies.toReversed(), dependency.name])
        if (!order.includes(each)) order.push(each);
    }
    const carried = { name, path: file.path, stage, reason, via, dependencies: order.toReversed() };
    this.#seen.set(name, carried);
    this.modules.push(carried);
    return carried;
  }

  /** Modules meant by `softdep … pre:`; what is built in or unknown is dropped, as modprobe does. */
  #softBefore(name: string): string[] {
    const found = (this.#index.softBefore.get(name) ?? []).flatMap((wanted) => this.#meant(wanted));
    return found.filter((each) => each !== name);
  }

  /**
   * A name, or an alias that several modules can have (`crc32c`: a generic and an accelerated one). Then those for
   * certain processors are left out: they refuse to load on others, and here a soft dependency is a hard one.
   */
  #meant(wanted: string): string[] {
    const direct = moduleName(wanted);
    const { modules, builtin, aliases } = this.#index;
    if (modules.has(direct)) return [direct];
    if (builtin.has(direct)) return [];
    const named = aliases.filter(([pattern]) => pattern === wanted).map(([, target]) => target);
    return [...new Set(named)].filter(
      (target) => modules.get(target)?.path.startsWith('kernel/arch/') === false,
    );
  }
}

function missingError(missing: ModuleRequest[], config: KernelConfig | null): Error {
  // `=m` in the configuration, and no file: the folder is incomplete, and no other kernel is needed.
  const lost = missing.filter((request) => symbolValue(config, request) === 'm');
  if (lost.length > 0)
    return new ModuleError(
      `module files are missing: ${lost.map(({ name, symbol }) => `${name} (${symbol}=m)`).join(', ')}`,
      {
        hint: 'Give the complete modules folder of this kernel (some distributions split it over packages).',
      },
    );
  const listed = missing.map(
    ({ name, symbol, reason }) => `${name} (${symbol ? `${symbol}: ` : ''}${reason})`,
  );
  const message = `the kernel has neither module nor built-in: ${listed.join(', ')}`;
  const symbols = [...new Set(missing.flatMap(({ symbol }) => symbol ?? []))];
  if (symbols.length === 0) return new ModuleError(message);
  const wanted = symbols.map((symbol) => `${symbol}=y or =m`).join(', ');
  return new KernelConfigError(message, symbols, { hint: `Use a kernel with ${wanted}.` });
}

function symbolValue(config: KernelConfig | null, { symbol }: ModuleRequest): string | undefined {
  return symbol === null ? undefined : config?.get(symbol);
}
