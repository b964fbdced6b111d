/**
 * Where every device sits on the PCI bus, as a table: a VM restored from a snapshot of its shape, and names that Linux
 * derives from addresses, need each device in its place whether or not the others are there.
 */

/** Slots of bus pcie.0. q35 itself has 0 (host bridge) and 0x1f (LPC, SATA, SMBus). */
export const PCI_SLOTS = {
  /** virtio-serial: the three ports. */
  serial: 0x01,
  /** virtio-rng. */
  rng: 0x02,
  /** Folders shared with the host, by virtiofs. */
  shares: [0x03, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e],
  /** NICs in the order of the guest's eth0, eth1. */
  nics: [0x04, 0x05],
  /** The graphics card that QEMU emulates. */
  display: 0x06,
  /** Disks: the root's writable layer first, then the image's layers, then volumes. */
  disks: [0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f],
  /** Root ports: hot-plug, GPUs. */
  rootPorts: [0x10, 0x11, 0x12, 0x13],
} as const;

/** `bus=…,addr=…` of a slot, as QEMU's -device wants it. */
export function pciAddress(slot: number): string {
  return `bus=pcie.0,addr=0x${slot.toString(16)}`;
}
