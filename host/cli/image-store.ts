/**
 * Images built for `run` and `shell` from what is not an image yet, kept in the user's cache: a source that has not
 * changed is built once.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readSync, type Stats, statSync, utimesSync } from 'node:fs';
import { readdir, realpath, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { loadNative } from '../../native/load.ts';
import { buildImage } from '../image/build/build.ts';
import { QUICK_PACKER } from '../image/build/packers.ts';
import { parseReference, type Reference } from '../image/source/reference.ts';
import { openSource, type Source } from '../image/source/source.ts';
import { verifyImage } from '../image/verify.ts';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { cacheFolder } from '../lib/paths.ts';
import { lockImage } from '../transfer/lock.ts';
import type { Context } from './context.ts';
import { folderStamp } from './folder-stamp.ts';
import { progressFor, showStep } from './image-build.ts';

export interface StoreOptions {
  signal: AbortSignal;
  /** Whether it is shown how far a build is. */
  progress: boolean;
  /** Bytes of all images together, beyond which those not used for the longest time go. */
  limit?: number;
}

export interface ResolvedImages {
  /** Image files, in the order of the references. */
  paths: string[];
  /** Milliseconds that building took; null: nothing was built. */
  built: number | null;
}

const LIMIT = 20 * 1024 ** 3;
/** Used less than this ago, milliseconds, an image may be about to be opened. */
const IN_USE = 60 * 60 * 1000;
/** Changes with how images are built: those of before are then built again. */
const FORM = 1;

/**
 * References of `--image` as image files: those that are images already as they are, all others built.
 * @throws {YavmError} what opening and building a source throw; YAVM_E_IMAGE_CACHE; the signal's reason
 */
export async function resolveImages(
  context: Context,
  references: readonly string[],
  options: StoreOptions,
): Promise<ResolvedImages> {
  const paths: string[] = [];
  const began = performance.now();
  let built = false;
  for (const text of references) {
    options.signal.throwIfAborted();
    const image = await resolveImage(context, text, options);
    built ||= image.built;
    paths.push(image.path);
  }
  return { paths, built: built ? Math.round(performance.now() - began) : null };
}

async function resolveImage(
  context: Context,
  text: string,
  options: StoreOptions,
): Promise<{ path: string; built: boolean }> {
  const reference = parseReference(text, existsSync);
  const found = statSync(reference.path, { throwIfNoEntry: false });
  if (found?.isFile() && reference.kind === 'path' && isSquashfs(text)) return { path: text, built: false };
  // What is no folder and no file is told so by who opens it.
  const key = found ? await keyOf(reference, found, options.signal) : null;
  const folder = join(cacheFolder(context.env), 'images');
  const cached = key === null ? null : join(folder, `${key}.gvmi`);
  if (cached !== null && (await isWhole(cached))) return { path: cached, built: false };
  if (found) await makeFolder(folder);
  const source = await openSource(text, { signal: options.signal, temp: folder });
  try {
    if (source.kind === 'image' || cached === null) return { path: source.path, built: false };
    await buildInto(context, cached, source, options);
    await evict(folder, cached, options.limit ?? LIMIT);
    return { path: cached, built: true };
  } finally {
    source.close();
  }
}

/** The common case, without a look at anything else. What else is wrong with it says who opens it. */
function isSquashfs(path: string): boolean {
  try {
    const fd = openSync(path, 'r');
    try {
      const magic = Buffer.alloc(4);
      return readSync(fd, magic, 0, 4, 0) === 4 && magic.toString('latin1') === 'hsqs';
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** What the image hangs on. The bytes of a file are not read: one that is replaced or written to has other times. */
async function keyOf(reference: Reference, found: Stats, signal: AbortSignal): Promise<string> {
  const { kind, path, tag = null } = reference;
  const real = await realpath(path);
  const at = statSync(real, { bigint: true });
  const stamp = found.isDirectory()
    ? await folderStamp(real, signal)
    : [at.dev, at.ino, at.size, at.mtimeNs, at.ctimeNs].join(' ');
  const facts = [FORM, QUICK_PACKER, kind, real, tag, stamp, process.getuid?.() === 0];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 40);
}

/** Marks it as used, too. */
async function isWhole(path: string): Promise<boolean> {
  try {
    await verifyImage(path);
    const now = new Date();
    utimesSync(path, now, now);
    return true;
  } catch {
    return false;
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    makeFolders(folder, 0o700);
  } catch (cause) {
    throw new YavmError('YAVM_E_IMAGE_CACHE', `${folder}: the folder of built images cannot be made`, {
      cause,
    });
  }
}

/** Builds, unless somebody else does: then waits for that. */
async function buildInto(
  context: Context,
  path: string,
  source: Exclude<Source, { kind: 'image' }>,
  { signal, progress }: StoreOptions,
): Promise<void> {
  const folder = dirname(path);
  const temporary = async () => (await readdir(folder)).filter((name) => isPartOf(name, path));
  const lock = await lockImage(`${path}.lock`, {
    native: loadNative(),
    signal,
    // Who builds writes to a file of this kind.
    async watch() {
      const sizes = (await temporary()).map(
        async (name) => (await stat(join(folder, name)).catch(() => null))?.size,
      );
      return (await Promise.all(sizes)).reduce((sum: number, size) => sum + (size ?? 0), 0);
    },
  });
  const line = progressFor(context, progress && context.stderr.isTTY === true);
  try {
    if (await isWhole(path)) return;
    await buildImage({
      source,
      output: path,
      ...QUICK_PACKER,
      signal,
      onStep: progress ? (step) => showStep(line, step) : undefined,
      // A cached image is nobody's to compare.
      env: { ...context.env, SOURCE_DATE_EPOCH: undefined },
    });
  } finally {
    line.clear();
    await lock?.release();
  }
}

function isPartOf(name: string, path: string): boolean {
  return name.startsWith(`.${basename(path)}.`) && name.endsWith('.tmp');
}

/** Removes images until all fit: those not used for the longest time first; never one that may be about to be opened. */
async function evict(folder: string, kept: string, limit: number): Promise<void> {
  const images: { path: string; size: number; used: number }[] = [];
  for (const name of await readdir(folder)) {
    if (!/\.(gvmi|tmp)$/.test(name)) continue;
    const path = join(folder, name);
    const at = await stat(path).catch(() => null);
    if (at) images.push({ path, size: at.size, used: at.mtimeMs });
  }
  let sum = images.reduce((total, { size }) => total + size, 0);
  const now = Date.now();
  for (const { path, size, used } of images.sort((a, b) => a.used - b.used)) {
    if (sum <= limit) return;
    if (path === kept || now - used < IN_USE) continue;
    await rm(path, { force: true });
    sum -= size;
  }
}
