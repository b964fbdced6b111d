/**
 * An ExeScript as the bus (FlexBuffers) and `from-file` (JSON) bring it: the spec's exe-unit.md, 5.1 and 5.2. Both
 * forms have the same shape. As strict and as lenient as upstream's reader: unknown fields are ignored, lists may be
 * absent but not null.
 */
import type { Flex } from '../gsb/types.ts';
import { Decoder, type Fields } from './decode.ts';
import { parseBytes, parseDuration } from './quantities.ts';
import type { Capture, CommandOf, DeployNetwork, ProgressOptions, ScriptCommand, Volume } from './types.ts';

/** Commands of one script at most. */
export const MAX_COMMANDS = 4096;
/** Entries of any other list or map at most. */
const MAX_ENTRIES = 10_000;
const BOUNDS = { depth: 32, values: 200_000, text: 8 * 1024 * 1024 };

const decoder: Decoder = new Decoder('YAVM_E_SCRIPT');

/** @throws {YavmError} YAVM_E_SCRIPT, naming the command and the field */
export function parseScript(value: unknown): ScriptCommand[] {
  decoder.measure(value, 'script', BOUNDS);
  return decoder
    .list(value, 'script', MAX_COMMANDS)
    .map((command, index) => parseCommand(command, `command ${index}`));
}

/** Bytes that a script takes in memory, about. */
export function scriptSize(script: readonly ScriptCommand[]): number {
  return decoder.measure(
    script.map(({ source }) => source),
    'script',
    BOUNDS,
  );
}

type Content<Kind extends ScriptCommand['kind']> = Omit<CommandOf<Kind>, 'source'>;

const PARSERS: { [Kind in ScriptCommand['kind']]: (fields: Fields, path: string) => Content<Kind> } = {
  deploy: parseDeploy,
  start: ({ args }, path) => ({ kind: 'start', args: parseArgs(args, path) }),
  run: parseRun,
  transfer: parseTransfer,
  sign: () => ({ kind: 'sign' }),
  terminate: () => ({ kind: 'terminate' }),
};

function parseCommand(value: unknown, path: string): ScriptCommand {
  const [name, content] = decoder.variant(value, path);
  if (!Object.hasOwn(PARSERS, name)) decoder.refuse(path, `unknown command '${name.slice(0, 40)}'`);
  const kind = name as ScriptCommand['kind'];
  const parsed = PARSERS[kind](decoder.fields(content, `${path}: ${kind}`), `${path}: ${kind}`);
  // Measured and refused above where it was anything else than values that both forms have.
  return { ...parsed, source: value as Flex } as ScriptCommand;
}

function parseDeploy(fields: Fields, path: string): Content<'deploy'> {
  const { net, hosts, hostname, volumes, env, progress } = fields;
  return {
    kind: 'deploy',
    networks:
      net === undefined
        ? []
        : decoder
            .list(net, `${path}.net`, MAX_ENTRIES)
            .map((item, index) => parseNetwork(item, `${path}.net[${index}]`)),
    hosts: parseMap(hosts, `${path}.hosts`),
    hostname: decoder.optional(hostname, (value) => decoder.text(value, `${path}.hostname`)),
    volumes: decoder.optional(volumes, (value) => parseVolumes(value, `${path}.volumes`)) ?? {},
    env: parseMap(env, `${path}.env`),
    progress: parseProgress(progress, `${path}.progress`),
  };
}

function parseNetwork(value: unknown, path: string): DeployNetwork {
  const { id, ip, mask, gateway, nodeIp, nodes } = decoder.fields(value, path);
  return {
    id: decoder.text(id, `${path}.id`),
    ip: decoder.text(ip, `${path}.ip`),
    mask: decoder.optional(mask, (value) => decoder.text(value, `${path}.mask`)),
    gateway: decoder.optional(gateway, (value) => decoder.text(value, `${path}.gateway`)),
    nodeIp: decoder.text(nodeIp, `${path}.nodeIp`),
    nodes: parseMap(nodes, `${path}.nodes`),
  };
}

/** A list of paths, which are then host volumes, or a map from paths to what they are. */
function parseVolumes(value: unknown, path: string): Record<string, Volume> {
  const volumes: Record<string, Volume> = Object.create(null);
  if (Array.isArray(value)) {
    for (const place of decoder.texts(value, path, MAX_ENTRIES)) volumes[place] = { kind: 'host' };
    return volumes;
  }
  for (const [place, mount] of Object.entries(decoder.fields(value, path))) {
    volumes[decoder.text(place, path)] = parseVolume(mount, `${path}.${place}`);
  }
  return volumes;
}

function parseVolume(value: unknown, path: string): Volume {
  const [kind, content] = decoder.variant(value, path);
  const fields = decoder.fields(content, `${path}.${kind}`);
  if (kind === 'host') return { kind };
  if (kind !== 'ram' && kind !== 'storage') decoder.refuse(path, `unknown volume '${kind.slice(0, 40)}'`);
  const size = parseSize(fields.size, `${path}.size`);
  if (kind === 'ram') return { kind, size };
  return {
    kind,
    size,
    preallocate: decoder.optional(fields.preallocate, (value) => parseSize(value, `${path}.preallocate`)),
    errors: decoder.optional(fields.errors, (value) => decoder.text(value, `${path}.errors`)),
  };
}

