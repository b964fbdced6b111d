/**
 * The face of the native addon: what `yavm.node` exports under Node, and what the engine registers as
 * `globalThis.yavmNative` in `/init`. One C++ source, two hosts (docs/architecture.md). Every call is one synchronous system
 * call, or a short fixed series of them; the only asynchronous primitive is `watch`. A failing call throws an `Error` with the
 * fields of {@link NativeError}. File descriptors are plain integers and are opened close-on-exec. Byte buffers are `Uint8Array`.
 */

/** Shape of every error thrown by the addon: the same fields as Node's own system errors. */
export interface NativeError extends Error {
  /** Symbolic errno, `"ENOENT"`. */
  code: string;
  /** Positive errno, `2`. */
  errno: number;
  /** The call that failed, `"execve"`. */
  syscall: string;
  /** The path (or other operand, such as a link name) that it failed on, when there is one. */
  path?: string;
}

/** Result of statfs(2), sizes in bytes. */
export interface FileSystemStats {
  type: number;
  blockSize: number;
  total: number;
  free: number;
  available: number;
  files: number;
  filesFree: number;
}

/** A soft and hard limit by RLIMIT_* number; `-1` means RLIM_INFINITY. */
export type ResourceLimit = [resource: number, soft: number, hard: number];

export interface SpawnOptions {
  /** Candidate paths, tried in order as execvp(3) does (EACCES is remembered, ENOENT/ENOTDIR go on). Never empty. */
  file: string[];
  /** argv, including argv[0]. */
  argv: string[];
  /** `KEY=value` strings: the whole environment. */
  env: string[];
  /** Pairs: descriptor of this process → descriptor number in the child. All others are closed. */
  fds: [parent: number, child: number][];
  /** Directory to chroot(2) into, before `cwd`, as an open descriptor. */
  rootFd?: number;
  /** Working directory, resolved inside the new root; default "/". */
  cwd?: string;
  uid?: number;
  gid?: number;
  /** Supplementary groups; set (even when empty) whenever `gid` is given. */
  groups?: number[];
  rlimits?: ResourceLimit[];
  /** Start a new session (default true). */
  newSession?: boolean;
  /** Child descriptor that becomes the controlling terminal (implies newSession). */
  controllingTerminal?: number;
  /** cgroup v2 directory descriptor: the child is born in it (CLONE_INTO_CGROUP). */
  cgroupFd?: number;
  noNewPrivileges?: boolean;
  /** Signal the child gets when the spawning thread ends (PR_SET_PDEATHSIG, set after the uid change). */
  parentDeathSignal?: number;
  umask?: number;
  /** Value for /proc/self/oom_score_adj. */
  oomScoreAdjust?: number;
  /** Use clone(2) and pidfd_open(2) as on kernels before 5.7, or under a seccomp filter that forbids clone3(2): for tests. */
  legacyClone?: boolean;
}

/** How a child ended: exactly one of `code` and `signal` is set. */
export interface ExitStatus {
  pid: number;
  code?: number;
  signal?: number;
  /** Whether the signal left a core (WCOREDUMP). */
  core?: boolean;
  /** CPU time of the child and its waited-for descendants, microseconds (rusage). */
  userMicroseconds: number;
  systemMicroseconds: number;
}

export interface FileStat {
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Modification time in seconds, fraction kept. */
  mtime: number;
  dev: number;
  ino: number;
  nlink: number;
  rdev: number;
}

export interface DirectoryEntry {
  name: string;
  /** DT_* of the entry (4 directory, 8 regular, 10 symlink …); never DT_UNKNOWN, it is looked up then. */
  type: number;
}

/** Fields of a tar header: prefix and name are one; the flag is a byte. */
export type TarHeader = [
  flag: number,
  name: string,
  linkName: string,
  mode: number,
  uid: number,
  gid: number,
  size: number,
  mtime: number,
  major: number,
  minor: number,
];

/** Events of `watch`, a bit mask: 1 readable (or peer closed), 2 writable. An error or hang-up sets every bit that was asked for. */
export type WatchEvents = number;

