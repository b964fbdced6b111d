/** Who a command runs as: names and numbers resolved by the image's own /etc/passwd and /etc/group. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import { readTextFile } from '../lib/read-file.ts';

export interface Identity {
  uid: number;
  gid: number;
  /** Supplementary groups, the primary one included. */
  groups: number[];
  home: string;
}

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: string[];
}

/** Largest account file that is read, bytes: the image is not trusted, and PID 1's memory is small. */
const MAX_ACCOUNT_FILE = 1024 * 1024;

/** `name:x:uid:gid:gecos:home:shell` lines; malformed ones are skipped, as libc does. */
export function parsePasswd(text: string): PasswdEntry[] {
  return fields(text, 6).flatMap(([name, , uid, gid, , home]) => {
    const ids = [number(uid), number(gid)] as const;
    if (ids[0] === null || ids[1] === null) return [];
    return [{ name: name as string, uid: ids[0], gid: ids[1], home: home as string }];
  });
}

/** `name:x:gid:member,member` lines. */
export function parseGroup(text: string): GroupEntry[] {
  return fields(text, 4).flatMap(([name, , gid, members]) => {
    const id = number(gid);
    if (id === null) return [];
    return [
      { name: name as string, gid: id, members: (members as string).split(',').filter((m) => m !== '') },
    ];
  });
}

/**
 * Resolves `user[:group]`, each a name or a number, with Docker's rules: a number needs no entry (home `/`, group 0),
 * an explicit group replaces the primary one and drops the supplementary ones.
 * @throws {GuestError} unknown-user
 */
export function resolveIdentity(spec: string, passwdText: string, groupText: string): Identity {
  const [user = '', group] = spec.split(':', 2);
  const entry = findUser(user || '0', parsePasswd(passwdText));
  const groups = parseGroup(groupText);
  if (group !== undefined && group !== '') {
    const gid = findGroup(group, groups);
    return { uid: entry.uid, gid, groups: [gid], home: entry.home };
  }
  const member = groups.filter((g) => g.members.includes(entry.name)).map((g) => g.gid);
  return {
    uid: entry.uid,
    gid: entry.gid,
    groups: [entry.gid, ...member.filter((gid) => gid !== entry.gid)],
    home: entry.home,
  };
}

/** Resolves users against the files beneath the task's root, which may change while the VM runs. */
export class UserDatabase {
  readonly #native: Native;
  readonly #rootFd: number;
  #stamp = '';
  readonly #cache = new Map<string, Identity>();

  constructor(native: Native, rootFd: number) {
    this.#native = native;
    this.#rootFd = rootFd;
  }

  /** @throws {GuestError} unknown-user */
  resolve(spec: string): Identity {
    const stamp = this.#fileStamp('etc/passwd') + this.#fileStamp('etc/group');
    if (stamp !== this.#stamp || this.#cache.size > 64) {
      this.#cache.clear();
      this.#stamp = stamp;
    }
    let identity = this.#cache.get(spec);
    if (!identity) {
      identity = resolveIdentity(spec, this.#read('etc/passwd'), this.#read('etc/group'));
      this.#cache.set(spec, identity);
    }
    return identity;
  }

  #read(path: string): string {
    return readTextFile(this.#native, this.#rootFd, path, MAX_ACCOUNT_FILE) ?? '';
  }

  /** Changes whenever the file may have: a stat is cheaper than a parse for every command. */
  #fileStamp(path: string): string {
    try {
      const stat = this.#native.statAt(this.#rootFd, path);
      return `${stat.ino}/${stat.size}/${stat.mtime};`;
    } catch {
      return '-;';
    }
  }
}

function findUser(user: string, entries: PasswdEntry[]): PasswdEntry {
  const id = number(user);
  const entry = entries.find((e) => (id === null ? e.name === user : e.uid === id));
  if (entry) return { ...entry, home: entry.home || '/' };
  if (id !== null) return { name: '', uid: id, gid: 0, home: id === 0 ? '/root' : '/' };
  throw new GuestError('unknown-user', `no user '${user}' in the image's /etc/passwd`, {
    errno: 'ENOENT',
    path: '/etc/passwd',
  });
}

function findGroup(group: string, entries: GroupEntry[]): number {
  const id = number(group);
  const entry = entries.find((e) => (id === null ? e.name === group : e.gid === id));
  if (entry) return entry.gid;
  if (id !== null) return id;
  throw new GuestError('unknown-user', `no group '${group}' in the image's /etc/group`, {
    errno: 'ENOENT',
    path: '/etc/group',
  });
}

function fields(text: string, least: number): string[][] {
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((parts) => parts.length >= least && parts[0] !== '');
}

/** A uid or gid in decimal, at most 2³²−2 (2³²−1 means "no change" to the kernel); else null. */
function number(text: string | undefined): number | null {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return null;
  const value = Number(text);
  return value < 0xffffffff ? value : null;
}
