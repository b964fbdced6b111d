/**
 * Messages on the control port, one CBOR map a frame. The guest owns this file; the host imports it.
 *
 * Three shapes, told apart by their keys: a request `{id, op, …}`, its reply `{id, ok}` or `{id, error}`,
 * and a notification `{event, …}`. Unknown fields are ignored; an unknown `op` is refused with `unknown-request`.
 * The validators that turn bytes into these types are in validate.ts.
 */

import type { WireError } from './wire-error.ts';

export type { GuestErrorCode, WireError } from './wire-error.ts';

/** Version of the protocol: raised when an old peer could misread a new one, not for added fields or requests. */
export const PROTOCOL_VERSION = 1;

/** Names of the virtio-serial ports, as QEMU's `virtserialport,name=` and sysfs show them. */
export const PORTS = { control: 'yavm.control', data: 'yavm.data', log: 'yavm.log' } as const;

// ---------------------------------------------------------------- start: hello, prepare, configure, ready

/** First message of the guest: it is up and knows only its shape. */
export interface Hello {
  event: 'hello';
  protocol: number;
  /** Version of the agent. */
  agent: string;
  features: string[];
  /** Kernel release. */
  kernel: string;
  /** Milliseconds since the kernel's start, by CLOCK_BOOTTIME: when /init began, modules were loaded, hello was sent. */
  boot: { init: number; modules: number; hello: number };
  /** Bytes of usable memory and number of CPUs. */
  memory: number;
  cpus: number;
}

/** A disk by its virtio-blk serial (at most 20 bytes). */
export interface DiskRef {
  serial: string;
}

/** What the kernel does when a file system of a disk has an error: ext4's mount option. Default remount-ro. */
export type DiskErrors = 'continue' | 'remount-ro' | 'panic';

/** Where the root's writable layer lives: a disk (made with `mke2fs` on the host), or memory. */
export type UpperSpec = (DiskRef & { errors?: DiskErrors }) | { ram: number };

/** Something mounted into the task's root. Missing directories are created. */
export type MountSpec =
  | {
      kind: 'disk';
      serial: string;
      path: string;
      readOnly?: boolean;
      type?: string;
      /** Instead of what the guest mounts ext4 with; then `errors` has no effect. */
      options?: string;
      errors?: DiskErrors;
    }
  | { kind: 'ram'; size: number; path: string; mode?: number; noExec?: boolean; noSuid?: boolean }
  /** A directory of the instance's own disk: persistent over the VM's life, counted in its quota. */
  | { kind: 'directory'; path: string; mode?: number }
  | { kind: 'virtiofs'; tag: string; path: string; readOnly?: boolean }
  | { kind: '9p'; tag: string; path: string; readOnly?: boolean };

export interface RouteSpec {
  /** `a.b.c.d/p`, `x::/p`, or `default`. */
  to: string;
  via?: string;
  metric?: number;
}

/** One link. It is found by `mac` (as QEMU was told), then named and brought up. */
export interface LinkSpec {
  /** MAC that the NIC has now. */
  mac: string;
  /** Name to give it, `eth0`. */
  name: string;
  /** MAC to set, when it is to differ (VPN: 90:13 + IPv4). */
  setMac?: string;
  mtu?: number;
  /** false: the guest computes checksums and cuts segments itself, for a peer that would not. Default: as the NIC offers. */
  offloads?: boolean;
  /** `address/prefix`. */
  addresses: string[];
  routes?: RouteSpec[];
}

export interface NetworkSpec {
  links?: LinkSpec[];
  /** Host name → address, written to /etc/hosts. */
  hosts?: Record<string, string>;
  nameservers?: string[];
  searchDomains?: string[];
}

/**
 * `prepare`: does what every task of this shape needs and no task decides, so that a snapshot of the VM has it behind it:
 * drivers are loaded, yet none touches a disk or a NIC. May come once, before configure; a host need not send it.
 */
export interface PrepareRequest {
  op: 'prepare';
}

/** `ping`: is the guest there, and what is its uptime. */
export interface PingRequest {
  op: 'ping';
}

