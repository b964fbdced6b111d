/**
 * QEMU's command line, built from a specification. Pure. Everything that QEMU opens reaches it as a descriptor: it runs
 * as a user who may open none of our files, nothing of a VM lies in a folder, and nothing has to be connected to.
 */
import { PORTS } from '../../guest/protocol/messages.ts';
import { holeFor } from '../gpu/bars.ts';
import type { NicBackend } from '../network/types.ts';
import { PCI_SLOTS, pciAddress } from './pci-slots.ts';
import type { HugepageSize, ShareKind } from './types.ts';
import { type UserNetwork, userNetworkArguments } from './user-network.ts';

export interface DiskArguments {
  /** virtio-blk serial, by which the guest finds it; at most 20 characters. */
  serial: string;
  /** Descriptor in QEMU; open for reading only when `readOnly`, else for both. */
  fd: number;
  readOnly: boolean;
  /** Whether a flush of the guest reaches the host's disk: pointless for one that is thrown away with its VM. */
  durable: boolean;
  /** Whether it keeps the room that it has on the host, whatever the guest discards. */
  reserved: boolean;
}

export interface ShareArguments {
  kind: ShareKind;
  /** By which the guest mounts it; at most 36 characters. */
  tag: string;
  /** virtiofs: a socket with a vhost-user file server at its other end. 9p: the folder. */
  fd: number;
  /** Of 9p; virtiofs leaves it to the server. */
  readOnly?: boolean;
}

export interface NicArguments {
  mac: string;
  /** What it is plugged into; null: a hub of its own, with nobody else on it. */
  backend: NicBackend | null;
}

/** The guest's memory as a file: what a template is made with, and what VMs are made from. */
export interface TemplateArguments {
  /** As large as the memory; opened anew through /proc, for both directions. */
  ram: number;
  /** `make`: what the guest writes goes into the file. `use`: it is this VM's own, and the machine waits for its state. */
  mode: 'make' | 'use';
}

/** A card of the host, all of it. */
export interface CardArguments {
  functions: readonly { slot: string; number: number }[];
  /** Bytes of its BARs that lie above 4 GiB; 0: none do. */
  window: number;
}

/** All numbers of descriptors are those in QEMU. */
export interface QemuSpec {
  /** Shown by ps(1). */
  name: string;
  accel: 'kvm' | 'tcg';
  /** QEMU's -cpu with its features, `max,-sgx`; `max` is all that the host has under KVM, and all that can be emulated under TCG. */
  cpuModel: string;
  cpus: number;
  memoryMiB: number;
  /** All memory in such pages, which the host has set aside; `memoryMiB` is a multiple of them. */
  hugepages?: HugepageSize;
  /** PVH ELF; the file must be readable by QEMU's user, for it is opened anew through /proc. */
  kernel: number;
  initramfs: number;
  kernelWords: string;
  /** At most as many as PCI_SLOTS.disks; null: nothing but the place of one. */
  disks: readonly (DiskArguments | null)[];
  /** At most as many as PCI_SLOTS.nics. */
  nics: readonly NicArguments[];
  userNetwork?: UserNetwork | null;
  /** At most as many as PCI_SLOTS.shares. */
  shares: ShareArguments[];
  /** A graphics card that QEMU emulates. */
  display?: 'virtio' | 'bochs' | null;
  /** At most as many as PCI_SLOTS.rootPorts. */
  cards?: readonly CardArguments[];
  /** Null: memory is QEMU's own, and the machine starts from nothing. */
  template?: TemplateArguments | null;
  /** Connected sockets. */
  control: number;
  data: number;
  log: number;
  qmp: number;
  /** Open for writing: gets what the guest's serial console prints. */
  consoleLog: number;
}

/** `on` alone denies little; spawn=deny, for one, is what keeps a hijacked QEMU from starting programs. */
const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

/** Exit codes that the agent chooses through isa-debug-exit; QEMU ends with `code << 1 | 1`. */
export const AGENT_EXIT = { uncaughtError: 70, nativeCrash: 71, outOfMemory: 72 } as const;
export const DEBUG_EXIT_PORT = 0xf4;

