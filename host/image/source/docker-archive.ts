/**
 * What `docker save` writes: a tar with `manifest.json`, which names a configuration and layers for each image. Old ones
 * have a folder a layer (`<id>/layer.tar`), those of docker 25 and later are OCI layouts as well (`blobs/sha256/…`).
 */
import { createHash } from 'node:crypto';
import { rawName } from '../../lib/raw-name.ts';
import { checkDigest } from '../build/compression.ts';
import { readPart } from '../build/section.ts';
import { nameParts } from '../build/tree.ts';
import { ImageArchiveError, ImageSourceError } from '../errors.ts';
import { type ContainerImage, MAX_JSON, MAX_LAYERS, parseConfigFile } from './container-image.ts';
import { type Files, parseJson, readJson } from './files.ts';
import { array, field, object, text } from './json.ts';

export const DOCKER_MANIFEST = 'manifest.json';

/** Images in one archive. */
const MAX_IMAGES = 1000;
/** Names of one image. */
const MAX_TAGS = 1000;

interface Entry {
  config: string;
  tags: string[];
  layers: string[];
}

/** Whether a `manifest.json` is docker's: a root file system may have a file of this name too. */
export function isDockerManifest(json: unknown): boolean {
  return (
    Array.isArray(json) &&
    json.length > 0 &&
    json.every((each) => typeof each === 'object' && each !== null && Object.hasOwn(each, 'Layers'))
  );
}

/**
 * The image with this tag (a whole name `repo:tag`, or the tag alone), or the only one.
 * @throws {YavmError} YAVM_E_IMAGE_SOURCE: which one is left open; YAVM_E_IMAGE_ARCHIVE, YAVM_E_IMAGE_DIGEST, YAVM_E_IMAGE_PLATFORM
 */
export function readDockerArchive(files: Files, tag?: string): ContainerImage {
  const where = `${files.name}: ${DOCKER_MANIFEST}`;
  const entries = array(readJson(files, DOCKER_MANIFEST, MAX_JSON), where, MAX_IMAGES).map((each, index) =>
    parseEntry(each, `${where}[${index}]`),
  );
  const entry = choose(entries, tag, files.name);
  const section = files.find(entry.config);
  if (!section) throw new ImageArchiveError(`${files.name}: has no ${entry.config}`);
  const json = parseJson(section, MAX_JSON);
  const digest = createHash('sha256')
    .update(readPart(section, 0, section.size))
    .digest('hex');
  // Its name is its digest, in both layouts.
  checkDigest(section.name, digest, /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(entry.config)?.[1]);
  const { config, created, diffIds } = parseConfigFile(json, section.name);
  if (diffIds.length !== entry.layers.length) {
    throw new ImageArchiveError(
      `${where}: names ${entry.layers.length} layers, but the configuration ${diffIds.length}`,
    );
  }
  const layers = entry.layers.map((path, index) => {
    const layer = files.find(path);
    if (!layer) throw new ImageArchiveError(`${files.name}: has no ${path}`);
    return { section: layer, plain: diffIds[index] };
  });
  return { config, created, layers, digest };
}

function parseEntry(value: unknown, where: string): Entry {
  const json = object(value, where);
  const tags = field(json, 'RepoTags') ?? [];
  return {
    config: path(field(json, 'Config'), `${where}: Config`),
    tags: array(tags, `${where}: RepoTags`, MAX_TAGS).map((each) => text(each, `${where}: RepoTags`)),
    layers: array(field(json, 'Layers'), `${where}: Layers`, MAX_LAYERS).map((each) =>
      path(each, `${where}: Layers`),
    ),
  };
}

/** A name in the archive. @throws {ImageArchiveError} it is absolute, or has `..` */
function path(value: unknown, where: string): string {
  const parts = nameParts(rawName(text(value, where)));
  if (parts.length > 0) return parts.join('/');
  throw new ImageArchiveError(`${where} is no path`);
}

function choose(entries: readonly Entry[], tag: string | undefined, name: string): Entry {
  const fits = entries.filter((entry) => tag === undefined || named(entry, tag));
  if (fits.length === 1) return fits[0] as Entry;
  const names = entries.map(({ tags, config }) => tags.join(', ') || config);
  throw whichImage(name, tag, names);
}

function named({ tags, config }: Entry, wanted: string): boolean {
  if (config === wanted || config.startsWith(`${wanted}.`)) return true;
  return tags.some((tag) => tag === wanted || tag.endsWith(`:${wanted}`) || tag === `${wanted}:latest`);
}

/** There is no image of this name, or there are several and nobody said which. */
export function whichImage(
  name: string,
  tag: string | undefined,
  names: readonly string[],
): ImageSourceError {
  const found = names.slice(0, 20).join('; ') + (names.length > 20 ? '; …' : '');
  const what = tag === undefined ? `has ${names.length} images` : `has no single image '${tag}'`;
  return new ImageSourceError(`${name}: ${what}; there are: ${found || 'none'}`, {
    hint: 'Add one of these names behind the path, with a colon before it.',
  });
}
