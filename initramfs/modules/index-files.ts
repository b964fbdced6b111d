/** Parsers for the text files that depmod and the kernel's build leave in /lib/modules/<release>. Pure. */

/** One module of a kernel package. */
export interface ModuleFile {
  /** Relative to the release's folder: `kernel/fs/fuse/fuse.ko.xz`. */
  path: string;
  /** Names it depends on, all levels, as depmod orders them: loading from last to first works. */
  dependencies: string[];
}

export interface ModuleIndex {
  /** By canonical name. */
  modules: Map<string, ModuleFile>;
  /** Canonical names of what is built into the kernel. */
  builtin: Set<string>;
  /** Name → names (or aliases) that should be loaded before it. */
  softBefore: Map<string, string[]>;
  /** Name → names (or aliases) that should be loaded after it. */
  softAfter: Map<string, string[]>;
  /** Pattern and canonical name, in file order. */
  aliases: [pattern: string, name: string][];
}

/** The text of each file; '' for one that the folder lacks. */
export interface IndexTexts {
  dep: string;
  builtin: string;
  softdep: string;
  alias: string;
}

/** `kernel/drivers/char/hw_random/virtio-rng.ko.xz` → `virtio_rng`: the kernel takes both spellings for one name. */
export function moduleName(pathOrName: string): string {
  const base = pathOrName.slice(pathOrName.lastIndexOf('/') + 1);
  return base.replace(/\.ko(\.(gz|xz|zst))?$/, '').replaceAll('-', '_');
}

/** Parses all four files. Lines that make no sense are skipped: the resolver reports what is then missing. */
export function parseIndex(texts: IndexTexts): ModuleIndex {
  return {
    modules: parseDependencies(texts.dep),
    builtin: new Set(linesOf(texts.builtin).map(moduleName)),
    ...parseSoftDependencies(texts.softdep),
    aliases: parseAliases(texts.alias),
  };
}

/** modules.dep: `path: path path …`. */
function parseDependencies(text: string): Map<string, ModuleFile> {
  const modules = new Map<string, ModuleFile>();
  for (const line of linesOf(text)) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const path = line.slice(0, colon);
    const dependencies = words(line.slice(colon + 1)).map(moduleName);
    modules.set(moduleName(path), { path, dependencies });
  }
  return modules;
}

/** modules.softdep: `softdep NAME pre: A B post: C`; names before any keyword count as `pre:`, as modprobe takes them. */
function parseSoftDependencies(text: string): Pick<ModuleIndex, 'softBefore' | 'softAfter'> {
  const softBefore = new Map<string, string[]>();
  const softAfter = new Map<string, string[]>();
  for (const line of linesOf(text)) {
    const [keyword, name, ...rest] = words(line);
    if (keyword !== 'softdep' || name === undefined) continue;
    const before = softBefore.get(moduleName(name)) ?? [];
    const after = softAfter.get(moduleName(name)) ?? [];
    let list = before;
    for (const word of rest) {
      if (word === 'pre:') list = before;
      else if (word === 'post:') list = after;
      else list.push(word);
    }
    softBefore.set(moduleName(name), before);
    if (after.length > 0) softAfter.set(moduleName(name), after);
  }
  return { softBefore, softAfter };
}

/** modules.alias: `alias PATTERN NAME`. */
function parseAliases(text: string): [string, string][] {
  const aliases: [string, string][] = [];
  for (const line of linesOf(text)) {
    const [keyword, pattern, name] = words(line);
    if (keyword === 'alias' && pattern !== undefined && name !== undefined)
      aliases.push([pattern, moduleName(name)]);
  }
  return aliases;
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
