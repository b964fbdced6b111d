/** An image's configuration: Docker's ContainerConfig, from untrusted JSON to bounded, typed values. */
import { ImageMetadataError } from './errors.ts';

/** What an image says about the commands run in it. */
export interface ImageConfig {
  /** `KEY=value`, in the image's order. */
  env: string[];
  /** Absolute; absent when the image names none. */
  workingDir?: string;
  /** `user[:group]`, names or numbers; absent: root. */
  user?: string;
  entrypoint: string[];
  cmd: string[];
  /** Absolute paths, without `.`, `..` and doubled slashes, each once. */
  volumes: string[];
}

/** Bounds. A string is limited by what execve(2) takes (MAX_ARG_STRLEN, 32 pages); the counts by common sense. */
const MAX_STRING = 128 * 1024 - 1;
const MAX_STRINGS = 4096;
const MAX_VOLUMES = 256;
/** PATH_MAX without its NUL. */
const MAX_PATH = 4095;
const MAX_USER = 256;

/**
 * Reads the fields that matter; all others are ignored. A field may be missing or `null` (Docker writes both).
 * @throws {ImageMetadataError} a value has another type, is too long or too many, or could not be an argument, an
 * environment string or a path.
 */
export function parseImageConfig(json: unknown): ImageConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ImageMetadataError('the metadata is not a JSON object');
  // Own properties only: `__proto__` in hostile JSON is one like any other.
  const field = (name: string): unknown =>
    Object.hasOwn(json, name) ? json[name as keyof typeof json] : null;
  const config: ImageConfig = {
    env: strings('Env', field('Env')).map(checkEnv),
    entrypoint: strings('Entrypoint', field('Entrypoint')),
    cmd: strings('Cmd', field('Cmd')),
    volumes: volumes(field('Volumes')),
  };
  const workingDir = text('WorkingDir', field('WorkingDir'), MAX_PATH).trim();
  if (workingDir !== '') config.workingDir = absolute('WorkingDir', workingDir);
  const user = text('User', field('User'), MAX_USER).trim();
  if (user !== '') config.user = user;
  return config;
}

/** A list of strings; Docker also takes a single string for a list of one. */
function strings(name: string, value: unknown): string[] {
  if (value === null || value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > MAX_STRINGS)
    throw new ImageMetadataError(`${name} has ${list.length} entries, more than ${MAX_STRINGS}`);
  return list.map((each, index) => text(`${name}[${index}]`, each, MAX_STRING));
}

function text(name: string, value: unknown, limit: number): string {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'string') throw new ImageMetadataError(`${name} is not text`);
  if (Buffer.byteLength(value) > limit) throw new ImageMetadataError(`${name} is longer than ${limit} bytes`);
  if (value.includes('\0')) throw new ImageMetadataError(`${name} contains a NUL byte`);
  return value;
}

function checkEnv(entry: string): string {
  if (/^[^=]+=/.test(entry)) return entry;
  throw new ImageMetadataError(
    `Env has an entry that is not KEY=value: ${JSON.stringify(entry.slice(0, 64))}`,
  );
}

/** The keys of an object whose values say nothing (`{}` or `null`). */
function volumes(value: unknown): string[] {
  if (value === null || value === undefined) return [];
  if (typeof value !== 'object' || Array.isArray(value))
    throw new ImageMetadataError('Volumes is not an object');
  const paths = Object.keys(value);
  if (paths.length > MAX_VOLUMES)
    throw new ImageMetadataError(`Volumes has ${paths.length} entries, more than ${MAX_VOLUMES}`);
  return [...new Set(paths.map((path) => absolute('Volumes', text('Volumes', path, MAX_PATH))))];
}

/** Lexically plain. `..` is refused: where it leads depends on links inside the image. */
function absolute(name: string, path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (!path.startsWith('/')) throw new ImageMetadataError(`${name}: ${quote(path)} is not an absolute path`);
  if (parts.includes('..')) throw new ImageMetadataError(`${name}: ${quote(path)} contains '..'`);
  return `/${parts.join('/')}`;
}

function quote(path: string): string {
  return JSON.stringify(path.slice(0, 128));
}
