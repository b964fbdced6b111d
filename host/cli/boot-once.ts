/** One boot of an initramfs, for what it takes: `ya-vm initramfs diff --boot`. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import { testImage } from './boot-test-image.ts';
import type { Context } from './context.ts';
import { Interrupts } from './interrupts.ts';
import { parseChoice } from './options.ts';
import { ACCELERATORS, readAssets } from './vm-options.ts';

/** Milliseconds. */
const TIMEOUT = 120_000;

/** What depends on what is booted: not the disk, nor a look at the accelerator. */
const OF_THE_BOOT: readonly string[] = ['kernel', 'agent', 'file systems'];

/** @returns milliseconds from the start to the first command. @throws {YavmError} YAVM_E_INITRAMFS_BOOT */
export async function bootOnce(context: Context, path: string, accel: string): Promise<number> {
  const folder = (await stat(path).catch(() => null))?.isDirectory();
  const interrupts = new Interrupts();
  try {
    const result = await testImage(
      context,
      folder ? join(path, 'initramfs.cpio.zst') : path,
      {
        assets: readAssets(undefined, undefined, context.env),
        accel: parseChoice(accel, ACCELERATORS, 'accelerator'),
        ...{ expect: [], console: false, kernelWords: [], env: [], command: ['true'] },
        ...{ memoryMiB: 512, cpus: 1, timeout: TIMEOUT },
      },
      { signal: interrupts.signal },
    );
    if (result.outcome !== 'passed')
      throw new YavmError('YAVM_E_INITRAMFS_BOOT', `${path}: does not boot: ${result.failures.join('; ')}`, {
        hint: `ya-vm boot-test ${path}`,
      });
    const boot = result.phases.filter(({ name }) => OF_THE_BOOT.includes(name));
    return boot.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  } finally {
    interrupts.close();
  }
}
