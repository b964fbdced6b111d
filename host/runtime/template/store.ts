/** Where templates are kept: a folder each, named by its key, complete from the moment that it has that name. */
import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Native } from '../../../native/face.ts';
import type { HostNative } from '../../../native/host-face.ts';
import { hasErrno, toError, YavmError } from '../../lib/errors.ts';
import { cacheFolder } from '../../lib/paths.ts';
import { parseSize } from '../../lib/size.ts';
import { sparseChecksum } from './checksum.ts';
import { RAM, RECORD, readRecord, STATE, sameStamp, stampOf, type TemplateRecord } from './record.ts';
import { MOST_STARTS, type Renewal, renewalOf, whyDue } from './renewal.ts';
import { removeSocketFolder, SOCKET_NOTE } from './socket-folder.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Folder of the templates; default in the cache. A tmpfs is fine: they are as large as what a VM has used at its start. */
export const FOLDER_VARIABLE = 'YA_VM_TEMPLATES';
/** Most bytes of them together; 0: none are made. */
export const LIMIT_VARIABLE = 'YA_VM_TEMPLATES_LIMIT';
const LIMIT = 4 * 1024 ** 3;

const KEY = /^[0-9a-f]{32}$/;
const BUILDING = /^\.([0-9a-f]{32})$/;
/** In a template's folder: a byte for each VM that has started from it. Added to by whoever starts one, without a lock. */
const STARTS = 'starts';
const BLOCK = 512;
/** Milliseconds. */
const FAILURE_KEPT = 600_000;
const MAX_REASON = 1000;

/** An open template: what is opened stays as it is, whatever becomes of its folder. */
export interface OpenTemplate {
  record: TemplateRecord;
  ram: number;
  state: number;
}

export interface ListedTemplate {
  record: TemplateRecord;
  /** Bytes of the disk. */
  size: number;
  used: Date;
  /** VMs that have started from it. */
  starts: number;
  /** Why the next start makes it anew; null: it does not. */
  due: string | null;
}

export class TemplateStore {
  readonly folder: string;
  readonly limit: number;
  readonly #renewal: Renewal;

  /** @throws {YavmError} YAVM_E_USAGE: a limit that is no size, a renewal that is none */
  constructor(env: Environment = process.env) {
    const given = env[FOLDER_VARIABLE];
    this.folder = given?.startsWith('/') ? given : join(cacheFolder(env), 'templates');
    this.limit = limitOf(env[LIMIT_VARIABLE]);
    this.#renewal = renewalOf(env);
  }

  path(key: string): string {
    return join(this.folder, key);
  }

  /** Where it is built: nobody takes it for a template. */
  buildPath(key: string): string {
    return join(this.folder, `.${key}`);
  }

  /**
   * Opens a template, once its files are as they were when it was made. Null: there is none.
   * @throws {YavmError} YAVM_E_TEMPLATE: it is damaged, and must not be used
   */
  open(key: string): OpenTemplate | null {
    const folder = this.path(key);
    const at = openFolder(folder);
    if (at === null) return null;
    try {
      // By the folder that was opened: another may come in its place at any time.
      return openIn(`/proc/self/fd/${at}`, key);
    } catch (error) {
      const now = statSync(folder, { throwIfNoEntry: false });
      if (now === undefined) return null;
      // It was made anew meanwhile, and the old files removed. Nobody does that twice in that time.
      if (now.ino !== fstatSync(at).ino) return this.open(key);
      throw new YavmError('YAVM_E_TEMPLATE', `the template ${folder} cannot be used`, {
        cause: toError(error),
        hint: `ya-vm template drop ${key.slice(0, 8)}`,
      });
    } finally {
      closeSync(at);
    }
  }

  /** Whether there is one of that name; opening it says whether it is any good. */
  has(key: string): boolean {
    return this.#names().includes(key);
  }

  /** Of all, damaged ones too. */
  keys(): string[] {
    return this.#names().filter((name) => KEY.test(name));
  }

