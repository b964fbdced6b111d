/** `ya-vm initramfs`: the builder's own commands, with this program's folders, and kernel sets. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { registerInitramfs } from '../../initramfs/cli.ts';
import { assetsFolder, cacheFolder, unpackedAssets } from '../lib/paths.ts';
import type { Act } from './commands.ts';
import type { Context } from './context.ts';
import { registerSets } from './kernel-sets.ts';
import { ownVersion } from './version.ts';

export async function define(command: Command, act: Act): Promise<void> {
  registerInitramfs(command, act, {
    folder: assetsFolder(),
    replaceable: unpackedAssets() === null,
    cache: join(cacheFolder(), 'kernels'),
    version: await ownVersion(),
    hookCompiler,
    // Only for who asks: it is the whole runtime.
    boot: async (context, path, accel) =>
      (await import('./boot-once.ts')).bootOnce(context as Context, path, accel),
  });
  registerSets(command, act);
}

/** Of the folder that the agent is taken from; where a folder of $YAVM_ASSETS has none, this program's own. */
function hookCompiler(): string {
  const given = join(assetsFolder(), 'bytecode');
  return existsSync(given)
    ? given
    : join(assetsFolder({ ...process.env, YAVM_ASSETS: undefined }), 'bytecode');
}
