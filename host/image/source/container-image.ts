/** What docker's archives and OCI's layouts have in common: a configuration and layers, checked against each other. */
import type { Section } from '../build/section.ts';
import { ImageArchiveError, ImagePlatformError } from '../errors.ts';
import { array, field, type Json, object, optionalText, text } from './json.ts';

export interface LayerSource {
  section: Section;
  /** SHA-256 in hex of the bytes as stored, and expanded; absent: nobody said. */
  stored?: string;
  plain?: string;
}

export interface ContainerImage {
  /** Docker's ContainerConfig, as it stands in the image. */
  config: Json;
  /** Seconds since the epoch; 0 when the image does not say. */
  created: number;
  /** Lowest first. */
  layers: LayerSource[];
  /** What the image's bytes hang on: its configuration's digest in hex, which names those of the layers. */
  digest: string;
}

/** Largest manifest, index and configuration, bytes: registries stop at 4 MiB. */
export const MAX_JSON = 4 * 1024 * 1024;
/** Layers of one image: docker stops at 127. */
export const MAX_LAYERS = 512;

const PLATFORM = { os: 'linux', architecture: 'amd64' };
/** `sha256:` and 64 digits: no other is in use, and each is a part of a path. */
const DIGEST = /^sha256:([0-9a-f]{64})$/;

/** The hex digits. @throws {ImageArchiveError} it is of another algorithm, or none */
export function parseDigest(value: unknown, where: string): string {
  const match = DIGEST.exec(text(value, where));
  if (match) return match[1] as string;
  throw new ImageArchiveError(`${where} is no SHA-256 digest`);
}

/** Reads an image's configuration file. @throws {ImageArchiveError | ImagePlatformError} */
export function parseConfigFile(
  json: unknown,
  where: string,
): { config: Json; created: number; diffIds: string[] } {
  const file = object(json, where);
  checkPlatform(file, where);
  const rootfs = object(field(file, 'rootfs'), `${where}: rootfs`);
  const diffIds = array(field(rootfs, 'diff_ids'), `${where}: diff_ids`, MAX_LAYERS);
  const config = field(file, 'config');
  return {
    config: config === undefined || config === null ? {} : object(config, `${where}: config`),
    created: parseTime(optionalText(field(file, 'created'), `${where}: created`)),
    diffIds: diffIds.map((each, index) => parseDigest(each, `${where}: diff_ids[${index}]`)),
  };
}

/** Whether a platform of an index is the VM's. */
export function isOurs(platform: Json, where: string): boolean {
  const of = (name: string) => optionalText(field(platform, name), `${where}: ${name}`);
  return of('os') === PLATFORM.os && of('architecture') === PLATFORM.architecture;
}

/** @throws {ImagePlatformError} the image says that it is for another machine; one that says nothing is believed. */
function checkPlatform(file: Json, where: string): void {
  for (const [name, wanted] of Object.entries(PLATFORM)) {
    const found = optionalText(field(file, name), `${where}: ${name}`);
    if (found === '' || found === wanted) continue;
    throw new ImagePlatformError(
      `${where}: the image is for ${name} ${JSON.stringify(found)}, VMs are ${wanted}`,
      {
        hint: 'docker pull --platform linux/amd64 NAME, and save that.',
      },
    );
  }
}

/** Seconds since the epoch; 0 for what is no time, or before it (some builders write the year 1). */
function parseTime(value: string): number {
  const milliseconds = Date.parse(value);
  return milliseconds > 0 ? Math.floor(milliseconds / 1000) : 0;
}
