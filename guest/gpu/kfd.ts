/**
 * AMD's second door: what computes (ROCm's HIP and OpenCL) opens /dev/kfd, one for all cards, beside the card's render node.
 * amdgpu makes it while it loads, with or without a card that it serves: which those are is in the topology that it shows
 * in sysfs (drivers/gpu/drm/amd/amdkfd/kfd_topology.c), before it registers the card's own nodes.
 */
import type { Native } from '../../native/face.ts';
import { namesIn, readIfThere } from './context.ts';

/** Beneath /dev; its group is `render`, as udev's own rules say. */
export const KFD = 'kfd';

/** Processors count too, and parts of a card. */
const MAX_NODES = 512;

/**
 * Whether programs can compute with a card, by its nodes (`dri/renderD128`). Null: the kernel has no kfd.
 * @throws NativeError
 */
export function servedByKfd(native: Native, sysfs: string, nodes: readonly string[]): boolean | null {
  const kfd = `${sysfs}/class/kfd/kfd`;
  if (readIfThere(native, `${kfd}/dev`) === null) return null;
  const topology = `${kfd}/topology/nodes`;
  return namesIn(native, topology)
    .slice(0, MAX_NODES)
    .map((name) => renderMinor(readIfThere(native, `${topology}/${name}/properties`)))
    .some((minor) => minor !== null && nodes.includes(`dri/renderD${minor}`));
}

/** Of lines `name number`; a processor's is 0. */
function renderMinor(properties: string | null): string | null {
  return /^drm_render_minor ([1-9]\d{0,5})$/m.exec(properties ?? '')?.[1] ?? null;
}
