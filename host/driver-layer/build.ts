/** Builds a driver layer: a squashfs of what a driver's folders and packages have, without root. */
import { createHash, type KeyObject } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { runTool } from '../../initramfs/tool.ts';
import { runMksquashfs } from '../image/build/mksquashfs.ts';
import { temporaryFor } from '../image/build/place.ts';
import { layerStatement, signaturePath, signBytes } from '../lib/signature.ts';
import { collect } from './collect.ts';
import { DriverLayerError } from './errors.ts';
import { type AptRequest, fetchFromApt } from './from-apt.ts';
import type { LayerFile, LayerManifest } from './manifest.ts';
import { type LayerPlan, planLayer } from './plan.ts';

export interface LayerBuild {
  /** Folders and .deb files. */
  sources: readonly string[];
  /** What apt has comes beside them. */
  apt?: AptRequest;
  output: string;
  /** `uname -r` that the modules must be for; default: what they say. */
  kernelRelease?: string;
  /** SOURCE_DATE_EPOCH; default 0. No file is younger. */
  time?: number;
  /** Signs it: `output`.sig. */
  sign?: KeyObject;
  signal: AbortSignal;
}

/**
 * Same sources, same bytes. `output` is replaced when the layer is whole.
 * @throws {DriverLayerError} something is missing, or does not fit together; {YavmError} of mksquashfs, dpkg-deb and the disk
 */
export async function buildLayer(build: LayerBuild): Promise<LayerManifest> {
  const { sources, output, signal } = build;
  const work = await mkdtemp(join(tmpdir(), 'yavm-driver-layer-'));
  const temporary = temporaryFor(output);
  try {
    const folders = await Promise.all(
      sources.map((source, index) => openSource(source, join(work, String(index)))),
    );
    if (build.apt) {
      const packages = join(work, 'packages');
      await mkdir(packages);
      folders.push(...(await fetchFromApt(build.apt, { work: packages, signal })));
    }
    const plan = planLayer(await collect(folders), build.kernelRelease);
    signal.throwIfAborted();
    const tree = join(work, 'layer');
    const manifest = await stage(tree, plan);
    await runMksquashfs({
      source: { folder: tree },
      output: temporary,
      compressor: 'zstd',
      owner: { uid: 0, gid: 0 },
      rootMode: 0o755,
      time: build.time ?? 0,
      clampTimes: true,
      signal,
    });
    const signature = build.sign && signBytes(await layerStatement(temporary), build.sign);
    await putInPlace(temporary, output, signature).catch((cause) => {
      throw new DriverLayerError(`${output}: cannot be written`, { cause });
    });
    return manifest;
  } finally {
    await rm(temporary, { force: true });
    await rm(work, { recursive: true, force: true });
  }
}

/** Between two signed layers there is none that is signed: a signature of before is none of this. */
async function putInPlace(temporary: string, output: string, signature?: Uint8Array): Promise<void> {
  const path = signaturePath(output);
  await rm(path, { force: true });
  await rename(temporary, output);
  if (signature !== undefined) await writeFile(path, signature);
}

/** A folder as it is; a package unpacked. */
async function openSource(source: string, folder: string): Promise<string> {
  const found = await stat(source).catch((cause) => {
    throw new DriverLayerError(`${source}: cannot be read`, { cause });
  });
  if (found.isDirectory()) return source;
  if (source.endsWith('.deb')) {
    await runTool('dpkg-deb', ['-x', source, folder]);
    return folder;
  }
  throw new DriverLayerError(`${source}: neither a folder nor a .deb`, {
    hint: 'A .run is unpacked by itself: sh NVIDIA-Linux-….run --extract-only',
  });
}

/** Puts the plan into a folder. Modes are set, not left to the umask: they are part of the layer. */
async function stage(tree: string, plan: LayerPlan): Promise<LayerManifest> {
  const { texts, copies, links, driverVersion, kernelRelease, vermagic } = plan;
  const files: LayerFile[] = [];
  const place = async (path: string) => {
    const target = join(tree, path);
    await mkdir(dirname(target), { recursive: true });
    return target;
  };
  for (const [path, bytes] of texts) {
    const target = await place(path);
    await writeFile(target, bytes);
    await chmod(target, 0o644);
    files.push({ path, ...(await digest(target)) });
  }
  for (const { path, target, executable } of copies) {
    const copy = await place(target);
    await copyFile(path, copy);
    await chmod(copy, executable ? 0o755 : 0o644);
    files.push({ path: target, ...(await digest(copy)) });
  }
  for (const [path, link] of links) {
    await symlink(link, await place(path));
    files.push({ path, link });
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const manifest: LayerManifest = { format: 1, driverVersion, kernelRelease, vermagic, files };
  const path = join(tree, 'manifest.json');
  await writeFile(path, `${JSON.stringify(manifest, null, 2)}\n`);
  await chmod(path, 0o644);
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true }))
    if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o755);
  return manifest;
}

async function digest(path: string): Promise<{ size: number; sha256: string }> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return { size: (await stat(path)).size, sha256: hash.digest('hex') };
}