/** `configure`: all that differs between two VMs of one shape. Its reply ({@link Ready}) means the task can start. */
export interface ConfigureRequest {
  op: 'configure';
  hostname: string;
  /** Squashfs layers, topmost first. None: the root is the upper layer alone (tests). */
  layers: DiskRef[];
  upper: UpperSpec;
  mounts?: MountSpec[];
  network?: NetworkSpec;
  modules?: ModulesSpec;
  /** Graphics cards are set up, and the task gets what it needs of them. Absent: they are left alone. */
  gpu?: GpuSpec;
  /**
   * After `prepare`: PCI device numbers (bus 0, function 0) of the virtio devices that this VM has. The others only hold a
   * place, and stay without a driver. Absent: all of them are real.
   */
  slots?: number[];
  /** Host's wall clock, seconds since the epoch with fraction, when the guest's uptime was {@link uptime}. */
  clock: number;
  /** As a ping's reply has it; absent: it is now. A request may be on its way, and under way, for longer than clocks may differ. */
  uptime?: number;
  /** Fresh random bytes of the host, at least 32, for the guest's pool. */
  entropy: Uint8Array;
  /** Memory that all commands together may take, bytes; default: all but a small reserve for kernel and agent. */
  memoryLimit?: number;
  logLevel?: LogLevel;
}

export interface Ready {
  /** Milliseconds spent on each step of configure, in order. */
  steps: { name: string; milliseconds: number }[];
  /** Graphics cards whose driver works, when they were asked for. */
  gpus?: GuestGpu[];
}

/** Kernel modules of this VM, beside those that the agent needs and those that its devices ask for. */
export interface ModulesSpec {
  /** Parameters by module, as modprobe.d's `options` has them: `name=value name2=value`. */
  options?: Record<string, string>;
  /** Modules that no device's alias loads. */
  blacklist?: string[];
  /** Modules to load in any case, in this order. */
  load?: string[];
}

export interface GpuSpec {
  /** Squashfs disk with a driver: kernel modules, firmware, and what programs link with (docs/gpu.md). */
  layer?: DiskRef;
  /** Also what draws: nvidia-modeset and nvidia-drm. */
  graphics?: boolean;
}

/** A graphics card as the guest has it. */
export interface GuestGpu {
  /** `0000:01:00.0`, in the VM. */
  slot: string;
  /** PCI ids. */
  vendor: number;
  device: number;
  /** Kernel driver. */
  driver: string;
  /** Device nodes of the task: `/dev/nvidia0`, `/dev/dri/renderD128`, `/dev/kfd`. */
  nodes: string[];
}

// ---------------------------------------------------------------- run

/** Where a command's output stream goes. */
export type OutputSpec = { stream: number } | 'discard' | { file: string; append?: boolean };

/** `run`: starts a command. The request's id names the process from then on. Streams are numbered by the host. */
export interface RunRequest {
  op: 'run';
  /** argv[0] is searched in the PATH of `env`, unless it has a slash. */
  argv: string[];
  /** argv[0] as the program sees it, when it differs. */
  argv0?: string;
  /** `KEY=value`; the whole environment. PATH and HOME get defaults when missing. */
  env: string[];
  cwd?: string;
  /** `name|uid[:group|gid]`, by the image's /etc/passwd and /etc/group. Default root. */
  user?: string;
  /** POSIX name without RLIMIT_ in lower case → [soft, hard]; -1 = unlimited. */
  rlimits?: Record<string, [number, number]>;
  /** Stream that feeds stdin; absent: /dev/null. */
  stdin?: number;
  stdout: OutputSpec;
  /** `stdout` = the same pipe as stdout (ordered as written). */
  stderr: OutputSpec | 'stdout';
  /** A terminal: stdin and stdout streams are its two directions, stderr is ignored. */
  tty?: { rows: number; columns: number };
  noNewPrivileges?: boolean;
  /** Limits of the command's cgroup: bytes, number of tasks. */
  memoryLimit?: number;
  pidsLimit?: number;
}

export interface RunReply {
  pid: number;
}

/** A command ended. Sent after all that was in its pipes at that moment; `totals` tell the host what to wait for. */
export interface ExitedEvent {
  event: 'exited';
  /** id of the run request. */
  process: number;
  /** Exactly one of the two. */
  code?: number;
  signal?: number;
  /** The kernel's out-of-memory killer took a process of this command. */
  outOfMemory: boolean;
  /** Bytes sent so far on each captured stream. */
  totals: { stdout?: number; stderr?: number };
  /** CPU time in milliseconds and peak memory in bytes, of the command's cgroup. */
  cpu: { user: number; system: number };
  memoryPeak: number;
}

/** The kernel's out-of-memory killer acted in a command's cgroup, while the command goes on. */
export interface OutOfMemoryEvent {
  event: 'out-of-memory';
  process: number;
  kills: number;
}

// ---------------------------------------------------------------- the other requests