/** A frame that the native channel does not consume itself (see guest/protocol/frames.ts for types). */
export type FrameListener = (type: number, stream: number, payload: Uint8Array) => void;

/** Why a channel stopped: the peer closed it, or its bytes are no frames of ours. Called at most once. */
export type ChannelEndListener = (reason: 'closed' | 'protocol' | 'error', message: string) => void;

export interface ChannelOptions {
  /** Largest payload, bytes: a longer frame that comes in ends the channel as `protocol`, sending one throws EMSGSIZE. */
  maxPayload: number;
  /** Bound on bytes queued by `channelSend` while the descriptor is not writable; beyond it ENOBUFS is thrown. */
  maxQueued: number;
  onFrame: FrameListener;
  onEnd: ChannelEndListener;
}

/**
 * Outcome of a source or sink: bytes that passed, and the error when it ended by one. Called exactly once for each that was
 * opened, also when it was stopped, when the channel ended (`EPIPE`) or was closed (`ECANCELED`); never from inside a
 * call of JavaScript. Its number is unknown from then on, but for a sink whose reader is gone: that one ends with sinkStop.
 */
export type TransferEndListener = (total: number, error: NativeError | null) => void;

export interface Native {
  // ---- mount ----
  mount(source: string | null, target: string, type: string | null, flags: number, data: string | null): void;
  umount(target: string, flags: number): void;
  /** MS_MOVE of `newRoot` onto `/`, chroot and chdir into it: what switch_root(8) does. */
  switchRoot(newRoot: string): void;
  pivotRoot(newRoot: string, putOld: string): void;
  chroot(path: string): void;
  statfs(path: string): FileSystemStats;

  // ---- module ----
  /** finit_module(2). `flags`: 1 ignore modversions, 2 ignore vermagic, 4 compressed file (.xz/.zst/.gz, the kernel decompresses). */
  loadModule(fd: number, parameters: string, flags: number): void;
  deleteModule(name: string, flags: number): void;

  // ---- process ----
  /** Starts a program. Returns after a successful execve; a failure before it throws with the call that failed in `syscall`. */
  spawn(options: SpawnOptions): { pid: number; pidfd: number };
  /** waitid(P_PID, WEXITED|WNOHANG): null while the child still runs. */
  waitPid(pid: number): ExitStatus | null;
  /** Reaps children that have ended, whoever started them, `most` at most: PID 1's way. Fewer: none is left. */
  reap(most: number): ExitStatus[];
  kill(pid: number, signal: number): void;
  /** pidfd_send_signal(2): never hits a recycled pid. */
  killPidfd(pidfd: number, signal: number): void;
  /** Returns [master, slave], both O_CLOEXEC, master non-blocking, with the window size given. */
  openPty(rows: number, columns: number): [number, number];
  setWindowSize(fd: number, rows: number, columns: number): void;
  getPid(): number;
  getParentPid(): number;
  getUid(): number;
  /** signalfd(2) for the signals given, which are blocked in this thread; non-blocking. */
  signalFd(signals: number[]): number;
  /** Drains a signalfd: the signal numbers that were pending. */
  readSignals(fd: number): number[];
  /** prctl(PR_SET_DUMPABLE / PR_SET_CHILD_SUBREAPER …), for options whose argument is a plain number; EINVAL for others. */
  prctl(option: number, argument: number): number;
  /** unshare(2) with CLONE_NEW* flags: new namespaces for the calling thread (mount, network, uts; a pid namespace is for its children). */
  unshare(flags: number): void;

