/** An OCI image layout: `index.json` → manifest → configuration and layers, each by digest and size (image-spec 1.1). */
import { createHash } from 'node:crypto';
import { checkDigest } from '../build/compression.ts';
import { readPart, type Section } from '../build/section.ts';
import { ImageArchiveError, ImagePlatformError, ImageSourceError } from '../errors.ts';
import {
  type ContainerImage,
  isOurs,
  MAX_JSON,
  MAX_LAYERS,
  parseConfigFile,
  parseDigest,
} from './container-image.ts';
import { whichImage } from './docker-archive.ts';
import { type Files, parseJson, readJson } from './files.ts';
import { array, field, type Json, object, optionalText } from './json.ts';

export const OCI_LAYOUT = 'oci-layout';
const INDEX = 'index.json';

type MediaKind = 'index' | 'manifest' | 'config' | 'layer' | 'foreign layer';

/** Media types, docker's and OCI's. How a layer is compressed is told by its bytes. */
const MEDIA_TYPES: ReadonlyMap<string, MediaKind> = new Map(
  Object.entries({
    'application/vnd.oci.image.index.v1+json': 'index',
    'application/vnd.docker.distribution.manifest.list.v2+json': 'index',
    'application/vnd.oci.image.manifest.v1+json': 'manifest',
    'application/vnd.docker.distribution.manifest.v2+json': 'manifest',
    'application/vnd.oci.image.config.v1+json': 'config',
    'application/vnd.docker.container.image.v1+json': 'config',
    'application/vnd.oci.image.layer.v1.tar': 'layer',
    'application/vnd.oci.image.layer.v1.tar+gzip': 'layer',
    'application/vnd.oci.image.layer.v1.tar+zstd': 'layer',
    'application/vnd.docker.image.rootfs.diff.tar': 'layer',
    'application/vnd.docker.image.rootfs.diff.tar.gzip': 'layer',
    'application/vnd.docker.image.rootfs.diff.tar.zstd': 'layer',
    'application/vnd.oci.image.layer.nondistributable.v1.tar': 'foreign layer',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip': 'foreign layer',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd': 'foreign layer',
    'application/vnd.docker.image.rootfs.foreign.diff.tar': 'foreign layer',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip': 'foreign layer',
  } as const),
);

/** Names of an image in the layout's index: the tag, and containerd's whole name. */
const TAG = 'org.opencontainers.image.ref.name';
const NAME = 'io.containerd.image.name';
/** Marks what buildkit puts beside an image: statements about it. */
const ATTESTATION = 'vnd.docker.reference.type';

/** Entries of one index, and indexes in each other. */
const MAX_MANIFESTS = 1000;
const MAX_DEPTH = 4;

interface Descriptor {
  kind: MediaKind | null;
  mediaType: string;
  /** Hex. */
  digest: string;
  size: number;
  names: string[];
  platform: Json | null;
  attestation: boolean;
  /** For messages. */
  where: string;
}

/**
 * The image with this tag (or name, or digest), or the only one; of several platforms linux/amd64.
 * @throws {YavmError} YAVM_E_IMAGE_SOURCE: which one is left open; YAVM_E_IMAGE_ARCHIVE, YAVM_E_IMAGE_DIGEST, YAVM_E_IMAGE_PLATFORM
 */
export function readOciLayout(files: Files, tag?: string): ContainerImage {
  const layout = object(readJson(files, OCI_LAYOUT, MAX_JSON), `${files.name}: ${OCI_LAYOUT}`);
  const version = optionalText(field(layout, 'imageLayoutVersion'), `${files.name}: imageLayoutVersion`);
  if (!version.startsWith('1.'))
    throw new ImageSourceError(`${files.name}: an OCI layout of version '${version}', not 1`);
  const where = `${files.name}: ${INDEX}`;
  const all = manifestsOf(readJson(files, INDEX, MAX_JSON), where);
  const manifest = resolve(files, chooseTop(all, tag, files.name), 0);
  return readManifest(files, manifest);
}

function manifestsOf(json: unknown, where: string): Descriptor[] {
  const list = array(field(object(json, where), 'manifests'), `${where}: manifests`, MAX_MANIFESTS);
  const all = list.map((each, index) => parseDescriptor(each, `${where}: manifests[${index}]`));
  // Other artifacts (signatures, lists of contents) may lie beside images.
  return all.filter(({ kind, attestation }) => !attestation && (kind === 'index' || kind === 'manifest'));
}

function parseDescriptor(value: unknown, where: string): Descriptor {
  const json = object(value, where);
  const mediaType = optionalText(field(json, 'mediaType'), `${where}: mediaType`);
  const size = field(json, 'size');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw new ImageArchiveError(`${where}: size is no number of bytes`);
  const platform = field(json, 'platform') ?? null;
  const annotations = object(field(json, 'annotations') ?? {}, `${where}: annotations`);
  const note = (name: string) => optionalText(field(annotations, name), `${where}: ${name}`);
  return {
    kind: MEDIA_TYPES.get(mediaType) ?? null,
    mediaType,
    digest: parseDigest(field(json, 'digest'), `${where}: digest`),
    size,
    names: [note(TAG), note(NAME)].filter((name) => name !== ''),
    platform: platform === null ? null : object(platform, `${where}: platform`),
    attestation: note(ATTESTATION) !== '',
    where,
  };
}

