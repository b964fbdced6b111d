/** The files of an image layout by their names: in a folder, or in a tar. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../../lib/errors.ts';
import { fileSection, partOf, readPart, type Section } from '../build/section.ts';
import { type IndexOptions, readTarIndex, type TarEntry } from '../build/tar-index.ts';
import { nameParts, quote } from '../build/tree.ts';
import { ImageArchiveError, ImageSourceError } from '../errors.ts';

export interface Files {
  /** For messages. */
  readonly name: string;
  /** Null: there is none. `path` is relative, without `..`. @throws {YavmError} it is there but cannot be read */
  find(path: string): Section | null;
  close(): void;
}

/** Names in an archive of images at most: each layer has three at most. */
const MAX_NAMES = 20_000;
/** Links of the archive followed for one name. */
const MAX_LINKS = 8;

/** A folder's. What is opened stays open until `close`, so that what was checked is what is read. */
export function folderFiles(folder: string): Files {
  const open: number[] = [];
  return {
    name: folder,
    find(path) {
      const file = join(folder, path);
      try {
        // Non-blocking: opening a FIFO must not wait for its writer.
        const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
        open.push(fd);
        if (!fstatSync(fd).isFile()) throw new ImageSourceError(`${file}: not a regular file`);
        return fileSection(fd, file);
      } catch (cause) {
        if (hasErrno(cause, 'ENOENT') || hasErrno(cause, 'ENOTDIR')) return null;
        if (cause instanceof ImageSourceError) throw cause;
        throw new ImageSourceError(`${file}: cannot be read`, { cause });
      }
    },
    close() {
      for (const fd of open.splice(0)) closeSync(fd);
    },
  };
}

/** A tar's; links in it lead to others of its names, and nowhere else. @throws {ImageArchiveError} */
export async function tarFiles(archive: Section, options: IndexOptions): Promise<Files> {
  const entries = new Map<string, TarEntry>();
  for await (const entry of readTarIndex(archive, options)) {
    const name = nameParts(entry.name).join('/');
    if (entry.type !== 'directory') entries.set(name, entry);
    if (entries.size > MAX_NAMES) {
      throw new ImageArchiveError(
        `${archive.name}: has more than ${MAX_NAMES} files, too many for an archive of images`,
      );
    }
  }
  return {
    name: archive.name,
    find(path) {
      const entry = follow(entries, path, archive.name);
      if (!entry) return null;
      const { content } = entry;
      if (!content || content.segments)
        throw new ImageArchiveError(`${archive.name}: ${quote(path)} is no ordinary file`);
      return partOf(archive, `${archive.name}: ${path}`, content.at, content.size);
    },
    close() {},
  };
}

/** Old `docker save` writes a layer that occurs twice as a link to the first. */
function follow(entries: ReadonlyMap<string, TarEntry>, path: string, name: string): TarEntry | null {
  let at = path;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const entry = entries.get(at);
    if (!entry) return null;
    if (entry.type === 'hardlink') at = nameParts(entry.linkName).join('/');
    else if (entry.type === 'symlink') at = linkTarget(at, entry.linkName, name);
    else return entry;
  }
  throw new ImageArchiveError(`${name}: too many links at ${quote(path)}`);
}

function linkTarget(from: string, target: string, name: string): string {
  const refused = () => new ImageArchiveError(`${name}: the link ${quote(from)} leads out of the archive`);
  if (target.startsWith('/')) throw refused();
  const parts = from.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '..') {
      if (parts.pop() === undefined) throw refused();
    } else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** A small file as JSON. @throws {ImageArchiveError} missing, larger than `limit` bytes, or not JSON */
export function readJson(files: Files, path: string, limit: number): unknown {
  const section = files.find(path);
  if (!section) throw new ImageArchiveError(`${files.name}: has no ${path}`);
  return parseJson(section, limit);
}

export function parseJson(section: Section, limit: number): unknown {
  if (section.size > limit)
    throw new ImageArchiveError(`${section.name}: has ${section.size} bytes, more than ${limit}`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(readPart(section, 0, section.size)));
  } catch (cause) {
    if (cause instanceof ImageArchiveError) throw cause;
    throw new ImageArchiveError(`${section.name}: is not JSON in UTF-8`, { cause });
  }
}