  // ---- netlink (every `name` is a link name; addresses are textual, IPv4 or IPv6) ----
  links(): {
    index: number;
    name: string;
    mac: string;
    mtu: number;
    up: boolean;
    rxBytes: number;
    txBytes: number;
  }[];
  linkSet(name: string, change: { up?: boolean; mtu?: number; mac?: string; rename?: string }): void;
  addressAdd(name: string, address: string, prefix: number): void;
  addressRemove(name: string, address: string, prefix: number): void;
  /** `destination` null = default route of the gateway's family; no gateway = on-link. EEXIST is thrown, callers decide. */
  routeAdd(
    name: string,
    destination: string | null,
    prefix: number,
    gateway: string | null,
    metric: number,
  ): void;
  routeRemove(
    name: string,
    destination: string | null,
    prefix: number,
    gateway: string | null,
    metric: number,
  ): void;
  /** ethtool feature switches through SIOCETHTOOL: 'tx-checksum' | 'rx-checksum' | 'sg' | 'tso' | 'gso' | 'gro'. */
  linkFeature(name: string, feature: string, on: boolean): void;

  // ---- device ----
  /** A socket that hears the kernel's announcements of devices (uevents); non-blocking. */
  ueventOpen(): number;
  /** The next: `add@/devices/…`, `KEY=value`, NULs between; empty: not the kernel's; null: none. @throws ENOBUFS: some were lost. */
  ueventRead(fd: number): string | null;
  mknod(path: string, mode: number, major: number, minor: number): void;
  /** ioctl(2) with an integer argument. */
  ioctlInt(fd: number, request: number, argument: number): number;
  /** ioctl(2) with a buffer that is read and written in place. */
  ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number;

