/** Looks into a layer, and holds it against its own manifest. */
import { createHash } from 'node:crypto';
import { runTool } from '../../initramfs/tool.ts';
import { findProgram } from '../lib/programs.ts';
import { DriverLayerError } from './errors.ts';
import { type LayerManifest, MAX_MANIFEST, parseManifest } from './manifest.ts';

/** Bound on one file, bytes: libnvidia-gpucomp and nvidia.ko have up to 110 MB. */
const MAX_FILE = 512 * 1024 * 1024;

/** @throws {DriverLayerError} no squashfs with a manifest */
export async function inspectLayer(file: string): Promise<LayerManifest> {
  const text = await content(file, 'manifest.json', MAX_MANIFEST);
  return parseManifest(text.toString('utf8'), file);
}

/** Reads each file and compares its hash. @throws {DriverLayerError} naming the first that differs */
export async function verifyLayer(file: string, manifest: LayerManifest): Promise<void> {
  for (const each of manifest.files) {
    if ('link' in each) continue;
    const bytes = await content(file, each.path, MAX_FILE);
    const hash = createHash('sha256').update(bytes).digest('hex');
    if (hash !== each.sha256 || bytes.length !== each.size)
      throw new DriverLayerError(`${file}: ${each.path} is not what the manifest says`);
  }
}

async function content(file: string, path: string, maxOutput: number): Promise<Buffer> {
  const program = findProgram('unsquashfs');
  try {
    // A path of ours or of a checked manifest, compared as it is: -no-wildcards.
    return await runTool(program, ['-cat', '-no-wildcards', file, path], { maxOutput });
  } catch (cause) {
    throw new DriverLayerError(`${file}: ${path} cannot be read, so it is no whole driver layer`, { cause });
  }
}
