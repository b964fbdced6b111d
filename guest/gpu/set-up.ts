/** Graphics cards of a VM, from the bus to what a task opens. */
import type { Native } from '../../native/face.ts';
import { ModuleLog } from '../boot/module-log.ts';
import type { BootContext } from '../boot/root.ts';
import { GuestError } from '../errors.ts';
import type { GpuSpec, GuestGpu } from '../protocol/messages.ts';
import { AMD, type Card, driverOf, findCards, NVIDIA, nameOf, takerOf } from './cards.ts';
import { GPU_PLACES, type GpuContext, readIfThere } from './context.ts';
import { drmModule, drmNodes, openToTask } from './drm.ts';
import { DrmWait } from './drm-wait.ts';
import { KFD, servedByKfd } from './kfd.ts';
import { type Layer, mountLayer } from './layer.ts';
import { giveLibraries } from './libraries.ts';
import { checkVersion, loadNvidia, makeNvidiaNodes } from './nvidia.ts';
import { keepAwake } from './persistence.ts';

export interface GpuRequest extends GpuSpec {
  /** Parameters of NVIDIA's module that the host has set. */
  nvidiaParameters?: string;
}

/**
 * Sets up all cards. `rootFd`: the task's root, with its /dev and /proc.
 * @throws {GuestError} gpu-failed: no card, none that works, a layer that does not fit; module-failed, disk-missing, mount-failed
 */
export async function setUpGpus(
  { native, modules }: BootContext,
  rootFd: number,
  request: GpuRequest,
  warn: (text: string) => void,
): Promise<GuestGpu[]> {
  const context: GpuContext = { native, modules, rootFd, places: GPU_PLACES, warn };
  if (request.layer) {
    modules.loadFor('disks');
    modules.loadFor('layers');
  }
  const layer = request.layer ? await mountLayer(context, request.layer.serial) : null;
  return setUpWith(context, request, layer);
}

/** {@link setUpGpus} with a layer that is mounted. */
export async function setUpWith(
  context: GpuContext,
  request: GpuRequest,
  layer: Layer | null,
): Promise<GuestGpu[]> {
  const cards = findCards(context.native, context.places.sysfs);
  if (cards.length === 0) throw noCard(context, layer);
  const nvidia = cards.filter(({ vendor }) => vendor === NVIDIA);
  const gpus = nvidia.length > 0 ? await setUpNvidia(context, nvidia, request, layer) : [];
  const failures: string[] = [];
  for (const card of cards) {
    if (card.vendor === NVIDIA) continue;
    const gpu = await setUpDrm(context, card);
    if (typeof gpu !== 'string') gpus.push(gpu);
    else failures.push(`${nameOf(card)}: ${gpu}`);
  }
  if (gpus.length === 0) throw new GuestError('gpu-failed', failures.join('; '));
  for (const each of failures) context.warn(each);
  return gpus.sort((a, b) => (a.slot < b.slot ? -1 : 1));
}

/** With a layer its driver is asked too: what it says of a machine without a card is what is found on the internet. */
function noCard({ modules }: GpuContext, layer: Layer | null): GuestError {
  const none = "there is no graphics card on this VM's PCI bus";
  if (!layer) return new GuestError('gpu-failed', none);
  let said = 'loads, and has nothing to drive';
  try {
    modules.load('nvidia');
  } catch (error) {
    said = `says: ${error instanceof Error ? error.message : String(error)}`;
  }
  const what = `${none}: pass one with the driver layer. NVIDIA's driver ${layer.driverVersion} ${said}`;
  return new GuestError('gpu-failed', what);
}

async function setUpNvidia(
  context: GpuContext,
  cards: Card[],
  { graphics = false, nvidiaParameters = '' }: GpuRequest,
  layer: Layer | null,
): Promise<GuestGpu[]> {
  loadNvidia(context, cards, { graphics, parameters: nvidiaParameters });
  checkVersion(context, layer);
  const nodes = makeNvidiaNodes(context, cards, graphics);
  if (layer) {
    await giveLibraries(context, layer);
    await keepAwake(context);
  }
  return cards.map((card) => {
    const drm = graphics ? drmNodes(context.native, card) : [];
    openToTask(context, drm);
    const paths = [...(nodes.get(card.slot) ?? []), ...drm.map((path) => `/dev/${path}`)];
    return reply(card, driverOf(context.native, card) ?? 'nvidia', paths);
  });
}

/** A card that the kernel's own drivers know; why none works, in words. */
async function setUpDrm(context: GpuContext, card: Card): Promise<GuestGpu | string> {
  const { native } = context;
  const wait = new DrmWait(native, card);
  const log = new ModuleLog(native);
  log.mark();
  try {
    const { names, reasons } = loadDriver(context, card);
    const nodes = names.length > 0 ? await wait.nodes() : drmNodes(native, card);
    if (nodes.length === 0) {
      const why = names.length > 0 ? [whyNoNodes(native, card, names, log)] : reasons;
      return ['no driver works', ...why].join(': ');
    }
    if (card.vendor === AMD) nodes.push(...computeNodes(context, card, nodes));
    openToTask(context, nodes);
    const paths = nodes.map((path) => `/dev/${path}`);
    return reply(card, driverOf(native, card) ?? names.at(-1) ?? 'unknown', paths);
  } finally {
    wait.close();
    log.rest();
  }
}

/** Of a card of AMD's, beside those that draw. Without them it still draws: no failure, but a provider wants to know. */
function computeNodes({ native, places, warn }: GpuContext, card: Card, nodes: readonly string[]): string[] {
  const served = servedByKfd(native, places.sysfs, nodes);
  if (served === true) return [KFD];
  const why = served === null ? 'the kernel has no kfd' : "the kernel's kfd does not take it";
  warn(`${nameOf(card)}: draws, but programs cannot compute with it (ROCm): ${why}`);
  return [];
}

/** `names`: modules that have loaded, `reasons`: why others have not. */
function loadDriver({ native, modules }: GpuContext, card: Card): { names: string[]; reasons: string[] } {
  const reasons: string[] = [];
  const failed = (error: unknown) =>
    void reasons.push(error instanceof Error ? error.message : String(error));
  // A card of virtio is a device on a bus of its own, whose alias PCI does not have: hence the name too.
  const alias = readIfThere(native, `${card.folder}/modalias`);
  const names = alias ? modules.loadAlias(alias.trim(), failed) : [];
  const name = drmModule(card);
  if (name === null || names.includes(name)) return { names, reasons };
  try {
    modules.load(name);
    return { names: [...names, name], reasons };
  } catch (error) {
    failed(error);
    return { names, reasons };
  }
}

/** Of a driver that has loaded: whether it has taken the card, and the kernel's last word about that. */
function whyNoNodes(native: Native, card: Card, names: readonly string[], log: ModuleLog): string {
  const taker = takerOf(native, card);
  const what =
    taker === null
      ? `${names.join(', ')} has loaded and did not take the card`
      : `${taker} has the card and made no node in /dev/dri`;
  const said = log.lastLine(names.at(-1) ?? '');
  return said === '' ? what : `${what} (${said})`;
}

function reply({ slot, vendor, device }: Card, driver: string, nodes: string[]): GuestGpu {
  return { slot, vendor, device, driver, nodes };
}