  // ---- path and files ----
  // Names are bytes to the kernel. Where they are no UTF-8, each such byte is one of U+DC80…U+DCFF in what readDirectory,
  // readlink, readlinkAt, tarHeader and decodeName return, and every call takes it back as the byte that it was.
  open(path: string, flags: number, mode: number): number;
  /** openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: nothing outside `rootFd` can be reached. */
  openBeneath(rootFd: number, path: string, flags: number, mode: number): number;
  close(fd: number): void;
  /** dup(2), close-on-exec. */
  dup(fd: number): number;
  /** lseek(2); returns the new offset. `whence`: 0 set, 1 current, 2 end, 3 the next data, 4 the next hole. */
  seek(fd: number, offset: number, whence: number): number;
  /** Bytes read into `buffer`; 0 at end; -1 when the descriptor would block. */
  read(fd: number, buffer: Uint8Array): number;
  /** Bytes written; -1 when the descriptor would block. */
  write(fd: number, buffer: Uint8Array): number;
  /** A small file as text, at most `maximum` bytes of it: open, read to the end, close. `rootFd` ≥ 0: as openBeneath; -1: the plain path. */
  readText(rootFd: number, path: string, maximum: number): string;
  /** Writes a kernel file (proc, sys, cgroup) in one write(2); it must exist. `rootFd` as for readText. */
  writeText(rootFd: number, path: string, text: string): void;
  fsync(fd: number): void;
  fstat(fd: number): FileStat;
  stat(path: string): FileStat;
  lstat(path: string): FileStat;
  readlink(path: string): string;
  readDirectory(fd: number): DirectoryEntry[];
  mkdir(path: string, mode: number): void;
  mkdirAt(dirFd: number, name: string, mode: number): void;
  symlink(target: string, path: string): void;
  symlinkAt(target: string, dirFd: number, name: string): void;
  linkAt(oldDirFd: number, oldName: string, newDirFd: number, newName: string): void;
  mknodAt(dirFd: number, name: string, mode: number, major: number, minor: number): void;
  readlinkAt(dirFd: number, name: string): string;
  statAt(dirFd: number, name: string): FileStat;
  unlinkAt(dirFd: number, name: string, directory: boolean): void;
  renameAt(oldDirFd: number, oldName: string, newDirFd: number, newName: string): void;
  chownAt(dirFd: number, name: string, uid: number, gid: number): void;
  /** For nodes that must not be opened. Follows links: the directory must be the caller's own. */
  chmodAt(dirFd: number, name: string, mode: number): void;
  chmodFd(fd: number, mode: number): void;
  chownFd(fd: number, uid: number, gid: number): void;
  /** utimensat(2) on a name, symlinks not followed; seconds with fraction. */
  utimesAt(dirFd: number, name: string, seconds: number): void;
  unlink(path: string): void;
  rmdir(path: string): void;
  /** ftruncate(2). */
  truncate(fd: number, size: number): void;
  /** One splice(2): bytes moved, without a copy where the kernel can; 0 at the end of `from`, -1 when it would block. One of the two must be a pipe (EINVAL). */
  splice(from: number, to: number, most: number): number;
  /** Where in a page of memory `buffer` begins: 0 … 4095. */
  pageOffset(buffer: Uint8Array): number;
  /**
   * Writes `buffer` at `offset` of a regular file that has nothing there yet. Long runs of zeros become holes, and much at
   * once goes past the page cache (O_DIRECT) where the file system lets it, `offset` is a multiple of 4096 and the buffer's
   * address one of 512. Returns the bytes at the end that were left out: when they are the file's last, truncate makes it whole.
   */
  writeSparse(fd: number, buffer: Uint8Array, offset: number): number;
  /**
   * A new file of one name in a directory, in place of whatever has that name other than a directory: content, owner, mode and
   * time in one call. No link is followed; on failure the name is free.
   */
  putFile(
    dirFd: number,
    name: string,
    bytes: Uint8Array,
    mode: number,
    uid: number,
    gid: number,
    mtime: number,
  ): void;
  /**
   * Unpacks what is at the beginning of `bytes`, part of a tar, as far as it is whole entries of small files right in the
   * directory that the archive calls `directory` (empty: no directory). It stops before anything else, extended headers too,
   * and before an entry that cannot be written, of which nothing is left then. Returns the numbers of entries and bytes.
   */
  putTarFiles(dirFd: number, directory: string, bytes: Uint8Array): [entries: number, bytes: number];
  /** Names of a file's extended attributes, as many as the caller may see; null: none, or its file system has no such thing. */
  listXattrs(fd: number): string[] | null;
  getXattr(fd: number, name: string): Uint8Array;
  setXattr(fd: number, name: string, value: Uint8Array): void;
  /** A file's name as text, from its bytes; and back. */
  decodeName(bytes: Uint8Array): string;
  encodeName(name: string): Uint8Array;
  /** Reads the 512 bytes at `offset` as the header of an entry in a tar archive: null when they are zeros, a text when they are none. */
  tarHeader(bytes: Uint8Array, offset: number): TarHeader | string | null;
  /** pipe2(O_CLOEXEC): [read, write]; the ends named in `nonBlocking` ('read' | 'write' | 'none' | 'both') get O_NONBLOCK; `size` > 0 sets F_SETPIPE_SZ (best effort). */
  pipe(nonBlocking: 'read' | 'write' | 'none' | 'both', size: number): [number, number];
  /** socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC). */
  socketPair(): [number, number];
  /**
   * [listening, connected]: a UNIX socket at `path` with one connection waiting to be accepted. The name is gone when this
   * returns, so that nobody else connects. For programs that take a listening descriptor.
   */
  socketListener(path: string): [number, number];
  setNonBlocking(fd: number, on: boolean): void;
  /** flock(2) LOCK_EX|LOCK_NB (or LOCK_SH): false when another holds it. */
  flock(fd: number, exclusive: boolean): boolean;
  /** FIONREAD: bytes that can be read now. */
  pending(fd: number): number;

  // ---- event loop ----
  /** Calls back whenever `fd` is ready (level-triggered). One watch a descriptor: a second call replaces the events and callback. Regular files throw EPERM. */
  watch(fd: number, events: WatchEvents, callback: (events: WatchEvents) => void): void;
  /** Must be called before the descriptor is closed. Unknown descriptors are ignored. */
  unwatch(fd: number): void;

  // ---- messages ----
  /**
   * Plain CBOR (RFC 8949): numbers, text, bytes, arrays, maps with text keys, booleans, null, undefined; definite lengths,
   * no tags, 16 levels. Each costs the guest a tenth of what cbor-x does in the interpreter. Anything else throws (`ERR_CBOR`).
   */
  cborEncode(value: unknown): Uint8Array;
  cborDecode(bytes: Uint8Array): unknown;

