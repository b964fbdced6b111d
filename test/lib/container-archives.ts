/** Archives of images as docker, buildkit and others write them, from layers that are tars in memory. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type RawHeader, rawTar } from './raw-tar.ts';

export interface TestImage {
  /** Whole names: `job:1`. */
  tags: string[];
  /** Docker's ContainerConfig. */
  config: object;
  /** Plain tars, the lowest first. */
  layers: Buffer[];
  created?: string;
  architecture?: string;
}

/** Files of an archive or a folder by name. */
export type FileMap = Map<string, Buffer | { link: string }>;

export type LayerForm = 'plain' | 'gzip' | 'zstd';

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

export function configFile({ config, layers, created, architecture = 'amd64' }: TestImage): Buffer {
  return json({
    architecture,
    os: 'linux',
    created: created ?? '2021-03-04T05:06:07.89Z',
    config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) },
    history: [],
  });
}

/** `docker save` up to 24: a folder a layer; a layer that is there twice is a link to the first. */
export function oldDockerSave(...images: TestImage[]): FileMap {
  const files: FileMap = new Map();
  const seen = new Map<string, string>();
  const manifest = images.map((image) => {
    const config = configFile(image);
    files.set(`${sha256(config)}.json`, config);
    const paths = image.layers.map((layer, index) => {
      const id = sha256(Buffer.from(`${sha256(config)} ${index}`));
      const path = `${id}/layer.tar`;
      const first = seen.get(sha256(layer));
      files.set(`${id}/VERSION`, Buffer.from('1.0'));
      files.set(path, first === undefined ? layer : { link: `../${first}` });
      if (first === undefined) seen.set(sha256(layer), path);
      return path;
    });
    return { Config: `${sha256(config)}.json`, RepoTags: image.tags, Layers: paths };
  });
  files.set('manifest.json', json(manifest));
  files.set('repositories', json({}));
  return files;
}

/** `docker save` of 25 and later: an OCI layout with docker's manifest beside it. Layers of any form. */
export function newDockerSave(forms: readonly LayerForm[], ...images: TestImage[]): FileMap {
  const files = ociLayout(forms, ...images);
  const manifest = images.map((image) => ({
    Config: `blobs/sha256/${sha256(configFile(image))}`,
    RepoTags: image.tags,
    Layers: image.layers.map((layer, index) => `blobs/sha256/${sha256(packed(layer, formAt(forms, index)))}`),
  }));
  files.set('manifest.json', json(manifest));
  return files;
}

const MEDIA = {
  plain: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const;

/** An OCI layout. `forms` are the layers', the last one for all that follow. */
export function ociLayout(forms: readonly LayerForm[], ...images: TestImage[]): FileMap {
  const files: FileMap = new Map([['oci-layout', json({ imageLayoutVersion: '1.0.0' })]]);
  const manifests = images.map((image) => {
    const layers = image.layers.map((layer, index) => {
      const form = formAt(forms, index);
      return addBlob(files, MEDIA[form], packed(layer, form));
    });
    const config = addBlob(files, 'application/vnd.oci.image.config.v1+json', configFile(image));
    const manifest = { schemaVersion: 2, config, layers };
    return {
      ...addBlob(files, 'application/vnd.oci.image.manifest.v1+json', json(manifest)),
      annotations: { 'org.opencontainers.image.ref.name': image.tags[0] },
      platform: { os: 'linux', architecture: image.architecture ?? 'amd64' },
    };
  });
  files.set('index.json', json({ schemaVersion: 2, manifests }));
  return files;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

/** Adds a blob. @returns what names it */
export function addBlob(files: FileMap, mediaType: string, bytes: Buffer): Descriptor {
  files.set(`blobs/sha256/${sha256(bytes)}`, bytes);
  return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
}

/** The files as one tar. */
export function archiveOf(files: FileMap): Buffer {
  return rawTar(
    ...[...files].map(([name, content]): RawHeader => {
      if (name.length > 100) throw new Error(`${name} is too long for a header`);
      return Buffer.isBuffer(content) ? { name, content } : { name, flag: '2', link: content.link };
    }),
  );
}

/** Writes the files into a folder. */
export function writeFiles(folder: string, files: FileMap): void {
  for (const [name, content] of files) {
    if (!Buffer.isBuffer(content)) throw new Error(`${name}: a link, which no layout has`);
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
}

function packed(layer: Buffer, form: LayerForm): Buffer {
  if (form === 'gzip') return gzipSync(layer);
  return form === 'zstd' ? zstdCompressSync(layer) : layer;
}

function formAt(forms: readonly LayerForm[], index: number): LayerForm {
  return forms[Math.min(index, forms.length - 1)] ?? 'plain';
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
