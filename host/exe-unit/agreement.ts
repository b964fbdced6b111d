/** The agreement that the provider wrote for this activity: the spec's exe-unit.md, 7.1. */
import { open } from 'node:fs/promises';
import { YavmError } from '../lib/errors.ts';
import { Decoder, type Fields } from './decode.ts';

export interface Agreement {
  id: string;
  /** Node id of who pays. */
  requestorId?: string;
  /** Names of the counters, in the order in which the provider wants them. */
  usageVector: string[];
  /** Numbers of `golem.inf` by dotted name: `mem.gib`, `storage.gib`, `cpu.threads`, … */
  limits: Record<string, number>;
  /** Image: `hash:sha3:…:url`. */
  taskPackage?: string;
  /** The manifest's raw payload, see {@link parseManifest}. */
  manifest?: string;
  capabilities: string[];
}

const MAX_FILE = 8 * 1024 * 1024;
const BOUNDS = { depth: 64, values: 200_000, text: MAX_FILE };
/** Segments of a dotted key at most. */
const MAX_SEGMENTS = 64;
const MAX_COUNTERS = 256;
const MAX_CAPABILITIES = 1024;
/** Where the value of a key stands that is also the prefix of others. */
const TAG = '@tag';

const decoder: Decoder = new Decoder('YAVM_E_AGREEMENT');

/** @throws {YavmError} YAVM_E_AGREEMENT */
export async function readAgreement(path: string): Promise<Agreement> {
  const text = await readText(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new YavmError('YAVM_E_AGREEMENT', `${path}: not JSON`, { cause });
  }
  try {
    return parseAgreement(json);
  } catch (cause) {
    throw new YavmError('YAVM_E_AGREEMENT', `${path}: not an agreement`, { cause });
  }
}

/** Reads the nested form and the flat one, and any mixture. @throws {YavmError} YAVM_E_AGREEMENT, naming what is wrong */
export function parseAgreement(json: unknown): Agreement {
  decoder.measure(json, 'agreement', BOUNDS);
  const tree = expand(decoder.fields(json, 'agreement'));
  const required = (path: string) => lookUp(tree, path) ?? decoder.refuse(path, 'missing');
  const optionalText = (path: string) =>
    decoder.optional(lookUp(tree, path), (value) => decoder.text(value, path));
  const vector = 'offer.properties.golem.com.usage.vector';
  const capabilities = 'offer.properties.golem.runtime.capabilities';
  return {
    id: decoder.text(required('agreementId'), 'agreementId'),
    requestorId: optionalText('demand.requestorId'),
    usageVector: decoder.texts(required(vector), vector, MAX_COUNTERS),
    limits: numbers(branch(tree, 'offer.properties.golem.inf')),
    taskPackage: optionalText('demand.properties.golem.srv.comp.task_package'),
    manifest: optionalText('demand.properties.golem.srv.comp.payload'),
    capabilities:
      decoder.optional(lookUp(tree, capabilities), (value) =>
        decoder.texts(value, capabilities, MAX_CAPABILITIES),
      ) ?? [],
  };
}

async function readText(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      // One more, to see that it is too long; a file can also be a pipe or lie about its size.
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE + 1), 0, MAX_FILE + 1);
      if (bytesRead > MAX_FILE) throw new YavmError('YAVM_E_AGREEMENT', `more than ${MAX_FILE} bytes`);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new YavmError('YAVM_E_AGREEMENT', `${path}: the agreement cannot be read`, { cause });
  }
}

/** Properties by segment; no prototype, so that any name is only a name. */
type Tree = { [segment: string]: unknown };

const newTree = (): Tree => Object.create(null);

/** Dots in keys become levels; a value that others stand below goes to `@tag`. */
function expand(fields: Fields): Tree {
  const tree = newTree();
  for (const [key, value] of Object.entries(fields)) insert(tree, key, value);
  return tree;
}

function insert(tree: Tree, key: string, value: unknown): void {
  const segments = key.split('.');
  if (segments.length > MAX_SEGMENTS) decoder.refuse('agreement', `a key of ${segments.length} segments`);
  const last = segments.pop() as string;
  let node = tree;
  for (const segment of segments) node = below(node, segment);
  if (isTree(value)) {
    const inner = below(node, last);
    for (const [name, item] of Object.entries(value)) insert(inner, name, item);
    return;
  }
  const there = node[last];
  if (isTree(there)) there[TAG] = value;
  else node[last] = value;
}

/** The level at `segment`, made when there is none; a value that stands there moves to its `@tag`. */
function below(node: Tree, segment: string): Tree {
  const there = node[segment];
  if (isTree(there)) return there;
  const made = newTree();
  if (there !== undefined) made[TAG] = there;
  node[segment] = made;
  return made;
}

/** A property's value, wherever it had to give way to others. */
function lookUp(tree: Tree, path: string): unknown {
  const found = walk(tree, path);
  return isTree(found) ? found[TAG] : found;
}

function branch(tree: Tree, path: string): Tree {
  const found = walk(tree, path);
  return isTree(found) ? found : decoder.refuse(path, found === undefined ? 'missing' : 'not an object');
}

function walk(tree: Tree, path: string): unknown {
  let node: unknown = tree;
  for (const segment of path.split('.')) node = isTree(node) ? node[segment] : undefined;
  return node;
}

/** The numbers below `tree` by dotted name; texts, such as a CPU's vendor, are left out. */
function numbers(tree: Tree): Record<string, number> {
  const result: Record<string, number> = Object.create(null);
  const collect = (node: Tree, prefix: string) => {
    for (const [segment, value] of Object.entries(node)) {
      const name = segment === TAG ? prefix : prefix === '' ? segment : `${prefix}.${segment}`;
      if (isTree(value)) collect(value, name);
      else if (typeof value === 'number' && Number.isFinite(value)) result[name] = value;
    }
  };
  collect(tree, '');
  return result;
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
