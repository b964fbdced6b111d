/** Debian packages through apt, without installing anything and without root. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PackageError } from '../errors.ts';
import { type RunTool, runTool } from '../tool.ts';

/** What apt knows of the version of a package that it would download. */
export interface AptPackage {
  /** `name` or `name=version`: what apt-get takes. */
  spec: string;
  size: number;
  /** As apt's signed index has it. */
  hash: { algorithm: 'sha256' | 'sha512'; hex: string };
}

/** Names and versions that apt takes; nothing that could be read as an option. */
const SPEC = /^[a-z0-9][a-z0-9+.-]*(=[A-Za-z0-9.+~:-]+)?$/;
/** Milliseconds for a download. */
const DOWNLOAD_TIMEOUT = 15 * 60_000;
/** Root's downloads would otherwise go through the user _apt, who cannot write to our folder. */
const AS_ROOT = ['-o', 'APT::Sandbox::User=root'];
const UPDATE_HINT = 'apt-get update (as root), then again. Without apt: --kernel FILE --modules DIR.';

/** What apt's answers depend on: they stay the same as long as none of these folders changes. */
const APT_STATE = ['/var/lib/apt/lists', '/etc/apt', '/etc/apt/sources.list.d', '/etc/apt/preferences.d'];

/** A text that changes when apt may answer differently. Asking apt itself costs 0.6 s a question where it has no pkgcache. */
export async function aptState(folders: readonly string[] = APT_STATE): Promise<string> {
  const times = folders.map((folder) =>
    stat(folder).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    ),
  );
  return (await Promise.all(times)).join(' ');
}

/** Whether the text is a package name, optionally with `=version`. */
export function isPackageSpec(text: string): boolean {
  return SPEC.test(text);
}

/**
 * The concrete kernel package behind a name: `linux-image-cloud-amd64` depends on `linux-image-6.1.0-NN-cloud-amd64`;
 * a concrete name stands for itself. The version that the dependency asks for is kept (`name=version`).
 * @throws {PackageError} apt does not know it, or it depends on no kernel image.
 */
export async function resolveKernelPackage(spec: string, run: RunTool = runTool): Promise<string> {
  requireSpec(spec);
  if (/^linux-image-\d/.test(spec)) return spec;
  const shown = await run('apt-cache', ['show', '--no-all-versions', '--', spec]).catch((cause) => {
    throw new PackageError(`${spec}: apt knows no such package`, { cause, hint: UPDATE_HINT });
  });
  const concrete = kernelDependency(shown.toString('utf8'));
  if (concrete) return concrete;
  throw new PackageError(`${spec}: depends on no linux-image package, so it brings no kernel`);
}

/** The `linux-image-<number>…` of a package's Depends line, as `name=version` when the version is fixed; else null. */
export function kernelDependency(control: string): string | null {
  const depends = /^(?:Pre-)?Depends:(.*(?:\n[ \t].*)*)/gm;
  for (const [, value] of control.matchAll(depends)) {
    const match = /\b(linux-image-\d[a-z0-9+.-]*)(?:\s*\(=\s*([^)\s]+)\s*\))?/.exec(value as string);
    if (match) return match[2] ? `${match[1]}=${match[2]}` : (match[1] as string);
  }
  return null;
}

/**
 * Asks apt what it would download.
 * @throws {PackageError} unknown package, or one without a strong hash.
 */
export async function describePackage(
  spec: string,
  folder: string,
  run: RunTool = runTool,
): Promise<AptPackage> {
  requireSpec(spec);
  const printed = await run('apt-get', [...AS_ROOT, '--print-uris', 'download', spec], { cwd: folder }).catch(
    (cause) => {
      throw new PackageError(`${spec}: apt cannot say where it is`, { cause, hint: UPDATE_HINT });
    },
  );
  const found = parsePrintedUri(printed.toString('utf8'));
  if (found) return { spec, ...found };
  throw new PackageError(
    `${spec}: apt has no SHA-256 or SHA-512 for it, so a download could not be checked`,
    {
      hint: UPDATE_HINT,
    },
  );
}

/** Parses `'uri' file size SHA256:hex`; null when there is no such line. */
export function parsePrintedUri(text: string): Pick<AptPackage, 'size' | 'hash'> | null {
  const match = /^'[^']*' \S+ (\d+) SHA(256|512):([0-9a-f]{64,128})$/m.exec(text);
  if (!match) return null;
  const algorithm = match[2] === '256' ? 'sha256' : 'sha512';
  return { size: Number(match[1]), hash: { algorithm, hex: match[3] as string } };
}

/**
 * Downloads a package into an empty folder and checks it against apt's hash.
 * @returns the path of the .deb.
 * @throws {PackageError} the download fails, or its bytes are not what apt's index says.
 */
export async function downloadPackage(
  described: AptPackage,
  folder: string,
  run: RunTool = runTool,
): Promise<string> {
  const { spec, hash } = described;
  await run('apt-get', [...AS_ROOT, '-q', 'download', spec], {
    cwd: folder,
    timeout: DOWNLOAD_TIMEOUT,
  }).catch((cause) => {
    throw new PackageError(`${spec}: cannot be downloaded`, { cause, hint: UPDATE_HINT });
  });
  const file = (await readdir(folder)).find((name) => name.endsWith('.deb'));
  if (file === undefined) throw new PackageError(`${spec}: apt-get download left no .deb`);
  const path = join(folder, file);
  const actual = await hashFile(path, hash.algorithm);
  if (actual !== hash.hex)
    throw new PackageError(`${spec}: ${hash.algorithm} is ${actual}, but apt's index says ${hash.hex}`);
  return path;
}

/** Hash of a file's bytes, as hexadecimal. */
export async function hashFile(path: string, algorithm: string): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function requireSpec(spec: string): void {
  if (!isPackageSpec(spec)) throw new PackageError(`${JSON.stringify(spec)}: not a package name`);
}
