/** What the host's parts say to each other about a VM: the specification, its phases, its commands. */
import type {
  DiskErrors,
  ExitedEvent,
  ModulesSpec,
  MountSpec,
  NetworkSpec,
  StatsReply,
} from '../../guest/protocol/messages.ts';

/** The three things that a boot needs; made by `make`, or by `ya-vm initramfs build`. */
export interface BootAssets {
  /** PVH ELF. */
  kernel: string;
  initramfs: string;
  /** manifest.json of the initramfs: versions and checksums. */
  manifest: string;
}

export type AccelChoice = 'auto' | 'kvm' | 'tcg';

/** `template`: or not at all. */
export type StartChoice = 'auto' | 'cold' | 'template';

/** How the guest reaches a folder of the host: by a server of its own (virtiofsd), or by QEMU itself. */
export type ShareKind = 'virtiofs' | '9p';

/** A folder of the host in a VM. */
export interface ShareSpec {
  hostPath: string;
  /** In the VM. */
  path: string;
  readOnly?: boolean;
}

/** How a disk of a VM is made, and what its guest does with it. */
export interface DiskOptions {
  /** Bytes of the host's disk that it takes at once and keeps, so that they are there when they are needed. */
  preallocate?: number;
  /** Default: remount-ro. */
  errors?: DiskErrors;
}

/** A folder of the VM on a disk of its own, which is thrown away with the VM. */
export interface VolumeDisk extends DiskOptions {
  /** In the VM. */
  path: string;
  /** Bytes that its user has. */
  size: number;
}

/** Of pages that the host has set aside. */
export type HugepageSize = '2M' | '1G';

/** Everything that decides how a VM is made. */
export interface VmSpec {
  assets: BootAssets;
  /** Image files (`.gvmi` or squashfs), topmost layer first. Verified by the caller (host/image). */
  layers: string[];
  /** Root's writable layer: a sparse ext4 disk of this many bytes made for this VM, or memory. */
  root: ({ disk: number } & DiskOptions) | { ram: number };
  /** Keep the root disk here (and do not remove it at the end) instead of in the run folder. */
  rootDisk?: string;
  /** Where disks that are thrown away take their room; default `YAVM_DISK_DIR`, else /var/tmp. */
  diskFolder?: string;
  memoryMiB: number;
  /** All memory in huge pages that the host has set aside; rounded down to whole ones. */
  hugepages?: HugepageSize;
  cpus: number;
  hostname: string;
  accel: AccelChoice;
  /** Default auto: from a template where one fits, which is made where there is none; else by a boot. */
  start?: StartChoice;
  mounts?: MountSpec[];
  disks?: VolumeDisk[];
  /** Folders of the host, seen in the VM as they are: changes show on the other side at once. */
  shares?: ShareSpec[];
  network?: NetworkSpec;
  modules?: ModulesSpec;
  /** Graphics cards: emulated ones, or cards of the host by their PCI addresses (`0000:01:00.0`). */
  gpu?: { kind: 'virtio' | 'bochs' } | { kind: 'pci'; slots: string[] };
  /** Squashfs with the driver of cards that are passed through; see docs/gpu.md. */
  driverLayer?: string;
  /** Extra kernel words, for tests and debugging. */
  kernelWords?: string[];
  /** Whom `ya-vm ps` and `ya-vm stop` take for its owner, when that is not the process that starts it. */
  supervisor?: { pid: number; startTime: number };
  /** Free-form label shown by `ya-vm ps`: image name and command. */
  title?: string;
}

/** The phases of a start that a person is shown, in order; each is reported with its duration. */
/** `image`: before the VM's own, when the command line had to build one. */
/** `template`: made, for this VM and those after it. `restore` stands for `kernel` and `agent`. */
export type PhaseName =
  | 'image'
  | 'accelerator'
  | 'disk'
  | 'template'
  | 'restore'
  | 'kernel'
  | 'agent'
  | 'file systems'
  | 'command';
export interface Phase {
  name: PhaseName;
  milliseconds: number;
}

/** One command to run in a VM. */
export interface CommandSpec {
  argv: string[];
  argv0?: string;
  env: string[];
  cwd?: string;
  user?: string;
  rlimits?: Record<string, [number, number]>;
  tty?: { rows: number; columns: number };
  /** Open a stdin stream; without it the command reads /dev/null. */
  stdin?: boolean;
  /** 'pipe' streams to the host; 'merge' (stderr only) is the same pipe as stdout. Default pipe. */
  stdout?: 'pipe' | 'discard' | { file: string; append?: boolean };
  stderr?: 'pipe' | 'discard' | 'merge' | { file: string; append?: boolean };
  noNewPrivileges?: boolean;
  memoryLimit?: number;
  pidsLimit?: number;
}

/** How a command ended, as the host tells it. */
export interface CommandResult {
  /** Exit code, or 128 + signal. */
  exitCode: number;
  signal?: number;
  outOfMemory: boolean;
  /** False when the output that the guest announced had not arrived 5 s after the exit notice. */
  complete: boolean;
  totals: ExitedEvent['totals'];
  cpu: ExitedEvent['cpu'];
  memoryPeak: number;
}

export type VmState = 'new' | 'launching' | 'booting' | 'configuring' | 'running' | 'stopping' | 'ended';

/** vm.json in the run folder: what `ps`, `shell`, `console` and the janitor read. */
export interface VmRecord {
  id: string;
  title: string;
  /** The supervising ya-vm process and QEMU, each with its start time in clock ticks (field 22 of /proc/PID/stat), against recycled pids. */
  supervisor: { pid: number; startTime: number };
  qemu: { pid: number; startTime: number } | null;
  state: VmState;
  started: string;
  memoryMiB: number;
  cpus: number;
  accel: 'kvm' | 'tcg';
  /** How it started. */
  start: 'template' | 'boot';
  layers: string[];
  hostname: string;
  /** Path of the console's pty, when there is one. */
  console: string | null;
}

export type { StatsReply };
