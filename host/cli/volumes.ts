/** What `--volume` and `--tmpfs` mean, in docker's spelling: folders of this host in a VM, and memory. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { parseSize } from '../lib/size.ts';
import type { ShareSpec } from '../runtime/types.ts';
import { volumePath } from '../runtime/volume-plan.ts';
import { usageError } from './options.ts';

/** A `--tmpfs`; without a size it is half of the VM's memory, as the kernel's own default. */
export type Tmpfs = Omit<Extract<MountSpec, { kind: 'ram' }>, 'kind' | 'size'> & { size?: number };

export interface Volumes {
  shares: ShareSpec[];
  mounts: MountSpec[];
}

const VOLUME_HINT = 'Write FOLDER:/path/in/VM, or FOLDER:/path/in/VM:ro.';

/** `FOLDER:/path[:ro]`. The folder may be relative, and may have colons in its name. */
export function parseVolume(text: string): ShareSpec {
  const [, hostPath, path, access = 'rw'] = /^(.+?):(\/[^:]*)(?::([^:/]*))?$/s.exec(text) ?? [];
  if (hostPath === undefined || path === undefined) {
    throw usageError(`'${text}' names no folder of this host and its path in the VM`, VOLUME_HINT);
  }
  if (access !== 'ro' && access !== 'rw')
    throw usageError(`'${text}': '${access}' is no way to share a folder`, VOLUME_HINT);
  return {
    hostPath: resolve(hostPath),
    path: guestPath(path),
    ...(access === 'ro' ? { readOnly: true } : {}),
  };
}

/** `/path`, `/path:64M`, or `/path:size=64M,mode=1777,noexec,nosuid`. */
export function parseTmpfs(text: string): Tmpfs {
  const colon = text.indexOf(':');
  const tmpfs: Tmpfs = { path: guestPath(colon < 0 ? text : text.slice(0, colon)) };
  const options = colon < 0 ? [] : text.slice(colon + 1).split(',');
  for (const option of options) {
    const [name = '', value] = option.split('=', 2);
    if (value === undefined && /^\d/.test(name)) tmpfs.size = wholePages(name);
    else if (value !== undefined && name === 'size') tmpfs.size = wholePages(value);
    else if (value !== undefined && name === 'mode') tmpfs.mode = parseMode(value);
    else if (value === undefined && name === 'noexec') tmpfs.noExec = true;
    else if (value === undefined && name === 'nosuid') tmpfs.noSuid = true;
    else if (value !== undefined || !AS_IT_IS.includes(name)) {
      throw usageError(
        `'${option}' is no option of memory in the VM`,
        'Write /path:size=64M,mode=1777; noexec and nosuid are known, too.',
      );
    }
  }
  return tmpfs;
}

/** What a tmpfs of ours is anyway. */
const AS_IT_IS = ['rw', 'exec', 'suid', 'nodev'];
const PAGE = 4096;

function wholePages(text: string): number {
  return Math.ceil(parseSize(text) / PAGE) * PAGE;
}

function parseMode(text: string): number {
  if (/^[0-7]{1,4}$/.test(text)) return Number.parseInt(text, 8);
  throw usageError(`'${text}' is no mode`, 'Write it in octal, as 1777 or 0700.');
}

function guestPath(path: string): string {
  let plain: string;
  try {
    plain = volumePath(path);
  } catch (error) {
    throw usageError(toError(error).message);
  }
  if (plain === '/')
    throw usageError(
      "'/' is the VM's root",
      'Its changes are kept by --root-disk, or in memory by --ram-root.',
    );
  return plain;
}

/**
 * All together, looked at: the folders must be there, and no path be named twice.
 * @throws {YavmError} YAVM_E_VOLUMES, YAVM_E_USAGE
 */
export function readVolumes(
  shares: readonly ShareSpec[],
  tmpfs: readonly Tmpfs[],
  memoryMiB: number,
): Volumes {
  const paths = new Set<string>();
  for (const { path } of [...shares, ...tmpfs]) {
    if (paths.has(path)) throw usageError(`two volumes at ${path} in the VM`);
    paths.add(path);
  }
  for (const { hostPath } of shares) {
    if (statSync(hostPath, { throwIfNoEntry: false })?.isDirectory()) continue;
    throw new YavmError('YAVM_E_VOLUMES', `${hostPath}: no folder that a VM could have`, {
      hint: `mkdir -p ${hostPath}`,
    });
  }
  const half = Math.floor(memoryMiB / 2) * 1024 ** 2;
  return {
    shares: [...shares],
    mounts: tmpfs.map(({ size = half, ...rest }) => ({ kind: 'ram', size, ...rest })),
  };
}

/**
 * The image's own volumes are directories of the root's disk, but for those that the command line puts something else at.
 * @returns all mounts
 */
export function withImageVolumes(imageVolumes: readonly string[], { shares, mounts }: Volumes): MountSpec[] {
  const taken = new Set([...shares, ...mounts].map(({ path }) => path));
  const free = imageVolumes.filter((path) => path !== '/' && !taken.has(path));
  return [...free.map((path): MountSpec => ({ kind: 'directory', path })), ...mounts];
}
