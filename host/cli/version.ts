/** `ya-vm version`: the versions of all parts, of those that are there. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { PROTOCOL_VERSION } from '../../guest/protocol/messages.ts';
import { packedIndex, packedText } from '../lib/packed.ts';
import { assetsFolder } from '../lib/paths.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { qemuVersion } from './qemu-version.ts';
import { alignColumns } from './style.ts';

export interface Versions {
  'ya-vm': string;
  node: string;
  /** Null when it is not installed. */
  qemu: string | null;
  /** Of the protocol between host and guest. */
  protocol: number;
  /** Release of the kernel that VMs boot; null when it is not built. */
  kernel: string | null;
}

export function define(command: Command, act: Act): void {
  command
    .option('--kernel-set <name>', 'the kernel of this set (default: YA_VM_KERNEL_SET, else cloud)')
    .option('--json', 'print an object');
  act(command, async (context, options) => {
    const versions = await collectVersions(context.env, options.kernelSet as string | undefined);
    if (options.json) await printJson(context, versions);
    else {
      const rows = Object.entries(versions).map(([name, version]) => [name, String(version ?? 'not found')]);
      await print(context, ...alignColumns(rows));
    }
    return EXIT.ok;
  });
}

export async function collectVersions(
  env: Context['env'] = process.env,
  kernelSet = env.YA_VM_KERNEL_SET || undefined,
): Promise<Versions> {
  return {
    'ya-vm': await ownVersion(),
    node: process.versions.node,
    qemu: await qemuVersion(env),
    protocol: PROTOCOL_VERSION,
    kernel: kernelSet === undefined ? kernelRelease(env) : await setRelease(env, kernelSet),
  };
}

/** The single program knows it; else from package.json: at the top of the checkout, or beside the bundle. */
export async function ownVersion(): Promise<string> {
  const packed = packedIndex();
  if (packed !== null) return packed.version;
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [join(here, '..', '..'), here]) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      if (name === 'ya-vm' && typeof version === 'string') return version;
    } catch {
      // Not here: look in the next place.
    }
  }
  return 'unknown';
}

/** The single program need not unpack its files for this. */
function kernelRelease(env: Context['env']): string | null {
  try {
    const packed = env.YAVM_ASSETS ? null : packedText('manifest.json');
    const { kernel } = JSON.parse(packed ?? readFileSync(join(assetsFolder(env), 'manifest.json'), 'utf8'));
    return typeof kernel?.release === 'string' ? kernel.release : null;
  } catch {
    return null;
  }
}

/** Null for a set that is not built, or damaged: `doctor` tells which. @throws {YavmError} YAVM_E_KERNEL_SET: no such set */
async function setRelease(env: Context['env'], name: string): Promise<string | null> {
  // Not at each start: few have a set.
  const { bootFiles, findKernelSet, isOwn } = await import('../lib/kernel-set.ts');
  if (isOwn(findKernelSet(name))) return kernelRelease(env);
  try {
    const { kernel } = JSON.parse(readFileSync(bootFiles(env, name).manifest, 'utf8'));
    return typeof kernel?.release === 'string' ? kernel.release : null;
  } catch {
    return null;
  }
}
