/**
 * Unpacked Debian packages, kept in a folder: `<cache>/<name>_<version>_<hash>/`, and `<cache>/requests/<spec>.json`,
 * which remembers what a name stood for, so that a build goes on working without apt's lists or a network.
 */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../host/lib/errors.ts';
import { PackageError } from '../errors.ts';
import { type RunTool, runTool } from '../tool.ts';
import { type AptPackage, aptState, describePackage, downloadPackage, hashFile } from './apt.ts';

export interface UnpackedPackage {
  /** Root of the unpacked files. */
  folder: string;
  name: string;
  version: string;
  architecture: string;
  /** Of the .deb. */
  sha256: string;
}

export interface PackageCache {
  folder: string;
  /** Told what happens, one line each. */
  onProgress?: (line: string) => void;
  run?: RunTool;
  /** Stands in for {@link aptState} in tests. */
  state?: () => Promise<string>;
}

/** What a name stood for when apt was last asked. */
interface Remembered {
  /** Folder in the cache. */
  entry: string;
  /** apt's hash of the package. */
  hash: string;
  /** {@link aptState} at that time. */
  state: string;
}

/** Beside the unpacked files: what the package was. */
const RECORD = '.ya-vm-package.json';

/**
 * A package by name, downloaded with apt when the cache has not this version.
 * @param resolve Turns the name into the one to download (a metapackage into what it stands for).
 * @throws {PackageError} apt knows it not (and the cache neither), or its download is damaged.
 */
export async function fetchPackage(
  cache: PackageCache,
  spec: string,
  resolve: (spec: string, run: RunTool) => Promise<string> = async (same) => same,
): Promise<UnpackedPackage> {
  const { run = runTool, onProgress } = cache;
  await mkdir(join(cache.folder, 'requests'), { recursive: true });
  const file = join(cache.folder, 'requests', `${encodeURIComponent(spec)}.json`);
  const state = await (cache.state ?? aptState)();
  const known = await recall(cache, file);
  if (known && known.request.state === state) return known.unpacked;
  let described: AptPackage;
  try {
    described = await describePackage(await resolve(spec, run), cache.folder, run);
  } catch (error) {
    if (!known) throw error;
    const { name, version } = known.unpacked;
    onProgress?.(`${spec}: apt cannot tell its version now; using ${name} ${version} from the cache`);
    return known.unpacked;
  }
  let unpacked = known?.unpacked;
  if (unpacked === undefined || known?.request.hash !== described.hash.hex) {
    onProgress?.(`downloading ${described.spec} (${(described.size / 1e6).toFixed(1)} MB)`);
    unpacked = await withTemporary(cache.folder, async (folder) =>
      unpackDeb(cache, await downloadPackage(described, folder, run)),
    );
  }
  const request: Remembered = { entry: entryName(unpacked), hash: described.hash.hex, state };
  await writeFile(file, `${JSON.stringify(request)}\n`);
  return unpacked;
}

/**
 * Unpacks a .deb into the cache, unless it is there.
 * @throws {PackageError} not a Debian package, or it cannot be unpacked.
 */
export async function unpackDeb(cache: PackageCache, file: string): Promise<UnpackedPackage> {
  const { run = runTool, onProgress } = cache;
  await mkdir(cache.folder, { recursive: true });
  try {
    const described = await describeDeb(file, run);
    const entry = join(cache.folder, entryName(described));
    const known = await readEntry(entry);
    if (known) return known;
    onProgress?.(`unpacking ${described.name} ${described.version}`);
    await withTemporary(cache.folder, async (temporary) => {
      const root = join(temporary, 'root');
      await run('dpkg-deb', ['-x', file, root]);
      await writeFile(join(root, RECORD), `${JSON.stringify(described)}\n`);
      // Another build may have been faster: then its folder stays, and ours goes.
      await rename(root, entry).catch((error) => {
        if (!hasErrno(error, 'ENOTEMPTY') && !hasErrno(error, 'EEXIST')) throw error;
      });
    });
    return { ...described, folder: entry };
  } catch (cause) {
    if (cause instanceof PackageError) throw cause;
    throw new PackageError(`${file}: cannot be unpacked`, { cause });
  }
}

async function describeDeb(file: string, run: RunTool): Promise<Omit<UnpackedPackage, 'folder'>> {
  const fields = (await run('dpkg-deb', ['-f', file, 'Package', 'Version', 'Architecture'])).toString('utf8');
  const field = (name: string) => {
    const value = new RegExp(`^${name}: *(\\S+)$`, 'm').exec(fields)?.[1];
    if (value === undefined) throw new PackageError(`${file}: its control file has no ${name}`);
    return value;
  };
  return {
    name: field('Package'),
    version: field('Version'),
    architecture: field('Architecture'),
    sha256: await hashFile(file, 'sha256'),
  };
}

function entryName({ name, version, sha256 }: Pick<UnpackedPackage, 'name' | 'version' | 'sha256'>): string {
  return `${name}_${encodeURIComponent(version)}_${sha256.slice(0, 16)}`;
}

async function readEntry(entry: string): Promise<UnpackedPackage | null> {
  try {
    const record = JSON.parse(await readFile(join(entry, RECORD), 'utf8')) as UnpackedPackage;
    return { ...record, folder: entry };
  } catch {
    // Not there, or an unreadable record: unpacked anew.
    return null;
  }
}

/** What a request stood for last time, when its folder is still there. */
async function recall(
  cache: PackageCache,
  file: string,
): Promise<{ request: Remembered; unpacked: UnpackedPackage } | null> {
  try {
    const request = JSON.parse(await readFile(file, 'utf8')) as Remembered;
    const unpacked = await readEntry(join(cache.folder, request.entry));
    return unpacked && { request, unpacked };
  } catch {
    return null;
  }
}

async function withTemporary<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(parent, '.tmp-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