  /** All that are complete, the last used first. */
  list(): ListedTemplate[] {
    const listed: ListedTemplate[] = [];
    for (const key of this.keys()) {
      try {
        const record = readRecord(join(this.path(key), RECORD));
        const used = statSync(join(this.path(key), RECORD)).mtime;
        const starts = this.starts(key);
        const due = whyDue(this.#renewal, { ...record, starts }, Date.now());
        listed.push({ record, size: this.#sizeOf(key), used, starts, due });
      } catch {
        // Damaged, or dropped meanwhile: whoever wants to use it learns more.
      }
    }
    return listed.sort((a, b) => b.used.getTime() - a.used.getTime());
  }

  /** Reads all of a template. @returns what is wrong with it, null: nothing. @throws the signal's reason */
  async verify(key: string, signal?: AbortSignal): Promise<string | null> {
    try {
      const open = this.open(key);
      if (open === null) return 'it is not there';
      try {
        for (const name of [RAM, STATE] as const) {
          const sum = await sparseChecksum(join(this.path(key), name), signal);
          if (sum !== open.record[name].sha256) return `the content of its file '${name}' has changed`;
        }
        return null;
      } finally {
        closeSync(open.ram);
        closeSync(open.state);
      }
    } catch (error) {
      signal?.throwIfAborted();
      return toError(toError(error).cause ?? error).message;
    }
  }

  /** VMs that have started from it; 0: none, or there is no such template. */
  starts(key: string): number {
    return statSync(join(this.path(key), STARTS), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** A VM starts from it. What decides whether it may be used is not touched. */
  countStart(key: string): void {
    try {
      if (this.starts(key) < MOST_STARTS) appendFileSync(join(this.path(key), STARTS), '.', { mode: 0o600 });
    } catch {
      // Removed meanwhile, or a disk that is full: no reason not to start.
      return;
    }
  }

  /** Why it is to be made anew; null: it is not, or it cannot be read. */
  due(key: string): string | null {
    const { age, starts } = this.#renewal;
    if (age === null && starts === null) return null;
    try {
      const { made } = readRecord(join(this.path(key), RECORD));
      return whyDue(this.#renewal, { made, starts: this.starts(key) }, Date.now());
    } catch {
      return null;
    }
  }

  /**
   * Makes what was built the template `key`. Whoever opens it meanwhile has the old one or the new one.
   * @throws what renaming fails with
   */
  put(key: string, native: Pick<HostNative, 'exchange'>): void {
    const [built, path] = [this.buildPath(key), this.path(key)];
    rmSync(join(this.folder, `${key}.failed`), { force: true });
    if (this.has(key)) {
      try {
        native.exchange(built, path);
        rmSync(built, { recursive: true, force: true });
        return;
      } catch {
        // A file system that cannot: there is none for a moment, and who starts then boots.
        this.drop(key);
      }
    }
    renameSync(built, path);
  }

  /** Why it could not be made, if that was lately: a boot that leads to nothing is not tried at each start. */
  failure(key: string): string | null {
    const path = join(this.folder, `${key}.failed`);
    try {
      if (Date.now() - statSync(path).mtimeMs < FAILURE_KEPT)
        return readFileSync(path, 'utf8').slice(0, MAX_REASON);
    } catch {
      return null;
    }
    return null;
  }

  noteFailure(key: string, reason: string): void {
    try {
      writeFileSync(join(this.folder, `${key}.failed`), reason.slice(0, MAX_REASON), { mode: 0o600 });
    } catch {
      // Then it is tried again.
      return;
    }
  }

  /** Removes one. VMs that were made from it do not notice. @throws what removing fails with */
  drop(key: string): void {
    rmSync(join(this.folder, `${key}.failed`), { force: true });
    // The record first: half a template is none.
    rmSync(join(this.path(key), RECORD), { force: true });
    rmSync(this.path(key), { recursive: true, force: true });
  }

  /** Removes those not used for longest until the rest fits, and those that cannot be read. @returns the keys removed */
  prune(keep: string): string[] {
    const listed = this.list();
    const known = new Set(listed.map(({ record }) => record.key));
    const damaged = this.keys().filter((key) => !known.has(key));
    const gone = [...damaged];
    let size = 0;
    for (const { record, size: own } of listed) {
      size += own;
      if (size > this.limit && record.key !== keep) gone.push(record.key);
    }
    for (const key of gone) this.drop(key);
    return gone;
  }

  /** Removes what builders that were killed have left. @param native for their locks */
  clean(native: Pick<Native, 'flock'>): void {
    for (const name of this.#names()) {
      const [, key] = BUILDING.exec(name) ?? [];
      if (key === undefined) continue;
      const lock = this.lock(key, native);
      if (lock === null) continue;
      this.discard(key);
      closeSync(lock);
    }
  }

  /** Removes what was built of a template that is none yet. For who has its lock. */
  discard(key: string): void {
    const folder = this.buildPath(key);
    removeSocketFolder(join(folder, SOCKET_NOTE));
    rmSync(folder, { recursive: true, force: true });
  }

  /**
   * The right to build a template, until the descriptor is closed; null: another has it. The file stays: who waits for a lock
   * must wait for the same one.
   */
  lock(key: string, native: Pick<Native, 'flock'>): number | null {
    const fd = openSync(join(this.folder, `${key}.lock`), 'a', 0o600);
    if (native.flock(fd, true)) return fd;
    closeSync(fd);
    return null;
  }

  #names(): string[] {
    try {
      return readdirSync(this.folder);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return [];
      throw new YavmError('YAVM_E_TEMPLATE', `${this.folder}: this folder cannot be read`, {
        cause: error,
        hint: `${FOLDER_VARIABLE} names another.`,
      });
    }
  }

  #sizeOf(key: string): number {
    return [RAM, STATE].reduce((sum, name) => sum + statSync(join(this.path(key), name)).blocks * BLOCK, 0);
  }
}

/** Its folder; null: there is none. */
function openFolder(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return null;
    throw error;
  }
}

/** The template in `folder`. @throws {Error} what is wrong with it */
function openIn(folder: string, key: string): OpenTemplate {
  const opened: number[] = [];
  try {
    const record = readRecord(join(folder, RECORD));
    if (record.key !== key) throw new Error('it is that of another template');
    for (const [name, flags] of [
      [RAM, 'r+'],
      [STATE, 'r'],
    ] as const) {
      const fd = openSync(join(folder, name), flags);
      opened.push(fd);
      if (!sameStamp(stampOf(fstatSync(fd, { bigint: true })), record[name].stamp)) {
        throw new Error(`the file '${name}' has been changed since the template was made`);
      }
    }
    touch(join(folder, RECORD));
    const [ram, state] = opened as [number, number];
    return { record, ram, state };
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
}

function limitOf(text: string | undefined): number {
  if (text === undefined || text === '') return LIMIT;
  if (text === '0') return 0;
  try {
    return parseSize(text);
  } catch (cause) {
    throw new YavmError('YAVM_E_USAGE', `${LIMIT_VARIABLE} is not the size of a disk`, { cause });
  }
}

/** For who asks which template was used last; one that cannot be marked is used all the same. */
function touch(path: string): void {
  try {
    const now = new Date();
    utimesSync(path, now, now);
  } catch {
    return;
  }
}
