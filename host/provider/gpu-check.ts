/** What `provider check` finds out about `vm-nvidia` before any of its VMs is started: its cards, and their driver. */
import { readFileSync } from 'node:fs';
import { inspectLayer } from '../driver-layer/inspect.ts';
import type { LayerManifest } from '../driver-layer/manifest.ts';
import { type Card, findCards } from '../gpu/cards.ts';
import { checkCard, type Finding } from '../gpu/checks.ts';
import { type Facing, hostFacts } from '../gpu/host-facts.ts';
import { providerGpu } from '../gpu/options.ts';
import { cardsAt } from '../gpu/select.ts';
import { YavmError } from '../lib/errors.ts';
import { bootFiles } from '../lib/kernel-set.ts';
import { checkLayerSignature, trustedKey } from '../lib/signature.ts';
import type { Descriptor } from './descriptor.ts';
import { selfTestMemory } from './self-test.ts';

export interface GpuCheckHost {
  facing: Facing;
  /** The provider's. */
  env: Readonly<Record<string, string | undefined>>;
  /** Stand in for the driver layer's file and the kernel set in tests. */
  inspect?: (file: string) => Promise<LayerManifest>;
  kernelRelease?: () => string;
}

const RUNTIME_ARG = '--runtime-arg=';

/** The cards that VMs of this descriptor would get. @throws {YavmError} YAVM_E_PROVIDER_CHECK, YAVM_E_USAGE, YAVM_E_GPU_MISSING */
function cardsOf({ name, extraArgs }: Descriptor, { facing, env }: GpuCheckHost): Card[] {
  const runtimeArg = extraArgs.flatMap((word) =>
    word.startsWith(RUNTIME_ARG) ? [word.slice(RUNTIME_ARG.length)] : [],
  );
  const { gpu } = providerGpu({ runtimeArg }, env);
  if (gpu) return cardsAt(findCards(facing.roots), gpu.slots);
  throw checkError(`'${name}' names no card`, 'ya-vm provider install --gpu SLOT');
}

/** Each is there, bound and alone in its group; the host lets QEMU have it. @returns what to tell. @throws {YavmError} all findings in one */
export function checkCards(descriptor: Descriptor, host: GpuCheckHost): string {
  const cards = cardsOf(descriptor, host);
  const together = cards.flatMap(({ functions }) => functions.map(({ slot }) => slot));
  const findings = cards.flatMap((card) =>
    checkCard(card, hostFacts(card, host.facing), selfTestMemory(true), together),
  );
  if (findings.length === 0) return cards.map(({ slot, ids }) => `${slot} (${ids})`).join(', ');
  throw checkError(
    findings.map(sentence).join('; '),
    [...new Set(findings.map(({ fix }) => fix))].join(' — then: '),
  );
}

function sentence({ slot, problem, code }: Finding): string {
  return `${slot}: ${problem} (${code})`;
}

/** NVIDIA's cards have a layer, and it is for the kernel that VMs boot. @returns what to tell. @throws {YavmError} */
export async function checkLayer(descriptor: Descriptor, host: GpuCheckHost): Promise<string> {
  const { env, inspect = inspectLayer } = host;
  const nvidia = cardsOf(descriptor, host).filter(({ vendor }) => vendor === 'nvidia');
  const release = (host.kernelRelease ?? (() => releaseOfSet(env)))();
  if (nvidia.length === 0) return `not needed: no card of NVIDIA's; kernel ${release}`;
  const file = env.YA_VM_DRIVER_LAYER;
  if (!file) {
    throw checkError(
      'NVIDIA’s cards need a driver layer, and YA_VM_DRIVER_LAYER is not set',
      "ya-vm driver-layer build; then YA_VM_DRIVER_LAYER=FILE and YA_VM_KERNEL_SET=gpu in the provider's environment",
    );
  }
  if (env.YA_VM_KERNEL_KEY) await checkLayerSignature(file, trustedKey(env.YA_VM_KERNEL_KEY));
  const { kernelRelease, driverVersion } = await inspect(file);
  if (kernelRelease === release) return `${file}: driver ${driverVersion} for kernel ${release}`;
  throw checkError(
    `${file} is for kernel ${kernelRelease}, and VMs boot ${release}`,
    `YA_VM_KERNEL_SET=gpu in the provider's environment, or: ya-vm driver-layer build --kernel-release ${release} …`,
  );
}

/** @throws {YavmError} YAVM_E_KERNEL_SET: it is not built; YAVM_E_PROVIDER_CHECK: it does not say */
function releaseOfSet(env: GpuCheckHost['env']): string {
  const { manifest } = bootFiles(env);
  try {
    const { kernel } = JSON.parse(readFileSync(manifest, 'utf8')) as { kernel?: { release?: unknown } };
    if (typeof kernel?.release === 'string') return kernel.release;
  } catch (cause) {
    throw checkError(`${manifest}: cannot be read`, 'ya-vm initramfs sets', cause);
  }
  throw checkError(`${manifest}: does not say which kernel it is for`, 'ya-vm initramfs sets');
}

function checkError(message: string, hint: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_PROVIDER_CHECK', message, { hint, cause });
}
