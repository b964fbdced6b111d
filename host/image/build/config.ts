/** The configuration that is written behind an image: what its source says, changed by what the command line says. */

import { type ImageConfig, parseImageConfig } from '../config.ts';
import { ImageMetadataError } from '../errors.ts';

/** What replaces or adds to the source's own; absent: the source's stays. */
export interface ConfigChanges {
  /** `KEY=value`, each in place of the source's of the same name. */
  env?: readonly string[];
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  workingDir?: string;
  user?: string;
  /** Added. */
  volumes?: readonly string[];
  /** `KEY=value`, added. */
  labels?: readonly string[];
}

/** Fields that an OCI image may have beside those of {@link ImageConfig}; kept as they are. */
const CARRIED = ['ExposedPorts', 'StopSignal'];

/**
 * Docker's ContainerConfig for the trailer. An Entrypoint that is changed drops the source's Cmd, as docker's does.
 * @throws {ImageMetadataError} the source's, or a change, holds what cannot be
 */
export function buildConfig(source: Readonly<Record<string, unknown>>, changes: ConfigChanges): object {
  const base = parseImageConfig(source);
  const { entrypoint, cmd } = commandOf(base, changes);
  const config: Record<string, unknown> = {
    Env: merged(base.env, changes.env ?? []),
    Entrypoint: entrypoint,
    Cmd: cmd,
    WorkingDir: changes.workingDir ?? base.workingDir ?? '',
    User: changes.user ?? base.user ?? '',
  };
  const volumes = [...new Set([...base.volumes, ...(changes.volumes ?? [])])];
  // Upstream's runtime takes objects as values, and nothing else.
  if (volumes.length > 0) config.Volumes = Object.fromEntries(volumes.map((path) => [path, {}]));
  const labels = merged(labelsOf(source), changes.labels ?? []);
  if (labels.length > 0) config.Labels = Object.fromEntries(labels.map(splitEntry));
  for (const name of CARRIED)
    if (Object.hasOwn(source, name) && source[name] !== null) config[name] = source[name];
  parseImageConfig(config);
  return config;
}

function commandOf(base: ImageConfig, changes: ConfigChanges): Pick<ImageConfig, 'entrypoint' | 'cmd'> {
  const { entrypoint, cmd } = changes;
  return {
    entrypoint: [...(entrypoint ?? base.entrypoint)],
    cmd: [...(cmd ?? (entrypoint === undefined ? base.cmd : []))],
  };
}

const MAX_LABELS = 4096;
const MAX_LABEL = 64 * 1024;

function labelsOf(source: Readonly<Record<string, unknown>>): string[] {
  const labels = Object.hasOwn(source, 'Labels') ? (source.Labels ?? {}) : {};
  if (typeof labels !== 'object' || Array.isArray(labels))
    throw new ImageMetadataError('Labels is not an object');
  const entries = Object.entries(labels as object);
  if (entries.length > MAX_LABELS)
    throw new ImageMetadataError(`Labels has ${entries.length} entries, more than ${MAX_LABELS}`);
  return entries.map(([name, value]) => {
    if (typeof value === 'string' && value.length + name.length <= MAX_LABEL) return `${name}=${value}`;
    throw new ImageMetadataError(`the label ${JSON.stringify(name.slice(0, 64))} is not text, or too long`);
  });
}

/** Later entries replace earlier ones of the same name, in their place. */
function merged(base: readonly string[], added: readonly string[]): string[] {
  const all = new Map<string, string>();
  for (const entry of [...base, ...added]) all.set(splitEntry(entry)[0], entry);
  return [...all.values()];
}

function splitEntry(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}
