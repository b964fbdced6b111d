/** What is set about modules: modprobe.d of the initramfs, the kernel's command line, and the host's configure, in that order. */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import type { ModulesSpec } from '../protocol/messages.ts';
import { findAliases } from './aliases.ts';
import { findSoftDependencies, moduleName, type SoftDependencies } from './module-source.ts';

const FOLDER = 'etc/modprobe.d';
const COMMAND_LINE = '/proc/cmdline';
/** Bounds, bytes: COMMAND_LINE_SIZE is 2048 on x86-64; a file of modprobe.d has a few lines. */
const MAX_COMMAND_LINE = 4096;
const MAX_FILE = 64 * 1024;
const MAX_FILES = 64;

export class ModuleRules {
  /** Parameters by module, as finit_module(2) takes them; where two are of one name, the last holds. */
  readonly #options = new Map<string, string>();
  readonly #blacklist = new Set<string>();
  /** Lines `alias …` and `softdep …`, in depmod's own syntax. */
  #aliases = '';
  #softdeps = '';

  /** Parameters of a module; empty when it has none. */
  options(name: string): string {
    return this.#options.get(name) ?? '';
  }

  /** Whether neither an alias nor a soft dependency may load it. By its name it loads all the same, as with modprobe. */
  isBlacklisted(name: string): boolean {
    return this.#blacklist.has(name);
  }

  aliases(alias: string): string[] {
    return findAliases(this.#aliases, alias);
  }

  softDependencies(name: string): SoftDependencies {
    return findSoftDependencies(this.#softdeps, name);
  }

  /**
   * Takes the text of a file of modprobe.d(5). `install` and `remove` are commands of a shell: there is none here, and they
   * are left out, as are words that nobody knows.
   */
  addFile(text: string): void {
    for (const line of text.replaceAll('\\\n', ' ').split('\n')) {
      const [word = '', name = '', ...rest] = line.trim().split(/\s+/);
      if (name === '') continue;
      if (word === 'options') this.#addOptions(name, rest.join(' '));
      else if (word === 'blacklist') this.#blacklist.add(moduleName(name));
      else if (word === 'alias' && rest[0] !== undefined) this.#aliases += `alias ${name} ${rest[0]}\n`;
      else if (word === 'softdep') this.#softdeps += `softdep ${name} ${rest.join(' ')}\n`;
    }
  }

  /** `module.parameter=value` and `modprobe.blacklist=a,b`, as modprobe takes them from the kernel's command line. */
  addCommandLine(text: string): void {
    for (const word of text.trim().split(/\s+/)) {
      // What follows is for init.
      if (word === '--') return;
      const [, name, parameter] = /^([\w-]+)\.([\w-].*)$/.exec(word) ?? [];
      if (name === undefined || parameter === undefined) continue;
      if (name !== 'modprobe') this.#addOptions(name, parameter);
      else if (parameter.startsWith('blacklist='))
        for (const each of parameter.slice(10).split(',')) this.#blacklist.add(moduleName(each));
    }
  }

  /** Takes what the host says. */
  addSpec({ options = {}, blacklist = [] }: ModulesSpec): void {
    for (const [name, words] of Object.entries(options)) this.#addOptions(name, words);
    for (const name of blacklist) this.#blacklist.add(moduleName(name));
  }

  #addOptions(name: string, words: string): void {
    const key = moduleName(name);
    const before = this.#options.get(key);
    this.#options.set(key, before === undefined ? words : `${before} ${words}`);
  }
}

/** Rules of the initramfs at `rootFd` and of the kernel's command line. @throws {GuestError} module-failed: unreadable */
export function readRules(native: Native, rootFd: number): ModuleRules {
  const rules = new ModuleRules();
  try {
    for (const name of ruleFiles(native, rootFd))
      rules.addFile(native.readText(rootFd, `${FOLDER}/${name}`, MAX_FILE));
    rules.addCommandLine(native.readText(-1, COMMAND_LINE, MAX_COMMAND_LINE));
  } catch (error) {
    throw fromNative('module-failed', 'cannot read what is set about kernel modules', error);
  }
  return rules;
}

/** `*.conf`, by name. */
function ruleFiles(native: Native, rootFd: number): string[] {
  let fd: number;
  try {
    fd = native.openBeneath(rootFd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
  try {
    const names = native.readDirectory(fd).map(({ name }) => name);
    return names
      .filter((name) => name.endsWith('.conf'))
      .sort()
      .slice(0, MAX_FILES);
  } finally {
    native.close(fd);
  }
}