  // ---- stream: a framed, non-blocking descriptor with a native bulk path (guest/protocol/frames.ts) ----
  // A call that takes a descriptor over closes it in the end; when the call throws, it is still the caller's.
  /**
   * Takes over `fd` (made non-blocking, watched). DATA, END and CREDIT frames never reach JS; those of a stream that is not
   * registered are dropped, because they are late. After its end the channel must still be closed.
   */
  channelOpen(fd: number, options: ChannelOptions): number;
  /** Frames go out in the order sent, before the data of sources. @throws EPIPE after the channel's end, ENOBUFS, EMSGSIZE. */
  channelSend(channel: number, type: number, stream: number, payload: Uint8Array): void;
  /** Bytes queued and not yet taken by the descriptor. */
  channelQueued(channel: number): number;
  /** Closes the descriptor, ends all streams; what is queued is lost, and `onEnd` is not called. Unknown channels are ignored. */
  channelClose(channel: number): void;
  /**
   * Pumps `fd` → DATA frames of `stream`, never more than the credit that the peer gave (CREDIT frames add to
   * `credit`), then one END frame. Takes `fd` over. Pipes, sockets, ptys (EIO at hang-up counts as the end), regular files.
   * While less than an eighth of the first `credit` (or 32 KiB) is left, it waits for more instead of sending crumbs: a
   * receiver must give credit back before that much is outstanding.
   */
  sourceOpen(channel: number, stream: number, fd: number, credit: number, onEnd: TransferEndListener): number;
  /** Bytes sent so far, in frames that the descriptor took whole. */
  sourceSent(source: number): number;
  /**
   * Calls back once, with the total sent at that moment, when everything that is in the pipe *now* has been sent,
   * or at its end: what a command's exit notice waits for. Later output goes on being pumped.
   */
  sourceDrain(source: number, callback: (total: number) => void): void;
  /** Ends a source now: closes the descriptor, sends END. Unknown sources are ignored. */
  sourceStop(source: number): void;
  /**
   * DATA frames of `stream` → `fd`, at most `window` bytes held here. A CREDIT frame of the whole window goes out at once: it
   * tells the peer that its bytes will find the sink. More go back, in lumps of a quarter of the window, as `fd` takes bytes.
   * END closes `fd` (for a pty master the EOF character is written instead, when `eofByte` ≥ 0,
   * and it stays open until sinkStop). When the reader is gone (EPIPE) or a write fails, `onEnd` reports it at once, and until
   * END or sinkStop later data is dropped and credited. Data beyond the window ends the channel as `protocol`. Takes `fd` over.
   */
  sinkOpen(
    channel: number,
    stream: number,
    fd: number,
    window: number,
    eofByte: number,
    onEnd: TransferEndListener,
  ): number;
  /** Ends a sink now: closes the descriptor; what is queued is lost. Unknown sinks are ignored. */
  sinkStop(sink: number): void;

  // ---- memory ----
  /** madvise(MADV_DONTNEED) on the program's own code and constants: they are read anew where they are touched again. */
  dropProgramPages(): void;

  // ---- power ----
  /** sync(2). */
  sync(): void;
  /** reboot(2) with a LINUX_REBOOT_CMD_* value. */
  reboot(command: number): void;
  /** Writes `value` to the isa-debug-exit port 0xf4: QEMU exits with (value << 1) | 1. Returns only when there is no such device. */
  debugExit(value: number): void;
  setHostname(name: string): void;
  /** Sets CLOCK_REALTIME, seconds with fraction since the epoch. */
  setClock(seconds: number): void;
  /** CLOCK_MONOTONIC, milliseconds with fraction. */
  monotonic(): number;
  /** RNDADDENTROPY + RNDRESEEDCRNG on /dev/urandom. */
  addEntropy(bytes: Uint8Array): void;
  uname(): { release: string; version: string; machine: string; nodename: string };
}
