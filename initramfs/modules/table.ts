/**
 * The kernel modules that the guest needs, with the reason for each. Names are as in `lsmod` (underscores).
 *
 * `hello` modules are loaded by /init before it can say hello, in this order; `configure` modules are carried and
 * loaded when a request needs them (a disk, a NIC, a mount). Either may be built into the kernel instead.
 *
 * Left out on purpose: `loop`, `nf_tables`, `bridge`, `veth` (nothing in the guest uses them, and a task finds no
 * modules of the kernel in its image: parity with the stock runtime), `crc32c_intel` (ext4 takes the built-in generic
 * one; its checksums are no bottleneck), `virtio_mmio` (only the microvm machine has such devices: `--module`),
 * `virtio_balloon`, `virtio_mem` (memory is fixed at start), GPU drivers (they come with the GPU's own layer).
 */
export type Stage = 'hello' | 'configure';

export interface ModuleRequest {
  name: string;
  /** Kernel configuration symbol that makes it: what an error names. Null: not known (asked for by name). */
  symbol: string | null;
  stage: Stage;
  /** The guest starts without it; what needs it then fails by name. */
  optional?: boolean;
  reason: string;
}

export const MODULES: readonly ModuleRequest[] = [
  // virtio_ring first: `virtio` uses its symbols (6.1), which table order alone must not get wrong.
  { name: 'virtio_ring', symbol: 'CONFIG_VIRTIO', stage: 'hello', reason: 'queues of every virtio device' },
  { name: 'virtio', symbol: 'CONFIG_VIRTIO', stage: 'hello', reason: 'bus of every virtio device' },
  {
    name: 'virtio_pci_modern_dev',
    symbol: 'CONFIG_VIRTIO_PCI_LIB',
    stage: 'hello',
    optional: true, // part of virtio_pci itself before Linux 5.12
    reason: 'virtio 1.0 devices on PCI, part of virtio_pci',
  },
  {
    name: 'virtio_pci_legacy_dev',
    symbol: 'CONFIG_VIRTIO_PCI_LIB_LEGACY',
    stage: 'hello',
    optional: true, // part of virtio_pci itself before Linux 5.16, absent without CONFIG_VIRTIO_PCI_LEGACY
    reason: 'virtio 0.9 devices on PCI, part of virtio_pci',
  },
  { name: 'virtio_pci', symbol: 'CONFIG_VIRTIO_PCI', stage: 'hello', reason: 'QEMU’s devices are on PCI' },
  {
    name: 'virtio_console',
    symbol: 'CONFIG_VIRTIO_CONSOLE',
    stage: 'hello',
    reason: 'the control, data and log ports (virtio-serial)',
  },
  {
    name: 'virtio_blk',
    symbol: 'CONFIG_VIRTIO_BLK',
    stage: 'configure',
    reason: 'layers, root disk and volumes',
  },
  { name: 'squashfs', symbol: 'CONFIG_SQUASHFS', stage: 'configure', reason: 'image layers' },
  {
    name: 'overlay',
    symbol: 'CONFIG_OVERLAY_FS',
    stage: 'configure',
    reason: 'layers and the writable upper as one root',
  },
  {
    name: 'ext4',
    symbol: 'CONFIG_EXT4_FS',
    stage: 'configure',
    reason: 'root disk and volumes (built in, in the cloud flavour)',
  },
  {
    name: 'failover',
    symbol: 'CONFIG_FAILOVER',
    stage: 'configure',
    optional: true, // inside virtio_net before Linux 4.18
    reason: 'virtio_net needs it',
  },
  {
    name: 'net_failover',
    symbol: 'CONFIG_NET_FAILOVER',
    stage: 'configure',
    optional: true, // inside virtio_net before Linux 4.18
    reason: 'virtio_net needs it',
  },
  { name: 'virtio_net', symbol: 'CONFIG_VIRTIO_NET', stage: 'configure', reason: 'VPN and outbound NICs' },
  {
    name: 'fuse',
    symbol: 'CONFIG_FUSE_FS',
    stage: 'configure',
    optional: true,
    reason: 'virtiofs needs it; FUSE file systems of tasks',
  },
  {
    name: 'virtiofs',
    symbol: 'CONFIG_VIRTIO_FS',
    stage: 'configure',
    optional: true, // 9p does instead
    reason: 'folders of the host as volumes, under a stock exe-unit',
  },
  {
    name: '9pnet_virtio',
    symbol: 'CONFIG_NET_9P_VIRTIO',
    stage: 'configure',
    optional: true, // the cloud flavour has no 9p; virtiofs does instead
    reason: 'transport of 9p volumes',
  },
  {
    name: '9p',
    symbol: 'CONFIG_9P_FS',
    stage: 'configure',
    optional: true,
    reason: 'folders of the host as volumes where virtiofsd cannot run',
  },
  {
    name: 'virtio_rng',
    symbol: 'CONFIG_HW_RANDOM_VIRTIO',
    stage: 'configure',
    optional: true, // the host sends fresh entropy with `configure` anyway
    reason: 'the pool goes on being fed in a long-lived VM',
  },
  {
    name: 'pvpanic',
    symbol: 'CONFIG_PVPANIC',
    stage: 'configure',
    optional: true, // the console and QEMU’s end tell of a panic too, later
    reason: 'pvpanic_pci and pvpanic_mmio need it',
  },
  {
    name: 'pvpanic_pci',
    symbol: 'CONFIG_PVPANIC_PCI',
    stage: 'configure',
    optional: true,
    reason: 'a panic reaches the host as an event (QEMU’s pvpanic-pci)',
  },
  {
    name: 'pvpanic_mmio',
    symbol: 'CONFIG_PVPANIC_MMIO',
    stage: 'configure',
    optional: true,
    reason: 'the same for QEMU’s ISA pvpanic, found through ACPI',
  },
  {
    name: 'af_packet',
    symbol: 'CONFIG_PACKET',
    stage: 'configure',
    optional: true,
    reason: 'raw sockets of tasks: DHCP clients, tcpdump',
  },
  { name: 'ipv6', symbol: 'CONFIG_IPV6', stage: 'configure', optional: true, reason: 'IPv6 addresses' },
  {
    name: 'tun',
    symbol: 'CONFIG_TUN',
    stage: 'configure',
    optional: true,
    reason: 'VPN clients inside a task',
  },
];
