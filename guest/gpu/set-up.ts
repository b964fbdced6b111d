/** Graphics cards of a VM, from the bus to what a task opens. */
import type { BootContext } from '../boot/root.ts';
import { GuestError } from '../errors.ts';
import type { GpuSpec, GuestGpu } from '../protocol/messages.ts';
import { type Card, driverOf, findCards, NVIDIA, nameOf } from './cards.ts';
import { GPU_PLACES, type GpuContext, readIfThere } from './context.ts';
import { drmModule, drmNodes, openToTask, waitForDrmNodes } from './drm.ts';
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
  if (cards.length === 0)
    throw new GuestError('gpu-failed', "there is no graphics card on this VM's PCI bus");
  const nvidia = cards.filter(({ vendor }) => vendor === NVIDIA);
  const gpus = nvidia.length > 0 ? await setUpNvidia(context, nvidia, request, layer) : [];
  for (const card of cards) {
    if (card.vendor === NVIDIA) continue;
    const gpu = await setUpDrm(context, card);
    if (gpu) gpus.push(gpu);
  }
  if (gpus.length === 0)
    throw new GuestError('gpu-failed', `no driver works for ${cards.map(nameOf).join(', ')}`);
  return gpus.sort((a, b) => (a.slot < b.slot ? -1 : 1));
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

/** A card that the kernel's own drivers know; null, with a warning, when none works. */
async function setUpDrm(context: GpuContext, card: Card): Promise<GuestGpu | null> {
  const { native, warn } = context;
  const reasons: string[] = [];
  const failed = (error: unknown) =>
    void reasons.push(error instanceof Error ? error.message : String(error));
  // A card of virtio is a device on a bus of its own, whose alias PCI does not have: hence the name too.
  const alias = readIfThere(native, `${card.folder}/modalias`);
  const byAlias = alias ? context.modules.loadAlias(alias.trim(), failed) : [];
  const name = drmModule(card);
  if (name !== null && !byAlias.includes(name)) {
    try {
      context.modules.load(name);
    } catch (error) {
      failed(error);
    }
  }
  const loaded = byAlias.length > 0 || (name !== null && reasons.length === 0);
  const nodes = loaded ? await waitForDrmNodes(native, card) : drmNodes(native, card);
  if (nodes.length === 0) {
    warn(`${nameOf(card)}: no driver works${reasons.map((reason) => `: ${reason}`).join('')}`);
    return null;
  }
  openToTask(context, nodes);
  const paths = nodes.map((path) => `/dev/${path}`);
  return reply(card, driverOf(native, card) ?? name ?? 'unknown', paths);
}

function reply({ slot, vendor, device }: Card, driver: string, nodes: string[]): GuestGpu {
  return { slot, vendor, device, driver, nodes };
}
