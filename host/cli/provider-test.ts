/** The self-test as `test` and `offer-template` run it, and its verdict's place. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';
import type { ProviderGpu } from '../gpu/options.ts';
import { assetsFolder, cacheFolder } from '../lib/paths.ts';
import { findProgram } from '../lib/programs.ts';
import { explainNoKvm } from '../provider/accelerator.ts';
import { readVerdict, type Verdict, type VerdictKind, writeVerdict } from '../provider/verdict.ts';
import { kvmKey } from '../runtime/start-cache.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Context } from './context.ts';
import { Interrupts } from './interrupts.ts';
import { makeProviderTemplate, type ProviderTemplateOptions, usesTemplates } from './provider-template.ts';
import { providerAssets } from './runtime-options.ts';
import { ownVersion } from './version.ts';

/** What an earlier self-test found out; null when something that it depends on has changed since. */
export async function knownVerdict(
  { env }: Pick<Context, 'env'>,
  accel: AccelChoice,
  gpu: ProviderGpu = {},
): Promise<Verdict | null> {
  return readVerdict(cacheFolder(env), await verdictKey(env, accel, gpu), kindOf(gpu));
}

/**
 * Starts the self-test's VM. The verdict is remembered. A signal ends the VM, and a template that is being made for it.
 * @throws {YavmError} YAVM_E_NO_KVM, YAVM_E_SELF_TEST, …; Interrupted
 */
export async function runSelfTest(
  { env, log }: Pick<Context, 'env' | 'log'>,
  accel: AccelChoice,
  say: (line: string) => void,
  gpu: ProviderGpu = {},
): Promise<Verdict> {
  const { selfTest, selfTestSpec } = await import('../provider/self-test.ts');
  const { openTestNetwork } = await import('../provider/test-network.ts');
  const { startVm } = await import('../runtime/start-vm.ts');
  const { openImages } = await import('./images.ts');
  const { DEMO_IMAGE } = await import('./vm-options.ts');
  const assets = providerAssets(env);
  const { layers, defaults } = await openImages([join(assetsFolder(env), DEMO_IMAGE)], assets);
  const key = await verdictKey(env, accel, gpu);
  const network = openTestNetwork(loadNative() as HostNative);
  const spec = selfTestSpec({ assets, layers, accel, ...gpu }, network);
  const { nics } = network;
  const interrupts = new Interrupts();
  const { signal } = interrupts;
  try {
    const verdict = await selfTest({
      boot: async (onPhase) => {
        const vm = await startVm(spec, { nics, onPhase, logger: log, env, signal });
        signal.addEventListener('abort', () => void vm.kill());
        return vm;
      },
      say,
      entrypoint: [...defaults.entrypoint, ...defaults.cmd],
      gpu: gpu.gpu !== undefined,
      templates: await usesTemplates(env, gpu),
    });
    writeVerdict(cacheFolder(env), key, verdict, kindOf(gpu));
    return verdict;
  } catch (error) {
    signal.throwIfAborted();
    throw explainNoKvm(error);
  } finally {
    interrupts.close();
    network.close();
  }
}

/** makeProviderTemplate, which a signal ends. @throws {Interrupted} */
export async function makeActivityTemplate(
  context: Pick<Context, 'env' | 'log'>,
  accel: AccelChoice,
  options: Omit<ProviderTemplateOptions, 'signal'>,
): Promise<void> {
  const interrupts = new Interrupts();
  try {
    await makeProviderTemplate(context, accel, { ...options, signal: interrupts.signal });
  } finally {
    interrupts.close();
  }
}

/** Counted up when the self-test tries something new: what an older one found out says nothing about that. */
const FORM = 2;

/** By this boot of the host, QEMU, kernel and initramfs, the KVM device, the user, ya-vm, what was asked for, cards and their driver. */
async function verdictKey(env: Context['env'], accel: AccelChoice, gpu: ProviderGpu): Promise<string> {
  const qemu = findProgram('qemu-system-x86_64', env);
  return kvmKey(
    qemu,
    providerAssets(env),
    `self-test ${FORM} ${await ownVersion()} ${accel}${cardsKey(gpu)}`,
  );
}

function cardsKey({ gpu, driverLayer }: ProviderGpu): string {
  if (gpu === undefined) return '';
  const changed = driverLayer === undefined ? 0 : statSync(driverLayer, { throwIfNoEntry: false })?.mtimeMs;
  return ` ${gpu.slots.join(',')} ${driverLayer ?? ''} ${changed ?? ''}`;
}

function kindOf({ gpu }: ProviderGpu): VerdictKind {
  return gpu === undefined ? 'plain' : 'gpu';
}