/** The one that is meant: by its tag, or because all others are for other machines. */
function chooseTop(all: readonly Descriptor[], tag: string | undefined, name: string): Descriptor {
  const wanted = all.filter((each) => tag === undefined || named(each, tag));
  const ours = wanted.filter(({ platform, where }) => platform === null || isOurs(platform, where));
  const digests = new Set(ours.map(({ digest }) => digest));
  if (digests.size === 1) return ours[0] as Descriptor;
  if (wanted.length > 0 && ours.length === 0) throw otherPlatform(name);
  throw whichImage(
    name,
    tag,
    all.map(({ names, digest }) => names[0] ?? `sha256:${digest}`),
  );
}

function named({ names, digest }: Descriptor, wanted: string): boolean {
  if (wanted === `sha256:${digest}`) return true;
  return names.some((name) => name === wanted || name.endsWith(`:${wanted}`) || name === `${wanted}:latest`);
}

/** Goes down through indexes to the manifest of our platform. */
function resolve(files: Files, descriptor: Descriptor, depth: number): Descriptor {
  if (descriptor.kind === 'manifest') return descriptor;
  if (depth >= MAX_DEPTH)
    throw new ImageArchiveError(`${descriptor.where}: more than ${MAX_DEPTH} indexes in each other`);
  const blob = readBlob(files, descriptor);
  const ours = manifestsOf(parseJson(blob, MAX_JSON), blob.name).filter(
    ({ platform, where }) => platform === null || isOurs(platform, where),
  );
  // Of several levels of amd64 the first without one runs everywhere.
  const plain = ours.find(({ platform }) => platform === null || field(platform, 'variant') === undefined);
  const chosen = plain ?? ours[0];
  if (!chosen) throw otherPlatform(blob.name);
  return resolve(files, chosen, depth + 1);
}

function otherPlatform(name: string): ImagePlatformError {
  return new ImagePlatformError(`${name}: has no image for linux/amd64`, {
    hint: 'docker pull --platform linux/amd64 NAME, and save that.',
  });
}

function readManifest(files: Files, descriptor: Descriptor): ContainerImage {
  const blob = readBlob(files, descriptor);
  const json = object(parseJson(blob, MAX_JSON), blob.name);
  if (field(json, 'schemaVersion') !== 2)
    throw new ImageArchiveError(`${blob.name}: a manifest of another schema than 2`);
  const config = parseDescriptor(field(json, 'config'), `${blob.name}: config`);
  if (config.kind !== 'config')
    throw new ImageSourceError(
      `${blob.name}: not an image of a container, but ${JSON.stringify(config.mediaType)}`,
    );
  const configBlob = readBlob(files, config);
  const {
    config: settings,
    created,
    diffIds,
  } = parseConfigFile(parseJson(configBlob, MAX_JSON), configBlob.name);
  const layers = array(field(json, 'layers'), `${blob.name}: layers`, MAX_LAYERS).map((each, index) =>
    parseDescriptor(each, `${blob.name}: layers[${index}]`),
  );
  if (layers.length !== diffIds.length) {
    throw new ImageArchiveError(
      `${blob.name}: names ${layers.length} layers, but the configuration ${diffIds.length}`,
    );
  }
  return {
    config: settings,
    created,
    digest: config.digest,
    layers: layers.map((layer, index) => {
      checkLayer(layer);
      return { section: findBlob(files, layer), stored: layer.digest, plain: diffIds[index] };
    }),
  };
}

function checkLayer({ kind, mediaType, where }: Descriptor): void {
  if (kind === 'layer') return;
  const what =
    kind === 'foreign layer'
      ? 'a layer that is not in the image (foreign, or not distributable)'
      : 'no layer that is known';
  throw new ImageArchiveError(`${where}: ${what}: ${JSON.stringify(mediaType)}`);
}

/** A blob of the size that was announced; its digest is checked by who reads it. */
function findBlob(files: Files, { digest, size, where }: Descriptor): Section {
  const section = files.find(`blobs/sha256/${digest}`);
  if (!section) throw new ImageArchiveError(`${where}: the layout has no blob sha256:${digest}`);
  if (section.size === size) return section;
  throw new ImageArchiveError(`${section.name}: has ${section.size} bytes, but ${size} are announced`);
}

/** A small blob, its digest checked. */
function readBlob(files: Files, descriptor: Descriptor): Section {
  const section = findBlob(files, descriptor);
  if (section.size > MAX_JSON)
    throw new ImageArchiveError(`${section.name}: has ${section.size} bytes, more than ${MAX_JSON}`);
  const found = createHash('sha256')
    .update(readPart(section, 0, section.size))
    .digest('hex');
  checkDigest(section.name, found, descriptor.digest);
  return section;
}
