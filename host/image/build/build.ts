/** From an opened source to a `.gvmi`: flattened, packed, its configuration behind it, under its name only when it is whole. */
import {
  chmodSync,
  closeSync,
  fstatSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import { hasErrno, YavmError } from '../../lib/errors.ts';
import { formatSize } from '../../lib/size.ts';
import { ImageArchiveError } from '../errors.ts';
import { encodeTrailer } from '../gvmi.ts';
import type { LayerSource } from '../source/container-image.ts';
import type { Source } from '../source/source.ts';
import { buildConfig, type ConfigChanges } from './config.ts';
import { writeError } from './disk-error.ts';
import { flatten } from './flatten.ts';
import { type Ownership, runMksquashfs } from './mksquashfs.ts';
import { changeOwners, planOwners } from './owners.ts';
import type { Packer } from './packers.ts';
import { placeOf, removeStale, temporaryFor } from './place.ts';
import { tarOf } from './tar-writer.ts';
import { type FileTree, surveyOf } from './tree.ts';

export interface BuildStep {
  /** `read`: layers are checked and expanded; `pack`: files are compressed. */
  step: 'read' | 'pack';
  /** Bytes. */
  done: number;
  total: number;
}

export interface BuildOptions {
  source: Exclude<Source, { kind: 'image' }>;
  output: string;
  /** Where layers are expanded to; default: the output's folder. */
  temp?: string;
  compressor: Packer;
  level?: number;
  /** Default `keep`; of a folder, for who is not root, root. */
  owner?: Ownership;
  changes?: ConfigChanges;
  signal: AbortSignal;
  onStep?: (step: BuildStep) => void;
  /** Said once for each attribute that an image cannot keep. */
  onDropped?: (attribute: string) => void;
  env?: Readonly<Record<string, string | undefined>>;
}

export interface Built {
  path: string;
  /** Bytes. */
  size: number;
}

/**
 * Builds. Whatever goes wrong, or is aborted, nothing stays under the output's name that was not there before, and no
 * other file.
 * @throws {YavmError} YAVM_E_IMAGE_ARCHIVE, YAVM_E_IMAGE_DIGEST, YAVM_E_IMAGE_METADATA, YAVM_E_IMAGE_BUILD,
 * YAVM_E_DISK_FULL, YAVM_E_MKSQUASHFS_MISSING, YAVM_E_COMPRESSOR_MISSING; the signal's reason
 */
export async function buildImage(options: BuildOptions): Promise<Built> {
  const { source, env = process.env } = options;
  const output = placeOf(options.output, source);
  const container = source.kind === 'container' ? source.image : null;
  const trailer = encodeTrailer(buildConfig(container?.config ?? {}, options.changes ?? {}));
  const epoch = parseEpoch(env.SOURCE_DATE_EPOCH);
  const temporary = temporaryFor(output);
  try {
    removeStale(output);
    if (source.kind === 'folder') await packFolder(options, temporary, epoch);
    else if (source.kind === 'tar')
      await packLayers(options, temporary, { epoch, created: 0, layers: [{ section: source.tar }] });
    else await packLayers(options, temporary, { epoch, ...source.image });
    const size = finish(temporary, trailer, output);
    return { path: output, size };
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error instanceof YavmError || options.signal.aborted ? error : writeError(output, error);
  }
}

/** Seconds since the epoch; null: not set. @throws {YavmError} YAVM_E_USAGE */
function parseEpoch(text: string | undefined): number | null {
  if (text === undefined || text === '') return null;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value <= MAX_TIME) return value;
  throw new YavmError('YAVM_E_USAGE', `SOURCE_DATE_EPOCH: '${text}' is no number of seconds`);
}

/** Times that squashfs can keep. */
const MAX_TIME = 2 ** 32 - 1;

