/** What a VM runtime does to the world, apart from what it decides; imported piece by piece when it is needed. */
import { readFile } from 'node:fs/promises';
import { isYavmError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { StartOptions } from '../runtime/start-vm.ts';
import type { BootAssets, VmSpec } from '../runtime/types.ts';
import type { Vm } from '../runtime/vm.ts';
import type { Staging } from '../transfer/staging.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What touches the world. */
export interface Effects {
  startVm(spec: VmSpec, options: StartOptions): Promise<Vm>;
  leaseImage: typeof import('../transfer/image.ts')['leaseImage'];
  verifyImage: typeof import('../image/verify.ts')['verifyImage'];
  /** Why KVM does not work here; null when it does. */
  kvmObstacle(assets: BootAssets, signal: AbortSignal): Promise<string | null>;
  transfer: typeof import('./transfers.ts')['runTransfer'];
  staging(folder: string): Promise<Staging>;
  openNetwork: typeof import('./network.ts')['ActivityNetwork']['open'];
  serveAttach: typeof import('../attach/server.ts')['serveAttach'];
}

const MAX_MANIFEST = 1024 * 1024;

/** The squashfs compressions that the kernel can read, from the manifest of kernel and initramfs; undefined: not known. */
export async function readCompressors(manifest: string): Promise<string[] | undefined> {
  try {
    const text = await readFile(manifest, 'utf8');
    if (text.length > MAX_MANIFEST) return undefined;
    const { kernel } = JSON.parse(text) as { kernel?: { squashfs?: unknown } };
    const list = kernel?.squashfs;
    return Array.isArray(list) && list.every((each) => typeof each === 'string') ? list : undefined;
  } catch (cause) {
    throw new YavmError('YAVM_E_ASSETS', `${manifest}: the manifest of kernel and initramfs cannot be read`, {
      cause,
      hint: 'Build them: make build.',
    });
  }
}

/** The real ones. What each needs is imported when it is called. */
export function defaultEffects({ env, logger }: { env: Environment; logger: Logger }): Effects {
  return {
    async startVm(spec, options) {
      const { startVm } = await import('../runtime/start-vm.ts');
      try {
        return await startVm(spec, options);
      } catch (error) {
        if (!isYavmError(error, 'YAVM_E_KVM')) throw error;
        throw new YavmError('YAVM_E_NO_KVM', 'this provider cannot run VMs', { cause: error });
      }
    },
    async leaseImage(options) {
      return (await import('../transfer/image.ts')).leaseImage(options);
    },
    async verifyImage(path, options) {
      return (await import('../image/verify.ts')).verifyImage(path, options);
    },
    async kvmObstacle(assets, signal) {
      return (await import('./kvm.ts')).kvmObstacle({ assets, env, logger, signal });
    },
    async transfer(words, parts) {
      await (await import('./transfers.ts')).runTransfer(words, parts);
    },
    async staging(folder) {
      const { Staging } = await import('../transfer/staging.ts');
      return new Staging(folder);
    },
    async openNetwork(plan, parts) {
      return await (await import('./network.ts')).ActivityNetwork.open(plan, parts);
    },
    async serveAttach(host, path, log) {
      return (await import('../attach/server.ts')).serveAttach(host, path, log);
    },
  };
}
