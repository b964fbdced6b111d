/**
 * `container:` paths: any path in the task's root. They are resolved by the guest, beneath that root, so that nothing that a
 * task plants (links, mounts, swaps of the two) leads anywhere else (exe-unit.md 6.4 tells what happened on the host before).
 */
import { YavmError } from '../lib/errors.ts';
import { pulled } from './pull.ts';
import type { Bytes, TransferDestination, TransferOptions, TransferSource } from './types.ts';

/** What is asked of the VM, or of the place where files wait for it. */
export interface GuestFiles {
  /** A file's bytes, or a tar of a directory, into `sink`. */
  readFiles(
    path: string,
    sink: (bytes: Uint8Array) => void | Promise<void>,
    options: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<unknown>;
  /** The reverse. */
  writeFiles(
    path: string,
    source: Bytes,
    options: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<unknown>;
}

/** How a directory becomes bytes, and bytes a directory. */
export interface Packing {
  pack(tar: Bytes, signal: AbortSignal): Bytes;
  unpack(archive: Bytes, signal: AbortSignal): Bytes;
}

/** PATH_MAX without its NUL. */
const MAX_PATH = 4095;

/**
 * The path of a `container:` URL, decoded. Refused are `..`, in any spelling, and what is no absolute path; links are the
 * guest's affair. @throws {YavmError} YAVM_E_CONTAINER_PATH
 */
export function containerPath(url: URL): string {
  const path = decoded(url);
  const problem = problemOf(path, url);
  if (problem !== null) throw refused(url.pathname, problem);
  return path;
}

function decoded(url: URL): string {
  try {
    return decodeURIComponent(url.pathname);
  } catch (cause) {
    throw refused(url.pathname, 'it is not percent-encoded UTF-8', cause);
  }
}

function problemOf(path: string, url: URL): string | null {
  if (url.host !== '') return `it names a host, '${url.host}'`;
  if (!path.startsWith('/')) return 'it is not absolute';
  if (path.includes('\0')) return 'it contains a NUL';
  if (path.split('/').includes('..')) return "it contains '..'";
  if (Buffer.byteLength(path) > MAX_PATH) return `it is longer than ${MAX_PATH} bytes`;
  return null;
}

function refused(path: string, why: string, cause?: unknown): YavmError {
  return new YavmError(
    'YAVM_E_CONTAINER_PATH',
    `invalid path format: [${path.slice(0, 200)}]: ${why}`,
    cause === undefined ? {} : { cause },
  );
}

/** A file; with `packing`, what is in a directory, as an archive. */
export function containerSource(files: GuestFiles, url: URL, packing?: Packing): TransferSource {
  const path = containerPath(url);
  return {
    shown: `container:${path}`,
    async open({ signal }: TransferOptions) {
      const read = (from: string, format: 'file' | 'tar') =>
        pulled((sink, until) => files.readFiles(from, sink, { format, signal: until }), signal);
      const bytes = packing ? packing.pack(read(contentOf(path), 'tar'), signal) : read(path, 'file');
      return { size: null, bytes };
    },
  };
}

/** A file, which is replaced in one step; with `packing`, a directory that takes what is in the archive. */
export function containerDestination(files: GuestFiles, url: URL, packing?: Packing): TransferDestination {
  const path = containerPath(url);
  return {
    shown: `container:${path}`,
    async write({ bytes }, { signal }) {
      if (packing)
        await files.writeFiles(directory(path), packing.unpack(bytes, signal), { format: 'tar', signal });
      else await files.writeFiles(path, bytes, { format: 'file', signal });
    },
  };
}

/** Without slashes at its end. */
function directory(path: string): string {
  return path.replace(/\/+$/, '') || '/';
}

/** What is in a directory, without the directory's own name in front of it. */
function contentOf(path: string): string {
  return `${path.replace(/\/+$/, '')}/.`;
}