async function packFolder(options: BuildOptions, output: string, epoch: number | null): Promise<void> {
  const { source, compressor, level, signal, onStep, env } = options;
  const mine = process.getuid?.() ?? 0;
  const root = statSync(source.path);
  await runMksquashfs({
    source: { folder: resolve(source.path) },
    ...{ output, compressor, level, signal, env },
    // An ordinary user's files are all his own, and his number says nothing in a VM; root's may be of anybody.
    owner: options.owner ?? (mine === 0 ? 'keep' : { uid: 0, gid: 0 }),
    time: epoch ?? Math.min(Math.max(Math.floor(root.mtimeMs / 1000), 0), MAX_TIME),
    clampTimes: epoch !== null,
    onProgress: onStep && ((done, total) => onStep({ step: 'pack', done, total })),
  });
}

/** Bytes of all files, holes included: those take mksquashfs a third of a second a gigabyte, and an attacker nothing. */
const MAX_APPARENT = 256 * 1024 ** 3;

interface Layered {
  epoch: number | null;
  created: number;
  layers: readonly LayerSource[];
}

async function packLayers(options: BuildOptions, output: string, layered: Layered): Promise<void> {
  const { source, signal, onStep, onDropped } = options;
  const flattened = await flatten({
    ...layered,
    image: source.kind === 'container',
    folder: options.temp ?? dirname(resolve(options.output)),
    ...{ signal, onDropped },
    onRead: onStep && ((done, total) => onStep({ step: 'read', done, total })),
  });
  try {
    await packTree(options, output, flattened.tree, layered);
    await flattened.checked();
  } catch (error) {
    throw await flattened.explain(error, signal);
  } finally {
    await flattened.close();
  }
}

async function packTree(
  options: BuildOptions,
  output: string,
  tree: FileTree,
  { created, epoch }: Layered,
): Promise<void> {
  const { compressor, level, signal, onStep, env, owner = 'keep' } = options;
  const now = Math.floor(Date.now() / 1000);
  const survey = surveyOf(tree, now);
  if (survey.apparent > MAX_APPARENT)
    throw new ImageArchiveError(
      `${options.source.path}: its files have ${formatSize(survey.apparent)}, more than ${formatSize(MAX_APPARENT)}`,
    );
  const plan = planOwners(survey.owners, runner(), tree.root.inode);
  let done = 0;
  const onContent = (count: number) => {
    done += count;
    onStep?.({ step: 'pack', done, total: survey.content });
  };
  await runMksquashfs({
    source: { tar: tarOf(tree, { owner: owner === 'keep' ? plan.inTar : undefined, onContent }) },
    ...{ output, compressor, level, signal, env, owner },
    rootMode: tree.root.inode.mode,
    // Of a tar mksquashfs gives the root the time of now; cut to that of the youngest file it is always the same.
    time: epoch ?? Math.max(survey.newest, created <= now ? created : 0),
    clampTimes: true,
  });
  if (owner === 'keep') settleOwners(output, plan.table);
}

function runner(): { uid: number; gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}

function settleOwners(path: string, table: ReadonlyMap<number, number>): void {
  const fd = openSync(path, 'r+');
  try {
    changeOwners(fd, path, table);
  } finally {
    closeSync(fd);
  }
}

/** Appends the configuration, and gives the file its name. @returns its size */
function finish(temporary: string, trailer: Buffer, output: string): number {
  // Not made when it is missing.
  const fd = openSync(temporary, 'r+');
  try {
    const { size } = fstatSync(fd);
    for (let done = 0; done < trailer.length; )
      done += writeSync(fd, trailer, done, trailer.length - done, size + done);
    chmodSync(temporary, 0o666 & ~process.umask());
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const { size } = statSync(temporary);
  renameSync(temporary, output);
  syncFolder(dirname(output));
  return size;
}

/** The name is on the disk then, too. */
function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } catch (error) {
    // Some network file systems do not sync folders.
    if (!hasErrno(error, 'EINVAL')) throw error;
  } finally {
    closeSync(fd);
  }
}
