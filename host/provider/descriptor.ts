/** Runtime descriptors: JSON files by which the provider finds runtimes. Spec: exe-unit.md 3.3, runtime-vm.md 1.1. */
import { readdirSync, readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { toError, YavmError } from '../lib/errors.ts';

/** `golem.runtime.name` that requestors ask for. */
export const RUNTIME_NAME = 'vm';
/** The same with cards of the host: what requestors of GPUs ask for. */
export const GPU_RUNTIME_NAME = 'vm-nvidia';
/** Our descriptor's file. */
export const DESCRIPTOR_FILE = 'ya-vm.json';

export interface Descriptor {
  name: string;
  version: string;
  /** Absolute. */
  supervisor: string;
  extraArgs: string[];
}

/** A file with descriptors. `problem`: why it cannot be read; the provider would stop at it. */
export interface DescriptorFile {
  path: string;
  descriptors: Descriptor[];
  problem: string | null;
}

const MAX_FILE = 1024 * 1024;

/** Prices are for these; the others are shown. Names as in the provider's presets. */
const COUNTERS = {
  'golem.usage.duration_sec': { name: 'duration', description: 'Duration', price: true },
  'golem.usage.cpu_sec': { name: 'cpu', description: 'CPU time of the VM', price: true },
  'golem.usage.gib': { name: 'memory', description: 'Memory, peak', price: false },
  'golem.usage.storage_gib': { name: 'storage', description: 'Storage, peak', price: false },
} as const;

/**
 * The text of our descriptor. There is no `runtime-path`: ya-vm is supervisor and runtime in one. `--cap-handoff`: the
 * VM's size enforces the agreement's limits.
 */
export function ourDescriptor({
  version,
  supervisor,
  cards = [],
}: {
  version: string;
  supervisor: string;
  /** Addresses of graphics cards; with any there is a second descriptor, for VMs that have them all. */
  cards?: readonly string[];
}): string {
  const plain = {
    name: RUNTIME_NAME,
    version,
    'supervisor-path': supervisor,
    'extra-args': ['--cap-handoff'],
    description: 'ya-vm: virtual machines with complete output',
    config: { counters: COUNTERS },
  };
  const withCards = {
    ...plain,
    name: GPU_RUNTIME_NAME,
    'extra-args': [...plain['extra-args'], ...cards.map((slot) => `--runtime-arg=--pci-device=${slot}`)],
    description: 'ya-vm: virtual machines with graphics cards',
  };
  return `${JSON.stringify(cards.length === 0 ? [plain] : [plain, withCards], null, 2)}\n`;
}

/** Reads a file with descriptors, as the provider does: paths are relative to its folder. Never throws. */
export function readDescriptors(path: string): DescriptorFile {
  try {
    const text = readFileSync(path, 'utf8');
    if (text.length > MAX_FILE) throw new Error(`longer than ${MAX_FILE} characters`);
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) throw new Error('not a JSON array');
    const descriptors = list.map((each) => decode(each, resolve(path, '..')));
    return { path, descriptors, problem: null };
  } catch (error) {
    return { path, descriptors: [], problem: toError(error).message };
  }
}

function decode(value: unknown, folder: string): Descriptor {
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { name, version, 'supervisor-path': supervisor, 'extra-args': extraArgs = [] } = fields;
  if (typeof name !== 'string') throw new Error("a descriptor without 'name'");
  if (typeof version !== 'string') throw new Error(`'${name}' has no 'version'`);
  if (typeof supervisor !== 'string') throw new Error(`'${name}' has no 'supervisor-path'`);
  if (!Array.isArray(extraArgs) || !extraArgs.every((each) => typeof each === 'string')) {
    throw new Error(`'extra-args' of '${name}' is no list of words`);
  }
  const path = isAbsolute(supervisor) ? supervisor : resolve(folder, supervisor);
  return { name, version, supervisor: path, extraArgs };
}

/** Where a provider looks: the files of `folder` whose names match `pattern`, which has one `*` at most. */
export interface PluginPlace {
  folder: string;
  pattern: string;
}

export const DEFAULT_PATTERN = 'ya-*.json';

/** `EXE_UNIT_PATH`: a file, or a pattern in its last component. @throws {YavmError} YAVM_E_DESCRIPTOR */
export function parseExeUnitPath(path: string): PluginPlace {
  const whole = resolve(path);
  const cut = whole.lastIndexOf('/');
  const place = { folder: whole.slice(0, cut) || '/', pattern: whole.slice(cut + 1) };
  if (!place.folder.includes('*') && place.pattern.split('*').length <= 2) return place;
  throw new YavmError('YAVM_E_DESCRIPTOR', `EXE_UNIT_PATH=${path}: one '*' in the last component at most`);
}

/** Whether the provider would read a file of this name. */
export function matches({ pattern }: PluginPlace, name: string): boolean {
  const [head = '', tail] = pattern.split('*');
  if (tail === undefined) return name === pattern;
  return name.length >= head.length + tail.length && name.startsWith(head) && name.endsWith(tail);
}

/** All that the provider would read there, by name. */
export function listDescriptors(place: PluginPlace): DescriptorFile[] {
  let names: string[];
  try {
    names = readdirSync(place.folder).sort();
  } catch {
    return [];
  }
  return names
    .filter((name) => matches(place, name))
    .map((name) => readDescriptors(join(place.folder, name)));
}
