/** Files of a hook, beneath a root. */
import type { Native } from '../../native/face.ts';
import { makeDirectories, pathParts } from '../lib/beneath.ts';
import { replaceTextFile } from '../lib/replace-file.ts';
import type { HookFiles } from './api.ts';

/** Most that is read of a file, bytes. */
const MAX_READ = 1024 * 1024;

export class HookFolder implements HookFiles {
  readonly #native: Native;
  readonly #rootFd: number;

  constructor(native: Native, rootFd: number) {
    this.#native = native;
    this.#rootFd = rootFd;
  }

  read(path: string): string {
    return this.#native.readText(this.#rootFd, path, MAX_READ);
  }

  write(path: string, text: string, mode = 0o644): void {
    const parts = pathParts(path);
    const name = parts.pop();
    if (name === undefined || name === '..') throw new Error(`'${path}' is no file's path`);
    const folder = makeDirectories(this.#native, this.#rootFd, parts.join('/'), 0o755);
    try {
      // The descriptor is for paths only (O_PATH); files are made by name in it.
      replaceTextFile(this.#native, folder, name, text, mode);
    } finally {
      this.#native.close(folder);
    }
  }

  set(path: string, text: string): void {
    this.#native.writeText(this.#rootFd, path, text);
  }
}
