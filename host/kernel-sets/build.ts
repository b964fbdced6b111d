/** Builds a kernel set into the cache: once, however many processes want it, and never half. */
import type { KeyObject } from 'node:crypto';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { agentOf } from '../../initramfs/agent.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { fetchKernelPackage, type KernelSource } from '../../initramfs/kernel/source.ts';
import type { Native } from '../../native/face.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { isSetWhole } from '../lib/kernel-check.ts';
import {
  builtSets,
  filesIn,
  type KernelSet,
  kernelsFolder,
  setFolderName,
  setKey,
} from '../lib/kernel-set.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { assetsFolder } from '../lib/paths.ts';
import { lockImage } from '../transfer/lock.ts';
import { isWhole } from './verify.ts';

export interface BuildSetOptions {
  env: Readonly<Record<string, string | undefined>>;
  native: Native;
  signal: AbortSignal;
  /** Of ya-vm. */
  version: string;
  /** Asks for the package's newest version although a build is there. */
  update?: boolean;
  /** Signs what is built; a set that is there is built anew. */
  sign?: KeyObject;
  /** One line each. */
  onProgress?: (line: string) => void;
  /** Stands in for the package in tests. */
  fetch?: (onProgress?: (line: string) => void) => Promise<KernelSource>;
}

export interface BuiltSet {
  folder: string;
  /** False: it was there. */
  fresh: boolean;
}

/** Milliseconds: a download of 70 MB over a slow line, and a build on a slow machine. */
const PATIENCE = 20 * 60_000;
/** Builds of one set that are kept: an older ya-vm may be in use beside this one. */
const KEPT = 3;
/**
 * Builds a set, unless a whole one for this version of ya-vm is there. Several at a time wait for one.
 * @throws {YavmError} YAVM_E_INITRAMFS_…, YAVM_E_ASSETS; YAVM_E_KERNEL_SET when the cache cannot be written.
 */
export async function buildKernelSet(set: KernelSet, options: BuildSetOptions): Promise<BuiltSet> {
  const { env, native, signal, onProgress } = options;
  const key = setKey(set, env);
  const parent = kernelsFolder(env);
  const there = async () => (options.update || options.sign ? undefined : wholeOf(builtSets(env, set, key)));
  const known = await there();
  if (known !== undefined) return { folder: known, fresh: false };
  try {
    makeFolders(parent);
  } catch (cause) {
    fail(parent, cause);
  }
  const lock = await lockImage(join(parent, `${set.name}.lock`), {
    native,
    signal,
    watch: async () => 0,
    patience: PATIENCE,
  });
  try {
    const made = await there();
    if (made !== undefined) return { folder: made, fresh: false };
    if (lock) await removeLeft(parent, set);
    const fetch =
      options.fetch ?? (() => fetchKernelPackage({ folder: parent, onProgress }, set.kernelPackage));
    const kernel = await fetch(onProgress);
    const folder = join(parent, setFolderName(set, kernel.package?.version ?? kernel.modules.release, key));
    if (!options.sign && (await isWhole(folder))) return { folder, fresh: false };
    onProgress?.(`building ${basename(folder)}`);
    await buildInto(folder, set, kernel, options);
    await prune(builtSets(env, set), folder);
    return { folder, fresh: true };
  } finally {
    await lock?.release();
  }
}

/** The newest that has every byte; undefined: none. */
async function wholeOf(folders: readonly string[]): Promise<string | undefined> {
  const newest = folders.at(-1);
  return newest !== undefined && (await isWhole(newest)) ? newest : undefined;
}

/** Beside its place, and moved there as a whole. */
async function buildInto(
  folder: string,
  set: KernelSet,
  kernel: KernelSource,
  { env, version, sign }: BuildSetOptions,
): Promise<void> {
  const parent = kernelsFolder(env);
  const temporary = await mkdtemp(join(parent, `.${set.name}-`)).catch((cause) => fail(parent, cause));
  try {
    const files = filesIn(temporary);
    await buildInitramfs({
      kernel,
      init: await agentOf(filesIn(assetsFolder(env)).initramfs),
      preset: set.preset,
      outputs: { vmlinux: files.kernel, initramfs: files.initramfs, manifest: files.manifest },
      version,
      agent: version,
      // Nobody's to compare with another time.
      mtime: 0,
      sign,
    });
    // Every byte, once: from here on only what changes is read again.
    if (!isSetWhole(temporary, files)) fail(temporary, new Error('it is not what was written'));
    // What is in the way is damaged: a whole one would have been taken.
    await rm(folder, { recursive: true, force: true });
    await rename(temporary, folder).catch((cause) => {
      // Somebody who would not wait was faster.
      if (!hasErrno(cause, 'ENOTEMPTY') && !hasErrno(cause, 'EEXIST')) fail(folder, cause);
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** What a build that was killed left behind; only who has the lock may look. */
async function removeLeft(parent: string, set: KernelSet): Promise<void> {
  for (const name of await readdir(parent))
    if (name.startsWith(`.${set.name}-`)) await rm(join(parent, name), { recursive: true, force: true });
}

async function prune(folders: readonly string[], kept: string): Promise<void> {
  const others = folders.filter((folder) => folder !== kept);
  for (const folder of others.slice(0, Math.max(0, others.length - (KEPT - 1))))
    await rm(folder, { recursive: true, force: true });
}

function fail(path: string, cause: unknown): never {
  throw new YavmError('YAVM_E_KERNEL_SET', `${path}: the kernel set cannot be kept there`, {
    cause,
    hint: 'XDG_CACHE_HOME names a folder that you may write.',
  });
}