/** `signal`: to the command's process, or with `tree` to every process of its cgroup. */
export interface SignalRequest {
  op: 'signal';
  process: number;
  signal: number;
  tree?: boolean;
}

/** `resize`: window size of a command with a tty. */
export interface ResizeRequest {
  op: 'resize';
  process: number;
  rows: number;
  columns: number;
}

/** `input`: ends stdin (the same as an `end` frame on its stream), or drops it at once. */
export interface InputRequest {
  op: 'input';
  process: number;
  action: 'close';
}

export interface MountRequest {
  op: 'mount';
  mount: MountSpec;
}

export interface NetworkRequest {
  op: 'network';
  network: NetworkSpec;
}

/**
 * `read-files`: sends a file's bytes, or a directory (or file) as a POSIX tar, on `stream`.
 * The reply comes when all bytes were sent; paths resolve beneath the task's root.
 */
export interface ReadFilesRequest {
  op: 'read-files';
  path: string;
  stream: number;
  format: 'file' | 'tar';
}

/** `write-files`: the reverse. The reply comes when everything that the stream brought is on the file system. */
export interface WriteFilesRequest {
  op: 'write-files';
  path: string;
  stream: number;
  format: 'file' | 'tar';
  /** For a file: permission bits and owner; parents are created 0755 with the same owner. */
  mode?: number;
  uid?: number;
  gid?: number;
}

export interface FilesReply {
  /** Bytes of the stream, and entries of a tar. */
  bytes: number;
  entries: number;
  /** Of a tar: extended attributes that do not go along, or that the file system does not take (protocol.md). */
  leftOut?: number;
}

/**
 * `cancel`: gives up the file transfer that an earlier request started. What it has half written is removed; that
 * request fails. No failure when the transfer is over already: the two may cross.
 */
export interface CancelRequest {
  op: 'cancel';
  /** id of the read-files or write-files request. */
  request: number;
}

export interface StatsRequest {
  op: 'stats';
  /** Also the figures of one running command. */
  process?: number;
}

export interface StatsReply {
  /** Milliseconds since the guest's boot. */
  uptime: number;
  /** Bytes. `agent` is the agent's resident set. */
  memory: { total: number; available: number; agent: number };
  /** Milliseconds of CPU time of all commands so far. */
  cpu: { user: number; system: number };
  root: { total: number; free: number };
  links: { name: string; rxBytes: number; txBytes: number }[];
  processes: number;
  process?: { cpu: { user: number; system: number }; memory: number; memoryPeak: number; tasks: number };
}

/** `shutdown`: TERM to all commands, KILL after `grace` milliseconds, sync, unmount, power off. Replied to before the power goes. */
export interface ShutdownRequest {
  op: 'shutdown';
  grace: number;
}

export interface LogLevelRequest {
  op: 'log-level';
  level: LogLevel;
}

/** Only in the test build of the agent: raises an uncaught exception, a rejection, or a kernel panic. */
export interface AbortRequest {
  op: 'abort';
  how: 'exception' | 'rejection' | 'panic';
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

export type RequestBody =
  | PingRequest
  | PrepareRequest
  | ConfigureRequest
  | RunRequest
  | SignalRequest
  | InputRequest
  | ResizeRequest
  | MountRequest
  | NetworkRequest
  | ReadFilesRequest
  | WriteFilesRequest
  | CancelRequest
  | StatsRequest
  | ShutdownRequest
  | LogLevelRequest
  | AbortRequest;

export type Operation = RequestBody['op'];
export type RequestOf<Op extends Operation> = Extract<RequestBody, { op: Op }>;

/** What each request is answered with. */
export interface ReplyOf {
  /** Milliseconds since the guest's boot, with fraction. */
  ping: { uptime: number };
  prepare: Record<string, never>;
  configure: Ready;
  run: RunReply;
  signal: Record<string, never>;
  input: Record<string, never>;
  resize: Record<string, never>;
  mount: Record<string, never>;
  network: Record<string, never>;
  'read-files': FilesReply;
  'write-files': FilesReply;
  cancel: Record<string, never>;
  stats: StatsReply;
  shutdown: Record<string, never>;
  'log-level': Record<string, never>;
  abort: Record<string, never>;
}

/** The guest found bytes on a port that are no frames; that port is dead from then on. */
export interface ProtocolErrorEvent {
  event: 'protocol-error';
  port: string;
  message: string;
}

export type Notification = Hello | ExitedEvent | OutOfMemoryEvent | ProtocolErrorEvent;
export type Request = RequestBody & { id: number };
export type Reply = { id: number; ok: unknown } | { id: number; error: WireError };
