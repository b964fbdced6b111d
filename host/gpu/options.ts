/** Which cards of the host a provider's VMs get, from options and environment. Pure. */
import { YavmError } from '../lib/errors.ts';
import { parseSlot } from './slot.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const OPTION = '--pci-device';

/** Chooses huge pages where no option does. */
const HUGEPAGES = 'YA_VM_HUGEPAGES';

/** As a VM's specification has it: nothing, or cards, and their driver where one is kept outside the initramfs; huge pages. */
export interface ProviderGpu {
  hugepages?: '2M' | '1G';
  gpu?: { kind: 'pci'; slots: string[] };
  driverLayer?: string;
}

/**
 * `pciDevice`: of our own option; `runtimeArg`: the words of `-r`, which upstream's exe-unit passes to its runtime, and in which
 * its descriptors name cards; then `YA_RUNTIME_VM_PCI_DEVICE`. The first that names any counts. The driver layer is
 * `YA_VM_DRIVER_LAYER`, and only there for VMs with cards. Huge pages are for all.
 * @throws {YavmError} YAVM_E_USAGE
 */
export function providerGpu(given: Readonly<Record<string, unknown>>, env: Environment): ProviderGpu {
  const { pciDevice, runtimeArg } = given;
  const pages = readHugepages(given, env);
  const choices = [
    words(pciDevice),
    pciDevices(words(runtimeArg)).slots,
    words([env.YA_RUNTIME_VM_PCI_DEVICE]),
  ];
  const slots = (choices.find((each) => each.length > 0) ?? []).map(parseSlot);
  if (slots.length === 0) return pages;
  const layer = env.YA_VM_DRIVER_LAYER;
  return {
    ...{ ...pages, gpu: { kind: 'pci', slots: [...new Set(slots)] } },
    ...(layer ? { driverLayer: layer } : {}),
  };
}

/** `--hugepages`, else `YA_VM_HUGEPAGES`; nothing for none. @throws {YavmError} YAVM_E_USAGE */
export function readHugepages(
  { hugepages }: Readonly<Record<string, unknown>>,
  env: Environment,
): Pick<ProviderGpu, 'hugepages'> {
  const [text, from] =
    typeof hugepages === 'string' ? [hugepages, '--hugepages'] : [env[HUGEPAGES] ?? '', HUGEPAGES];
  if (text === '' || text === 'off') return {};
  if (text === '2M' || text === '1G') return { hugepages: text };
  throw new YavmError('YAVM_E_USAGE', `${from}: '${text}' is no size of huge pages`, {
    hint: 'Choose one of: 2M, 1G, off.',
  });
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