/** Arguments, without the program's own name. */
export function qemuArguments(spec: QemuSpec): string[] {
  return [
    ...['-name', `guest=${escapeCommas(spec.name)}`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-sandbox', SANDBOX],
    ...machine(spec),
    ...boot(spec),
    ...console_(spec.consoleLog),
    ...['-chardev', `socket,id=qmp,fd=${spec.qmp}`, '-mon', 'chardev=qmp,mode=control'],
    ...ports(spec),
    ...['-object', 'rng-builtin,id=rng0'],
    ...['-device', `virtio-rng-pci,rng=rng0,disable-legacy=on,${pciAddress(PCI_SLOTS.rng)}`],
    ...spec.disks.flatMap((each, index) => (each === null ? placeholderDisk(index) : disk(each, index))),
    ...spec.nics.flatMap(nic),
    ...(spec.userNetwork ? userNetworkArguments(spec.userNetwork, PCI_SLOTS.nics.length) : []),
    ...spec.shares.flatMap(share),
    ...(spec.display ? ['-device', display(spec.display)] : []),
    ...(spec.cards ?? []).flatMap(card),
    // Tells of a panic at once; the guest's driver finds it through ACPI.
    ...['-device', 'pvpanic'],
    ...['-device', `isa-debug-exit,iobase=0x${DEBUG_EXIT_PORT.toString(16)},iosize=0x01`],
    // The state comes when the monitor says from where: before, its capabilities have to be set.
    ...(spec.template?.mode === 'use' ? ['-incoming', 'defer'] : []),
  ];
}

/**
 * What is booted; nothing where a state is brought back, which would only be read (50 MB) and dropped. There the ROM alone
 * remains that QEMU adds for a PVH kernel: its memory is part of the state.
 */
function boot({ template, kernel, initramfs, kernelWords }: QemuSpec): string[] {
  if (template?.mode === 'use') return ['-option-rom', 'pvh.bin'];
  const files = ['-kernel', `/proc/self/fd/${kernel}`, '-initrd', `/proc/self/fd/${initramfs}`];
  return [...files, '-append', kernelWords];
}

/**
 * vmport, smm, sata, smbus: what q35 has by default and nobody here uses is only there to be attacked.
 * `thread=multi`: one host thread a vCPU, also where QEMU would not choose it by itself.
 */
function machine({
  accel,
  cpuModel,
  cpus,
  memoryMiB,
  hugepages,
  shares,
  cards = [],
  template,
}: QemuSpec): string[] {
  // A file server reads and writes the guest's memory itself, and gets it as a descriptor.
  const shared = shares.some(({ kind }) => kind === 'virtiofs');
  const ownMemory = shared || cards.length > 0 || hugepages || template;
  const object = template
    ? templateMemory(memoryMiB, template)
    : memory(memoryMiB, { shared, hugepages, touchers: cards.length > 0 || hugepages ? cpus : 0 });
  const hole = holeFor(cards.map(({ window }) => window));
  return [
    ...(ownMemory ? ['-object', object] : []),
    '-machine',
    `q35,vmport=off,smm=off,sata=off,smbus=off,dump-guest-core=off${ownMemory ? ',memory-backend=memory' : ''}`,
    ...(hole === null ? [] : ['-global', `q35-pcihost.pci-hole64-size=${hole / MIB}M`]),
    ...['-accel', accel === 'tcg' ? 'tcg,thread=multi' : 'kvm'],
    ...['-cpu', cpuModel],
    ...['-smp', String(cpus)],
    ...['-m', `${memoryMiB}M`],
    ...['-rtc', 'base=utc'],
  ];
}

const MIB = 1024 ** 2;
/** More of them only wait for the kernel. */
const MAX_TOUCHERS = 8;

/**
 * A card reads and writes all of the guest's memory, so all of it is locked at the start. `touchers`: threads that touch it
 * before, side by side, which the kernel does one page after the other otherwise (the spec's anchors.md, 5.1); 0: nobody does.
 * Of anonymous memory most comes in huge pages, and the IOMMU's tables are short; of a memfd it does only where the host's
 * shmem_enabled says so. `hugepages`: of those that were set aside; all are touched at the start, so that a host that lacks some
 * says so then, and does not end the VM later.
 */
function memory(
  memoryMiB: number,
  { shared, hugepages, touchers }: { shared: boolean; hugepages?: HugepageSize; touchers: number },
): string {
  const kind = shared || hugepages ? 'memory-backend-memfd' : 'memory-backend-ram';
  const pages = hugepages ? `,hugetlb=on,hugetlbsize=${hugepages}` : '';
  // A memfd is shared unless it is told otherwise.
  const sharing = shared ? ',share=on' : hugepages ? ',share=off' : '';
  const size = `${kind},id=memory,size=${memoryMiB}M${pages}${sharing}`;
  return touchers === 0 ? size : `${size},prealloc=on,prealloc-threads=${Math.min(touchers, MAX_TOUCHERS)}`;
}

/** A shared mapping is left out of the state that is saved (`x-ignore-shared`); a private one of the same file brings it back. */
function templateMemory(memoryMiB: number, { ram, mode }: TemplateArguments): string {
  const share = mode === 'make' ? 'on' : 'off';
  return `memory-backend-file,id=memory,size=${memoryMiB}M,mem-path=/proc/self/fd/${ram},share=${share}`;
}

/** A pty for people, and a descriptor for the record. `logappend`: a pipe cannot be truncated. */
function console_(log: number): string[] {
  return [
    ...addFd(log),
    ...['-chardev', `pty,id=console,logfile=${fdSet(log)},logappend=on`],
    ...['-serial', 'chardev:console'],
  ];
}

/** Port 0 of the bus is kept for a console by the specification; max_ports bounds the queues that the guest sets up. */
function ports({ control, data, log }: QemuSpec): string[] {
  const port = (id: string, fd: number, number: number, name: string) => [
    ...['-chardev', `socket,id=${id},fd=${fd}`],
    ...['-device', `virtserialport,bus=serial0.0,nr=${number},chardev=${id},name=${name}`],
  ];
  return [
    '-device',
    `virtio-serial-pci,id=serial0,max_ports=4,disable-legacy=on,${pciAddress(PCI_SLOTS.serial)}`,
    ...port('control', control, 1, PORTS.control),
    ...port('data', data, 2, PORTS.data),
    ...port('log', log, 3, PORTS.log),
  ];
}

/**
 * `discard=unmap`: what the guest deletes is given back to the host. Zeros that it writes are not looked for: that costs
 * a look at all that is written, and whoever writes zeros asks for room. `werror=stop`: a write that the host's disk
 * refuses stops the VM, in place of an error that most programs would never see; see disk-watch.ts.
 */
function disk({ serial, fd, readOnly, durable, reserved }: DiskArguments, index: number): string[] {
  const node = `disk${index}`;
  const cache = durable ? 'cache.no-flush=off' : 'cache.no-flush=on';
  const access = readOnly ? 'read-only=on' : `read-only=off,discard=${reserved ? 'ignore' : 'unmap'}`;
  const errors = readOnly ? '' : 'werror=stop,rerror=report,';
  return [
    ...addFd(fd),
    '-blockdev',
    `driver=raw,node-name=${node},${access},${cache},file.driver=file,file.filename=${fdSet(fd)}`,
    '-device',
    `virtio-blk-pci,drive=${node},serial=${escapeCommas(serial)},${errors}disable-legacy=on,${pciAddress(slotOf(PCI_SLOTS.disks, index))}`,
  ];
}

/** One sector that reads as zeros. No driver is bound to it, see the guest's `prepare`. */
function placeholderDisk(index: number): string[] {
  const node = `disk${index}`;
  return [
    ...['-blockdev', `driver=null-co,node-name=${node},size=512,read-zeroes=on`],
    '-device',
    `virtio-blk-pci,drive=${node},disable-legacy=on,${pciAddress(slotOf(PCI_SLOTS.disks, index))}`,
  ];
}

/** `romfile=`: nobody boots from this network. */
function nic({ mac, backend }: NicArguments, index: number): string[] {
  const id = `net${index}`;
  return [
    ...['-netdev', netdev(id, backend, index)],
    '-device',
    `virtio-net-pci,netdev=${id},mac=${mac},romfile=,disable-legacy=on,${pciAddress(slotOf(PCI_SLOTS.nics, index))}`,
  ];
}

/**
 * None of these takes a header with offloads, so virtio-net has none to offer: the guest fills in checksums and cuts to the
 * MTU itself.
 */
function netdev(id: string, backend: NicBackend | null, hub: number): string {
  switch (backend?.kind) {
    case undefined:
      return `hubport,id=${id},hubid=${hub}`;
    case 'datagram':
      return `dgram,id=${id},local.type=fd,local.str=${backend?.fd}`;
    case 'stream':
      return `stream,id=${id},addr.type=fd,addr.str=${backend?.fd}`;
    case 'stream-listener':
      return `stream,id=${id},server=on,addr.type=fd,addr.str=${backend?.fd}`;
  }
}

/**
 * 9p with `security_model=none`: files are QEMU's user's, with the modes that the guest gives them, so the supervisor finds
 * what it expects; `mapped-xattr` would keep owners, but make links and modes something that only QEMU understands.
 */
function share({ kind, tag, fd, readOnly }: ShareArguments, index: number): string[] {
  const id = `share${index}`;
  const address = pciAddress(slotOf(PCI_SLOTS.shares, index));
  if (kind === 'virtiofs') {
    return [
      ...['-chardev', `socket,id=${id},fd=${fd}`],
      ...['-device', `vhost-user-fs-pci,chardev=${id},tag=${escapeCommas(tag)},${address}`],
    ];
  }
  const access = `security_model=none,multidevs=remap${readOnly ? ',readonly=on' : ''}`;
  return [
    ...['-fsdev', `local,id=${id},path=/proc/self/fd/${fd},${access}`],
    ...['-device', `virtio-9p-pci,fsdev=${id},mount_tag=${escapeCommas(tag)},disable-legacy=on,${address}`],
  ];
}

/** `bochs-display`: what the bochs driver knows, without VGA's ports. */
function display(kind: 'virtio' | 'bochs'): string {
  const device = kind === 'virtio' ? 'virtio-gpu-pci' : 'bochs-display';
  return `${device},id=display,${pciAddress(PCI_SLOTS.display)}`;
}

/**
 * Behind a root port of its own, as on a mainboard: drivers look for the link's state there. All functions keep their numbers.
 * The firmware sizes the port's window by its BARs (tried with 128 GiB). No `pref64-reserve`: with a 32-bit prefetchable BAR
 * behind the port SeaBIOS stops there, as tried.
 */
function card({ functions }: CardArguments, index: number): string[] {
  const port = `card${index}`;
  const address = pciAddress(slotOf(PCI_SLOTS.rootPorts, index));
  const many = functions.length > 1;
  return [
    ...['-device', `pcie-root-port,id=${port},chassis=${index + 1},${address}`],
    ...functions.flatMap(({ slot, number }) => [
      '-device',
      `vfio-pci,host=${slot},bus=${port},addr=0x0.0x${number}${many && number === 0 ? ',multifunction=on' : ''}`,
    ]),
  ];
}

function slotOf(slots: readonly number[], index: number): number {
  const slot = slots[index];
  if (slot === undefined) throw new RangeError(`device ${index}, but there are ${slots.length} slots`);
  return slot;
}

/** Descriptor sets are numbered as their one descriptor is. */
function addFd(fd: number): string[] {
  return ['-add-fd', `fd=${fd},set=${fd}`];
}

function fdSet(fd: number): string {
  return `/dev/fdset/${fd}`;
}

/** QEMU's options are separated by commas; a doubled one stands for itself. */
export function escapeCommas(value: string): string {
  return value.replaceAll(',', ',,');
}
