/** Whether KVM runs a guest here: as host/runtime finds out before a VM starts, and with the same cache. */
import { join } from 'node:path';
import { loadNative } from '../../../native/load.ts';
import { isYavmError, toError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { cacheFolder } from '../../lib/paths.ts';
import { findProgram } from '../../lib/programs.ts';
import { kvmObstacle, kvmVerdict } from '../../runtime/accelerator.ts';
import { type KvmVerdict, kvmKey, StartCache } from '../../runtime/start-cache.ts';
import type { BootAssets } from '../../runtime/types.ts';

export interface KvmProbe {
  /** Folder with kernel and initramfs. */
  assets: string;
  /** Boot a guest when no verdict is cached. */
  boot: boolean;
  log: Logger;
  env: Readonly<Record<string, string | undefined>>;
}

/** Never throws: what keeps a probe from running is a reason as well. */
export async function probeKvm({ assets: folder, boot, log, env }: KvmProbe): Promise<KvmVerdict> {
  const obstacle = kvmObstacle();
  if (obstacle !== null) return { usable: false, reason: obstacle };
  const assets: BootAssets = {
    kernel: join(folder, 'vmlinux'),
    initramfs: join(folder, 'initramfs.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  };
  const caches = cacheFolder(env);
  const cache = new StartCache(caches);
  try {
    const known = cache.kvm(kvmKey(findProgram('qemu-system-x86_64', env), assets));
    if (known) return known;
    if (!boot) return { usable: false, reason: 'not tried yet: no VM was started, and --no-boot was given' };
    const native = loadNative();
    return await kvmVerdict({ assets, native, cache, cacheFolder: caches, logger: log });
  } catch (error) {
    if (isYavmError(error)) return { usable: false, reason: error.message };
    return { usable: false, reason: toError(error).message };
  }
}
