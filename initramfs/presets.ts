/**
 * Presets of `ya-vm initramfs build --preset`: which modules an initramfs has for which purpose, as data. Without a
 * preset it has {@link MODULES}: all that the agent can use, and nothing else.
 *
 * Everything that a preset adds is optional: kernels differ in what they have, and what lacks then fails by name.
 */
import { MODULES, type ModuleRequest } from './modules/table.ts';

/** What modules are for. */
interface Purpose {
  reason: string;
  modules: readonly string[];
}

const PURPOSES = {
  scsi: { reason: 'disks at a SCSI controller', modules: ['virtio_scsi', 'sd_mod', 'sr_mod'] },
  disks: { reason: 'disks that are not virtio', modules: ['ahci', 'nvme'] },
  cards: { reason: 'network cards that are not virtio', modules: ['e1000', 'e1000e', 'igb', 'vmxnet3'] },
  filesystems: {
    reason: 'file systems of disks that somebody brings',
    modules: ['isofs', 'vfat', 'nls_ascii', 'nls_cp437', 'nls_utf8', 'erofs', 'xfs', 'loop'],
  },
  memory: { reason: 'memory that is given back or added', modules: ['virtio_balloon', 'virtio_mem'] },
  network: {
    reason: 'networks that a task builds: WireGuard, bridges, pairs',
    modules: ['wireguard', 'veth', 'bridge', 'dummy'],
  },
  vsock: { reason: 'sockets between guest and host', modules: ['vmw_vsock_virtio_transport'] },
  input: { reason: 'keyboards and mice', modules: ['virtio_input', 'usbhid', 'xhci_pci'] },
  display: { reason: 'QEMU’s own graphics cards', modules: ['virtio_gpu', 'bochs'] },
  'gpu-base': {
    reason: 'what graphics drivers outside the kernel need of it',
    // Symbols of these are what NVIDIA's modules of 535 to 560 use.
    modules: ['drm', 'drm_kms_helper', 'drm_ttm_helper', 'video', 'i2c_core', 'ecdh_generic'],
  },
  amd: { reason: 'AMD’s cards; their firmware comes with --firmware or a driver layer', modules: ['amdgpu'] },
  intel: { reason: 'Intel’s cards; newer ones want firmware as AMD’s do', modules: ['i915', 'xe'] },
} as const satisfies Record<string, Purpose>;

export type PurposeName = keyof typeof PURPOSES;

export interface Preset {
  summary: string;
  /** Whether the optional part of {@link MODULES} is in. */
  optional: boolean;
  purposes: readonly PurposeName[];
}

export const PRESETS = {
  minimal: {
    summary: 'what a VM cannot do without: ports, disks, layers, network cards',
    optional: false,
    purposes: [],
  },
  generic: {
    summary: 'what the agent can use, and drivers for other virtual hardware and file systems',
    optional: true,
    purposes: ['scsi', 'disks', 'cards', 'filesystems', 'memory', 'network', 'vsock', 'input', 'display'],
  },
  gpu: {
    summary:
      'what the agent can use, QEMU’s graphics cards, AMD’s and Intel’s, and what NVIDIA’s driver builds on',
    optional: true,
    purposes: ['display', 'gpu-base', 'amd', 'intel'],
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof PRESETS;

export function isPresetName(text: string): text is PresetName {
  return Object.hasOwn(PRESETS, text);
}

/** The modules of a preset, those that the agent needs first. */
export function presetModules(name: PresetName): ModuleRequest[] {
  const preset: Preset = PRESETS[name];
  const own = MODULES.filter(({ optional }) => preset.optional || !optional);
  const more = preset.purposes.flatMap((purpose) => requestsFor(purpose));
  return [...own, ...more];
}

function requestsFor(purpose: PurposeName): ModuleRequest[] {
  const { reason, modules }: Purpose = PURPOSES[purpose];
  return modules.map((name) => ({
    name,
    symbol: null,
    stage: 'configure',
    optional: true,
    reason: `${purpose}: ${reason}`,
  }));
}
