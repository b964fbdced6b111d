/** Which cards of the host a provider's VMs get, from options and environment. Pure. */
import { YavmError } from '../lib/errors.ts';
import { parseSlot } from './slot.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const OPTION = '--pci-device';

/** As a VM's specification has it: nothing, or cards, and their driver where one is kept outside the initramfs. */
export interface ProviderGpu {
  gpu?: { kind: 'pci'; slots: string[] };
  driverLayer?: string;
}

/**
 * `pciDevice`: of our own option; `runtimeArg`: the words of `-r`, which upstream's exe-unit passes to its runtime, and in which
 * its descriptors name cards; then `YA_RUNTIME_VM_PCI_DEVICE`. The first that names any counts. The driver layer is
 * `YA_VM_DRIVER_LAYER`, and only there for VMs with cards.
 * @throws {YavmError} YAVM_E_USAGE
 */
export function providerGpu(
  { pciDevice, runtimeArg }: Readonly<Record<string, unknown>>,
  env: Environment,
): ProviderGpu {
  const choices = [
    words(pciDevice),
    pciDevices(words(runtimeArg)).slots,
    words([env.YA_RUNTIME_VM_PCI_DEVICE]),
  ];
  const slots = (choices.find((each) => each.length > 0) ?? []).map(parseSlot);
  if (slots.length === 0) return {};
  const layer = env.YA_VM_DRIVER_LAYER;
  return { gpu: { kind: 'pci', slots: [...new Set(slots)] }, ...(layer ? { driverLayer: layer } : {}) };
}

/** `--pci-device X` and `--pci-device=X`. `others`: how many words are something else. */
export function pciDevices(args: readonly string[]): { slots: string[]; others: number } {
  const slots: string[] = [];
  let others = 0;
  for (let index = 0; index < args.length; index++) {
    const word = args[index] as string;
    if (word.startsWith(`${OPTION}=`)) slots.push(word.slice(OPTION.length + 1));
    else if (word === OPTION) {
      const next = args[++index];
      if (next === undefined) throw new YavmError('YAVM_E_USAGE', `-r ${OPTION}: the address is missing`);
      slots.push(next);
    } else others++;
  }
  return { slots, others };
}

function words(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string' && each !== '') : [];
}
