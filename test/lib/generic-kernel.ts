/** Debian's generic kernel for VM tests, where what they need is not in the cloud kernel: 9p, DRM. */
import { readFileSync } from 'node:fs';
import { fetchKernel } from '../../build/kernel.ts';
import { toError } from '../../host/lib/errors.ts';
import { filesIn } from '../../host/lib/kernel-set.ts';
import type { BootAssets } from '../../host/runtime/index.ts';
import { buildInitramfs, type InitramfsOptions } from '../../initramfs/build.ts';
import type { Manifest } from '../../initramfs/manifest.ts';
import { builtFile } from './vm.ts';

const GENERIC = 'linux-image-amd64';

type Kernel = Awaited<ReturnType<typeof fetchKernel>>;

/** Its 70 MB are fetched once, into the build's cache. `skip`: why it is not to be had; false: it is. */
export async function fetchGenericKernel(): Promise<
  { kernel: Kernel; skip: false } | { kernel: null; skip: string }
> {
  const kernel = await fetchKernel(undefined, GENERIC).catch(toError);
  if (kernel instanceof Error) return { kernel: null, skip: `no ${GENERIC} here: ${kernel.message}` };
  return { kernel, skip: false };
}

/** Builds what a VM with this kernel boots, in a folder that QEMU's user may enter. */
export async function buildAssets(
  kernel: Kernel,
  folder: string,
  wishes: Partial<Pick<InitramfsOptions, 'preset' | 'extraModules' | 'files'>> = {},
): Promise<{ assets: BootAssets; made: Manifest }> {
  const assets = filesIn(folder);
  const made = await buildInitramfs({
    ...wishes,
    kernel,
    init: readFileSync(builtFile('init')),
    outputs: { vmlinux: assets.kernel, initramfs: assets.initramfs, manifest: assets.manifest },
    version: 'test',
    agent: 'test',
  });
  return { assets, made };
}
