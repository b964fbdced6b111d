/** `ya-vm version`: the versions of all parts, of those that are there. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { PROTOCOL_VERSION } from '../../guest/protocol/messages.ts';
import { packedIndex } from '../lib/packed.ts';
import { assetsFolder } from '../lib/paths.ts';
import { findProgram } from '../lib/programs.ts';
import type { Act } from './commands.ts';
import { print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
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
  command.option('--json', 'print an object');
  act(command, async (context, options) => {
    const versions = await collectVersions(assetsFolder(context.env));
    if (options.json) await printJson(context, versions);
    else {
      const rows = Object.entries(versions).map(([name, version]) => [name, String(version ?? 'not found')]);
      await print(context, ...alignColumns(rows));
    }
    return EXIT.ok;
  });
}

export async function collectVersions(assets: string): Promise<Versions> {
  return {
    'ya-vm': await ownVersion(),
    node: process.versions.node,
    qemu: await qemuVersion(),
    protocol: PROTOCOL_VERSION,
    kernel: await kernelRelease(join(assets, 'manifest.json')),
  };
}

/** The single program knows it; else from package.json: at the top of the checkout, or beside the bundle. */
export async function ownVersion(): Promise<string> {
  const packed = packedIndex();
  if (packed !== null) return packed.version;
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [join(here, '..', '..'), here]) {
    try {
      const { name, version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
      if (name === 'ya-vm' && typeof version === 'string') return version;
    } catch {
      // Not here: look in the next place.
    }
  }
  return 'unknown';
}

/** `7.2.11`, or null when QEMU is not there or does not answer within 5 s. */
async function qemuVersion(): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)(findProgram('qemu-system-x86_64'), ['--version'], {
      timeout: 5000,
    });
    return /version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? null;
  } catch {
    return null;
  }
}

async function kernelRelease(manifest: string): Promise<string | null> {
  try {
    const { kernel } = JSON.parse(await readFile(manifest, 'utf8'));
    return typeof kernel?.release === 'string' ? kernel.release : null;
  } catch {
    return null;
  }
}
