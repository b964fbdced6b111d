/** The image files of a VM: looked at before anything is started with them. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseManifest } from '../../initramfs/manifest.ts';
import { type ImageInfo, verifyImage } from '../image/verify.ts';
import { YavmError } from '../lib/errors.ts';
import type { BootAssets } from '../runtime/types.ts';
import type { ImageDefaults } from './plan.ts';

export interface OpenedImages {
  /** Absolute paths, topmost first. */
  layers: string[];
  /** Of the topmost image, which owns the configuration; empty for a plain squashfs. */
  defaults: ImageDefaults;
  /** Paths of its volumes. */
  volumes: string[];
}

/** @throws {YavmError} YAVM_E_ASSETS when the kernel is not there; YAVM_E_IMAGE_… with what is wrong with an image. */
export async function openImages(paths: readonly string[], assets: BootAssets): Promise<OpenedImages> {
  const compressors = (await readManifest(assets.manifest)).kernel.squashfs ?? undefined;
  const infos: ImageInfo[] = [];
  for (const path of paths) infos.push(await verifyImage(path, { compressors }));
  const config = infos[0]?.config;
  return {
    layers: paths.map((path) => resolve(path)),
    defaults: config ?? { env: [], entrypoint: [], cmd: [] },
    volumes: config?.volumes ?? [],
  };
}

/** Of kernel and initramfs. @throws {YavmError} YAVM_E_ASSETS */
export async function readManifest(path: string): Promise<ReturnType<typeof parseManifest>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new YavmError('YAVM_E_ASSETS', `${path}: the manifest of kernel and initramfs cannot be read`, {
      cause,
      hint: "Build them: make build, or ya-vm initramfs build. 'ya-vm doctor' tells what else is missing.",
    });
  }
  return parseManifest(text);
}
