/**
 * Puts our descriptor where the provider looks, and takes it away again. Another runtime of the same name is put aside
 * only when that was asked for, under a name that the provider does not read, and comes back. A record in the folder says what was
 * done; it is written before anything is, so that an uninstall after a crash finds its way back.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import {
  DESCRIPTOR_FILE,
  type DescriptorFile,
  GPU_RUNTIME_NAME,
  listDescriptors,
  ourDescriptor,
  type PluginPlace,
  RUNTIME_NAME,
} from './descriptor.ts';

export interface InstallOptions {
  place: PluginPlace;
  version: string;
  /** Absolute path of the program. */
  supervisor: string;
  /** Put another runtime of the same name aside. */
  replace: boolean;
  /** Addresses of graphics cards that VMs of the runtime `vm-nvidia` get; default none, and no such runtime. */
  cards?: readonly string[];
}

export interface InstallResult {
  descriptor: string;
  supervisor: string;
  /** Files that were put aside: their old and new paths. */
  aside: Moved[];
}

export interface Moved {
  from: string;
  to: string;
}

export interface UninstallResult {
  /** Null when there was none. */
  removed: string | null;
  restored: Moved[];
  /** Files put aside that stay so: another has taken their place. */
  kept: Moved[];
}

/** In the plugin folder; no pattern for descriptors matches it. */
const RECORD = '.ya-vm-installed';
const ASIDE = '.replaced-by-ya-vm';

interface InstallRecord {
  /** Names in the folder. */
  aside: { name: string; as: string }[];
}

/** @throws {YavmError} YAVM_E_DESCRIPTOR_TAKEN, YAVM_E_DESCRIPTOR */
export function install({ place, version, supervisor, replace, cards = [] }: InstallOptions): InstallResult {
  const path = join(place.folder, DESCRIPTOR_FILE);
  return onDisk(path, () => {
    const names = cards.length === 0 ? [RUNTIME_NAME] : [RUNTIME_NAME, GPU_RUNTIME_NAME];
    const others = rivals(place, names);
    checkRivals(others, replace, names);
    makeFolders(place.folder);
    const record = readRecord(place.folder) ?? { aside: [] };
    const moves = others.map((other) => {
      const name = basename(other.path);
      return { name, as: freeName(place.folder, name) };
    });
    record.aside.push(...moves);
    writeWhole(join(place.folder, RECORD), `${JSON.stringify(record)}\n`);
    for (const { name, as } of moves) renameSync(join(place.folder, name), join(place.folder, as));
    writeWhole(path, ourDescriptor({ version, supervisor, cards }));
    return { descriptor: path, supervisor, aside: moves.map((move) => moved(place.folder, move)) };
  });
}

function checkRivals(others: readonly DescriptorFile[], replace: boolean, names: readonly string[]): void {
  const taken = (message: string, hint: string) =>
    new YavmError('YAVM_E_DESCRIPTOR_TAKEN', message, { hint });
  const [first] = others;
  if (first && !replace) {
    const taking = first.descriptors.find(({ name }) => names.includes(name))?.name;
    throw taken(
      `${first.path} describes a runtime '${taking}' already`,
      'To put it aside (uninstall brings it back): ya-vm provider install --replace',
    );
  }
  const mixed = others.find(({ descriptors }) => descriptors.some(({ name }) => !names.includes(name)));
  if (!mixed) return;
  throw taken(
    `${mixed.path} describes other runtimes too: it is not put aside`,
    `Take ${names.map((name) => `'${name}'`).join(' and ')} out of that file yourself.`,
  );
}

/** @throws {YavmError} YAVM_E_DESCRIPTOR */
export function uninstall(place: PluginPlace): UninstallResult {
  const path = join(place.folder, DESCRIPTOR_FILE);
  return onDisk(path, () => {
    const record = readRecord(place.folder);
    const result: UninstallResult = { removed: null, restored: [], kept: [] };
    if (!record) return result;
    if (existsSync(path)) {
      rmSync(path);
      result.removed = path;
    }
    // The last one put aside first: it may have had the place of one before it.
    for (const { name, as } of record.aside.reverse()) {
      const [from, to] = [join(place.folder, as), join(place.folder, name)];
      if (!existsSync(from)) continue;
      if (existsSync(to)) {
        result.kept.push({ from: to, to: from });
        continue;
      }
      renameSync(from, to);
      result.restored.push({ from, to });
    }
    rmSync(join(place.folder, RECORD), { force: true });
    return result;
  });
}

/** Files that describe a runtime of our names, and are not ours. Ours is the one that a record stands beside. */
function rivals(place: PluginPlace, names: readonly string[]): DescriptorFile[] {
  const installed = readRecord(place.folder) !== null;
  return listDescriptors(place).filter(
    ({ path, descriptors }) =>
      descriptors.some(({ name }) => names.includes(name)) &&
      !(installed && basename(path) === DESCRIPTOR_FILE),
  );
}

/** Whether we have installed there. */
export function isInstalled(place: PluginPlace): boolean {
  return readRecord(place.folder) !== null;
}

function readRecord(folder: string): InstallRecord | null {
  let text: string;
  try {
    text = readFileSync(join(folder, RECORD), 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
  const record: unknown = JSON.parse(text);
  const aside = (record as { aside?: unknown } | null)?.aside;
  const names = (value: unknown): value is string => typeof value === 'string' && basename(value) === value;
  if (Array.isArray(aside) && aside.every((each) => names(each?.name) && names(each?.as))) return { aside };
  throw new Error(`${join(folder, RECORD)} is damaged`);
}

function freeName(folder: string, name: string): string {
  for (let number = 0; ; number++) {
    const candidate = `${name}${ASIDE}${number === 0 ? '' : `.${number}`}`;
    if (!existsSync(join(folder, candidate))) return candidate;
  }
}

function moved(folder: string, { name, as }: { name: string; as: string }): Moved {
  return { from: join(folder, name), to: join(folder, as) };
}

/** A reader finds the old content or the new, never half of it. */
function writeWhole(path: string, content: string): void {
  const fresh = `${path}.${process.pid}.new`;
  try {
    writeFileSync(fresh, content, { mode: 0o644 });
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}

function onDisk<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof YavmError) throw cause;
    const hint = hasErrno(cause, 'EACCES') ? "The system's place takes root: sudo … --system" : undefined;
    throw new YavmError('YAVM_E_DESCRIPTOR', `${path}: cannot be installed or removed`, { cause, hint });
  }
}
