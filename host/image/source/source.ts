/** Opens what a reference names, whatever it is: told by content, not by names. */
import { closeSync, constants, existsSync, fstatSync, openSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { BLOCK, decodeHeader } from '../../lib/tar/header.ts';
import { compressionOf, expand } from '../build/compression.ts';
import { fileSection, readPart, type Section } from '../build/section.ts';
import { ImageArchiveError, ImageSourceError, ImageUnreadableError } from '../errors.ts';
import { type ContainerImage, MAX_JSON } from './container-image.ts';
import { DOCKER_MANIFEST, isDockerManifest, readDockerArchive } from './docker-archive.ts';
import { type Files, folderFiles, parseJson, tarFiles } from './files.ts';
import { OCI_LAYOUT, readOciLayout } from './oci-layout.ts';
import { parseReference, type Reference, SAVE_HINT } from './reference.ts';

export type SourceContent =
  /** A squashfs, with or without a configuration, or nothing that is known: nothing is to be built. */
  | { kind: 'image' }
  /** A root file system as a folder. */
  | { kind: 'folder' }
  /** A root file system as a tar. */
  | { kind: 'tar'; tar: Section }
  | { kind: 'container'; image: ContainerImage };

export type Source = SourceContent & {
  path: string;
  /** Frees what is open. */
  close(): void;
};

export interface OpenOptions {
  signal: AbortSignal;
  /** Where an archive that is compressed as a whole is expanded to. */
  temp: string;
  /** Which of several images, when the reference does not say. */
  tag?: string;
}

const SQUASHFS = Buffer.from('hsqs');

/** @throws {YavmError} YAVM_E_IMAGE_SOURCE, YAVM_E_IMAGE_UNREADABLE; what reading an archive throws; the signal's reason */
export async function openSource(text: string, options: OpenOptions): Promise<Source> {
  const parsed = parseReference(text, existsSync);
  const reference = { ...parsed, tag: parsed.tag ?? options.tag };
  const opened = new Opened();
  try {
    const content = statOf(reference).isDirectory()
      ? openFolder(reference, opened)
      : await openFile(reference, opened, options);
    return { ...content, path: reference.path, close: () => opened.close() };
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** What has to be closed, in the order in which it was opened. */
class Opened {
  readonly #ends: (() => void)[] = [];

  add<T extends { close(): void }>(what: T): T {
    this.#ends.push(() => what.close());
    return what;
  }

  close(): void {
    for (const end of this.#ends.splice(0).reverse()) end();
  }
}

function statOf({ path }: Reference): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    // An image's name as docker has it. What begins like a path, or ends like a file's name, is meant as one.
    const named = /^\w[\w./-]*(:[\w.-]+)?$/.test(path) && !/\.\w+$/.test(path);
    const hint = named ? SAVE_HINT : undefined;
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause, hint });
  }
}

function openFolder({ kind, path, tag }: Reference, opened: Opened): SourceContent {
  const layout = existsSync(join(path, OCI_LAYOUT));
  if (kind === 'oci' || (kind === 'path' && layout))
    return { kind: 'container', image: readOciLayout(opened.add(folderFiles(path)), tag) };
  if (kind === 'path') return { kind: 'folder' };
  throw new ImageSourceError(`${kind}:${path}: is a folder`, {
    hint: layout ? `It is an OCI layout: oci:${path}` : undefined,
  });
}

async function openFile(
  { kind, path, tag }: Reference,
  opened: Opened,
  options: OpenOptions,
): Promise<SourceContent> {
  if (kind === 'oci') {
    throw new ImageSourceError(`oci:${path}: is no folder`, {
      hint: `A layout in a tar: oci-archive:${path}`,
    });
  }
  const stored = opened.add(openSection(path));
  if (startsAs(stored, SQUASHFS)) {
    if (kind === 'path') return { kind: 'image' };
    throw new ImageSourceError(`${kind}:${path}: is a squashfs image, no archive`);
  }
  const tar = await expanded(stored, opened, options);
  if (!isTar(tar)) {
    // Who looks at it as an image says what it is instead.
    if (kind === 'path') return { kind: 'image' };
    throw new ImageSourceError(`${kind}:${path}: is no tar`);
  }
  const files = await filesOf(tar, kind, options);
  if (kind === 'docker-archive')
    return { kind: 'container', image: readDockerArchive(needed(files, path), tag) };
  if (kind === 'oci-archive') return { kind: 'container', image: readOciLayout(needed(files, path), tag) };
  if (files && isDocker(files)) return { kind: 'container', image: readDockerArchive(files, tag) };
  if (files && findQuietly(files, OCI_LAYOUT)) return { kind: 'container', image: readOciLayout(files, tag) };
  return { kind: 'tar', tar };
}

function openSection(path: string): Section & { close(): void } {
  try {
    // Non-blocking: opening a FIFO must not wait for its writer.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (fstatSync(fd).isFile()) return { ...fileSection(fd, path), close: () => closeSync(fd) };
    closeSync(fd);
  } catch (cause) {
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause });
  }
  throw new ImageUnreadableError(`${path}: not a regular file`);
}

async function expanded(stored: Section, opened: Opened, { signal, temp }: OpenOptions): Promise<Section> {
  if (!compressionOf(stored)) return stored;
  const { section, spool } = await expand(stored, { signal, folder: temp });
  if (spool) opened.add(spool);
  return section;
}

function startsAs(section: Section, magic: Buffer): boolean {
  return section.size >= magic.length && readPart(section, 0, magic.length).equals(magic);
}

/** Whether it begins with a header, or (an empty one) with the end mark. */
function isTar(section: Section): boolean {
  if (section.size < BLOCK) return false;
  try {
    decodeHeader(readPart(section, 0, BLOCK), 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * An archive's files; null for a tar that is none, which is told by its first name that no archive of images has. A root
 * file system may be large, and may have names that an archive of images must not have.
 */
async function filesOf(
  tar: Section,
  kind: Reference['kind'],
  { signal }: OpenOptions,
): Promise<Files | null> {
  try {
    return await tarFiles(tar, { signal });
  } catch (error) {
    if (kind === 'path' && error instanceof ImageArchiveError) return null;
    throw error;
  }
}

function needed(files: Files | null, path: string): Files {
  if (files) return files;
  throw new ImageSourceError(`${path}: is no archive of images`);
}

/** In a root file system a name of ours may be anything. */
function findQuietly(files: Files, name: string): Section | null {
  try {
    return files.find(name);
  } catch {
    return null;
  }
}

function isDocker(files: Files): boolean {
  const manifest = findQuietly(files, DOCKER_MANIFEST);
  if (!manifest || manifest.size > MAX_JSON) return false;
  try {
    return isDockerManifest(parseJson(manifest, MAX_JSON));
  } catch {
    return false;
  }
}
