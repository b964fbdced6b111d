/** Which kernel modules serve which purpose. What they depend on comes from modules.dep, not from here. */

export interface ModuleSet {
  /** Must load, be loaded already, or be built in. */
  required: string[];
  /** Loaded when the initramfs has them and the machine has their device. */
  optional?: string[];
  why: string;
}

/** Purposes, in the order in which a VM meets them. */
export const MODULE_SETS = {
  ports: {
    required: ['virtio_pci', 'virtio_console'],
    why: 'the three virtio-serial ports: nothing can be said without them, so they come before hello',
  },
  disks: { required: ['virtio_blk'], why: 'layers, the upper disk, volumes' },
  layers: { required: ['squashfs', 'overlay'], why: 'image layers and the union of them' },
  ext4: { required: ['ext4'], why: 'the upper disk and volumes; built into the cloud kernel' },
  nics: { required: ['virtio_net'], why: 'network links' },
  ipv6: { required: ['ipv6'], why: 'IPv6 addresses; built into Debian kernels' },
  virtiofs: { required: ['virtiofs'], why: 'folders shared by virtiofsd' },
  '9p': { required: ['9pnet_virtio', '9p'], why: 'folders shared by QEMU itself' },
  extras: {
    required: [],
    optional: ['tun', 'af_packet'],
    why: 'VPN clients and raw sockets of tasks: no device asks for them, and none is needed to start',
  },
} satisfies Record<string, ModuleSet>;

export type Purpose = keyof typeof MODULE_SETS;
