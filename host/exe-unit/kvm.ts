/** Whether KVM works here, asked with what the exe-unit knows. Heavy: it can boot a probe. */
import { loadNative } from '../../native/load.ts';
import type { Logger } from '../lib/logger.ts';
import { cacheFolder } from '../lib/paths.ts';
import { kvmVerdict, StartCache } from '../runtime/index.ts';
import type { BootAssets } from '../runtime/types.ts';

export interface KvmQuestion {
  assets: BootAssets;
  env: Readonly<Record<string, string | undefined>>;
  logger: Logger;
  signal: AbortSignal;
}

/** Why KVM cannot be used; null when it can. @throws {YavmError} YAVM_E_QEMU_MISSING; the signal's reason */
export async function kvmObstacle({ assets, env, logger, signal }: KvmQuestion): Promise<string | null> {
  const folder = cacheFolder(env);
  const verdict = await kvmVerdict({
    assets,
    native: loadNative(),
    cache: new StartCache(folder),
    cacheFolder: folder,
    logger,
    signal,
  });
  return verdict.usable ? null : verdict.reason;
}