function parseSize(value: unknown, path: string): number {
  if (typeof value !== 'string') return decoder.count(value, path);
  const bytes = parseBytes(value);
  return Number.isNaN(bytes) ? decoder.refuse(path, 'not a size') : bytes;
}

function parseRun(fields: Fields, path: string): Content<'run'> {
  const { entry_point, args, capture } = fields;
  const streams = decoder.optional(capture, (value) => decoder.fields(value, `${path}.capture`)) ?? {};
  const parse = (name: string) =>
    decoder.optional(streams[name], (value) => parseCapture(value, `${path}.capture.${name}`));
  return {
    kind: 'run',
    entryPoint: decoder.text(entry_point, `${path}.entry_point`),
    args: parseArgs(args, path),
    stdout: parse('stdout'),
    stderr: parse('stderr'),
  };
}

const PARTS = { head: 'head', tail: 'tail', headTail: 'head-tail' } as const;

function parseCapture(value: unknown, path: string): Capture {
  const [mode, content] = decoder.variant(value, path);
  const fields = decoder.fields(content, `${path}.${mode}`);
  const format = parseFormat(fields.format, `${path}.${mode}.format`);
  if (mode === 'stream') {
    const limit = decoder.optional(fields.limit, (value) => decoder.count(value, `${path}.stream.limit`));
    return { mode, limit: limit ?? null, format };
  }
  if (mode !== 'atEnd') decoder.refuse(path, `unknown capture '${mode.slice(0, 40)}'`);
  // The first one in the order of the document counts.
  for (const [name, size] of Object.entries(fields)) {
    if (!Object.hasOwn(PARTS, name) || size === null || size === undefined) continue;
    const part = PARTS[name as keyof typeof PARTS];
    return { mode: 'at-end', part, size: decoder.count(size, `${path}.atEnd.${name}`), format };
  }
  return { mode: 'at-end', part: 'all', size: 0, format };
}

const FORMATS: Readonly<Record<string, Capture['format']>> = {
  str: 'text',
  string: 'text',
  bin: 'binary',
  binary: 'binary',
  blob: 'blob',
};

function parseFormat(value: unknown, path: string): Capture['format'] {
  if (value === undefined || value === null) return 'text';
  const format = Object.hasOwn(FORMATS, decoder.text(value, path)) && FORMATS[value as string];
  return format || decoder.refuse(path, 'unknown format');
}

function parseTransfer(fields: Fields, path: string): Content<'transfer'> {
  const { from, to, format, depth, fileset, progress } = fields;
  return {
    kind: 'transfer',
    from: decoder.text(from, `${path}.from`),
    to: decoder.text(to, `${path}.to`),
    format: decoder.optional(format, (value) => decoder.text(value, `${path}.format`)),
    depth: decoder.optional(depth, (value) => decoder.count(value, `${path}.depth`)),
    fileset: decoder.optional(fileset, (value) => checkFileset(value, `${path}.fileset`)),
    progress: parseProgress(progress, `${path}.progress`),
  };
}

/** A pattern or a set, or a list of either. */
function checkFileset(value: unknown, path: string): Flex {
  const items = Array.isArray(value) ? decoder.list(value, path, MAX_ENTRIES) : [value];
  const patterns = (item: unknown, at: string) =>
    decoder.texts(Array.isArray(item) ? item : [item], at, MAX_ENTRIES);
  for (const item of items) {
    if (typeof item === 'string') continue;
    const { desc, includes, excludes } = decoder.fields(item, path);
    decoder.optional(desc, (value) => decoder.text(value, `${path}.desc`));
    decoder.optional(includes, (value) => patterns(value, `${path}.includes`));
    decoder.optional(excludes, (value) => patterns(value, `${path}.excludes`));
  }
  return value as Flex;
}

function parseProgress(value: unknown, path: string): ProgressOptions | undefined {
  return decoder.optional(value, (value) => {
    const { updateInterval, updateStep } = decoder.fields(value, path);
    return {
      updateInterval: decoder.optional(updateInterval, (value) => {
        const milliseconds = parseDuration(decoder.text(value, `${path}.updateInterval`));
        if (Number.isNaN(milliseconds)) decoder.refuse(`${path}.updateInterval`, 'not a duration');
        return milliseconds;
      }),
      updateStep: decoder.optional(updateStep, (value) => decoder.count(value, `${path}.updateStep`)),
    };
  });
}

function parseArgs(value: unknown, path: string): string[] {
  return value === undefined ? [] : decoder.texts(value, `${path}.args`, MAX_ENTRIES);
}

function parseMap(value: unknown, path: string): Record<string, string> {
  return value === undefined ? {} : decoder.textMap(value, path, MAX_ENTRIES);
}
