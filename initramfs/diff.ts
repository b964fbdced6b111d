/** What differs between two initramfs: files, modules, what the manifests say, and what it costs in bytes. Pure. */
import type { Inspection } from './inspect.ts';
import type { Manifest, ManifestEntry } from './manifest.ts';

/** A file, folder, link or device by its path. */
export interface EntryChange {
  path: string;
  /** Null: not there. */
  before: ManifestEntry | null;
  after: ManifestEntry | null;
}

/** A module; sizes are bytes, unpacked, null: not there. */
export interface ModuleChange {
  name: string;
  before: number | null;
  after: number | null;
  /** The bytes differ although the size may not. */
  changed: boolean;
}

/** A field of the manifest. */
export interface FieldChange {
  field: string;
  before: unknown;
  after: unknown;
}

export interface InitramfsDiff {
  /** Byte for byte. */
  same: boolean;
  bytes: {
    /** Of the archive as it is loaded, and of the guest's memory that it takes. */
    packed: { before: number; after: number };
    unpacked: { before: number; after: number };
    modules: { before: number; after: number };
  };
  release: { before: string | null; after: string | null };
  /** Sorted by name. */
  modules: ModuleChange[];
  /** Without the modules; sorted by path. */
  files: EntryChange[];
  /** What both manifests have; empty when one has none. */
  manifest: FieldChange[];
}

/** Compares two, the older first. */
export function diffInitramfs(before: Inspection, after: Inspection): InitramfsDiff {
  return {
    same: before.sha256 === after.sha256,
    bytes: {
      packed: { before: before.size, after: after.size },
      unpacked: { before: before.unpacked, after: after.unpacked },
      modules: { before: moduleBytes(before), after: moduleBytes(after) },
    },
    release: { before: before.release, after: after.release },
    modules: diffModules(before, after),
    files: diffFiles(before, after),
    manifest: before.manifest && after.manifest ? diffManifests(before.manifest, after.manifest) : [],
  };
}

function moduleBytes({ modules }: Inspection): number {
  return modules.reduce((sum, { size }) => sum + size, 0);
}

function diffModules(before: Inspection, after: Inspection): ModuleChange[] {
  const [old, now] = [modulesOf(before), modulesOf(after)];
  const names = [...new Set([...old.keys(), ...now.keys()])].sort();
  return names.flatMap((name) => {
    const [a, b] = [old.get(name), now.get(name)];
    if (a?.sha256 === b?.sha256) return [];
    return [
      { name, before: a?.size ?? null, after: b?.size ?? null, changed: a !== undefined && b !== undefined },
    ];
  });
}

/** By name, whatever the release: a newer kernel's `ext4` is a changed module, not another one. */
function modulesOf({
  release,
  modules,
  entries,
}: Inspection): Map<string, { size: number; sha256?: string }> {
  const sums = new Map(entries.map(({ path, sha256 }) => [path, sha256]));
  return new Map(
    modules.map(({ name, size }) => [name, { size, sha256: sums.get(`/lib/modules/${release}/${name}.ko`) }]),
  );
}

function diffFiles(before: Inspection, after: Inspection): EntryChange[] {
  const [old, now] = [filesOf(before), filesOf(after)];
  const paths = [...new Set([...old.keys(), ...now.keys()])].sort();
  return paths.flatMap((path) => {
    const [a, b] = [old.get(path) ?? null, now.get(path) ?? null];
    // Both come from one function, with their fields in one order.
    return JSON.stringify(a) === JSON.stringify(b) ? [] : [{ path, before: a, after: b }];
  });
}

/** Without modules, and with the release out of the paths of their lists: else all of them would differ. */
function filesOf({ release, entries }: Inspection): Map<string, ManifestEntry> {
  const folder = `/lib/modules/${release}`;
  const kept = entries.filter(({ path }) => !(path.startsWith(`${folder}/`) && path.endsWith('.ko')));
  return new Map(
    kept.map((entry) => {
      const inFolder = release !== null && (entry.path === folder || entry.path.startsWith(`${folder}/`));
      const path = inFolder ? `/lib/modules/*${entry.path.slice(folder.length)}` : entry.path;
      return [path, { ...entry, path }];
    }),
  );
}

function diffManifests(before: Manifest, after: Manifest): FieldChange[] {
  const [old, now] = [fieldsOf(before), fieldsOf(after)];
  return Object.keys(old).flatMap((field) => {
    const [a, b] = [old[field] ?? null, now[field] ?? null];
    return JSON.stringify(a) === JSON.stringify(b) ? [] : [{ field, before: a, after: b }];
  });
}

/** What is not told by the modules, the files and the sizes already. */
function fieldsOf(manifest: Manifest): Record<string, unknown> {
  const { kernel, builder, agent, preset, builtin, absent } = manifest;
  return {
    builder,
    agent,
    preset: preset ?? null,
    'kernel.release': kernel.release,
    'kernel.version': kernel.version,
    'kernel.package': kernel.package && `${kernel.package.name} ${kernel.package.version}`,
    'kernel.squashfs': kernel.squashfs,
    vmlinux: manifest.vmlinux.sha256,
    'vmlinux.size': manifest.vmlinux.size,
    builtin,
    absent,
  };
}
