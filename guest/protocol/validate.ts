/**
 * Validators of every message, as tables: what crosses a port is typed only after it passed here.
 *
 * The guest checks requests, the host checks replies and notifications; neither trusts the other. The bounds are far
 * above what real messages need and far below what would hurt the receiver; a whole message is at most 1 MiB anyway.
 */
import {
  boolean,
  bytes,
  type Check,
  dictionary,
  either,
  has,
  integer,
  list,
  matching,
  number,
  object,
  oneOf,
  optional,
  tagged,
  text,
  ValidationError,
  word,
} from './check.ts';
import { MAX_CONTROL_PAYLOAD } from './frames.ts';
import type {
  DiskErrors,
  DiskRef,
  ExitedEvent,
  FilesReply,
  GpuSpec,
  GuestErrorCode,
  GuestGpu,
  Hello,
  LinkSpec,
  LogLevel,
  ModulesSpec,
  MountSpec,
  NetworkSpec,
  Notification,
  Operation,
  OutputSpec,
  Ready,
  ReplyOf,
  RequestOf,
  RouteSpec,
  RunReply,
  StatsReply,
  UpperSpec,
  WireError,
} from './messages.ts';

// ---------------------------------------------------------------- words

/** PATH_MAX. */
const path = word(4096, 1);
const stream = integer(1, 0xffffffff);
/** Request ids, which also name processes. */
export const requestId = integer(1);
const size = integer(0);
const milliseconds = number(0, 1e15);
const mode = integer(0, 0o7777);
const owner = integer(0, 0xfffffffe);
const windowSide = integer(0, 0xffff);
/** virtio-blk's serial field has 20 bytes. */
const serial = matching(/^[\x21-\x7e]{1,20}$/, 20, 'a disk serial (1 to 20 printable characters)');
/** Also keeps white space and line breaks out of /etc/hosts. */
const hostName = matching(/^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/, 253, 'a host name');
const address = matching(/^[0-9A-Fa-f:.]{2,45}$/, 45, 'an IP address');
const prefix = matching(/^[0-9A-Fa-f:.]{2,45}\/[0-9]{1,3}$/, 49, 'an address with a prefix length');
const destination = matching(/^(default|[0-9A-Fa-f:.]{2,45}\/[0-9]{1,3})$/, 49, 'a prefix or `default`');
const mac = matching(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/, 17, 'a MAC address');
/** IFNAMSIZ - 1. */
const linkName = matching(/^[A-Za-z0-9._-]{1,15}$/, 15, 'a link name');
const tag = matching(/^[A-Za-z0-9._-]{1,36}$/, 36, 'a share tag');
/** One string of a command: MAX_ARG_STRLEN is less, but that refusal (E2BIG) is the kernel's to make. */
const argument = word(MAX_CONTROL_PAYLOAD);
const logLevel = oneOf<LogLevel>('trace', 'debug', 'info', 'warn', 'error', 'silent');

// ---------------------------------------------------------------- parts of requests

const disk = object<DiskRef>({ serial });
const errors = optional(oneOf<DiskErrors>('continue', 'remount-ro', 'panic'));
const upper = either(
  has('ram'),
  object<{ ram: number }>({ ram: integer(4096) }),
  object<DiskRef & { errors?: DiskErrors }>({ serial, errors }),
) as Check<UpperSpec>;

type Mount<Kind extends MountSpec['kind']> = Extract<MountSpec, { kind: Kind }>;

const mount = tagged<MountSpec>('kind', {
  disk: object<Mount<'disk'>>({
    kind: oneOf('disk'),
    serial,
    path,
    readOnly: optional(boolean),
    type: optional(matching(/^[a-z0-9_]{1,32}$/, 32, 'a file system type')),
    options: optional(word(1024)),
    errors,
  }),
  ram: object<Mount<'ram'>>({
    kind: oneOf('ram'),
    size: integer(4096),
    path,
    mode: optional(mode),
    noExec: optional(boolean),
    noSuid: optional(boolean),
  }),
  directory: object<Mount<'directory'>>({ kind: oneOf('directory'), path, mode: optional(mode) }),
  virtiofs: object<Mount<'virtiofs'>>({ kind: oneOf('virtiofs'), tag, path, readOnly: optional(boolean) }),
  '9p': object<Mount<'9p'>>({ kind: oneOf('9p'), tag, path, readOnly: optional(boolean) }),
});

const route = object<RouteSpec>({
  to: destination,
  via: optional(address),
  metric: optional(integer(0, 0xffffffff)),
});

const link = object<LinkSpec>({
  mac,
  name: linkName,
  setMac: optional(mac),
  mtu: optional(integer(68, 65535)),
  offloads: optional(boolean),
  addresses: list(prefix, 64),
  routes: optional(list(route, 1024)),
});

const network = object<NetworkSpec>({
  links: optional(list(link, 32)),
  hosts: optional(dictionary(hostName, address, 4096)),
  nameservers: optional(list(address, 16)),
  searchDomains: optional(list(hostName, 32)),
});

const file = object<{ file: string; append?: boolean }>({ file: path, append: optional(boolean) });
const streamed = object<{ stream: number }>({ stream });
const isText = (value: unknown) => typeof value === 'string';
const output = either(isText, oneOf('discard'), either(has('stream'), streamed, file)) as Check<OutputSpec>;
const errorOutput = either((value) => value === 'stdout', oneOf('stdout'), output);

const soft = integer(-1);
const limit: Check<[number, number]> = (value) => list(soft, 2, 2)(value) as [number, number];
const window = object<{ rows: number; columns: number }>({ rows: windowSide, columns: windowSide });
const transfer = { path, stream, format: oneOf('file', 'tar') } as const;

const moduleName = matching(/^[A-Za-z0-9_-]+$/, 64, "a kernel module's name");
const modules = object<ModulesSpec>({
  options: optional(dictionary(moduleName, text(1024), 256)),
  blacklist: optional(list(moduleName, 256)),
  load: optional(list(moduleName, 256)),
});
const gpu = object<GpuSpec>({ layer: optional(disk), graphics: optional(boolean) });

// ---------------------------------------------------------------- requests

/** One validator an operation: the guest's table. */
export const requests: { [Op in Operation]: Check<RequestOf<Op>> } = {
  ping: object<RequestOf<'ping'>>({ op: oneOf('ping') }),
  prepare: object<RequestOf<'prepare'>>({ op: oneOf('prepare') }),
  configure: object<RequestOf<'configure'>>({
    op: oneOf('configure'),
    hostname: matching(
      /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/,
      64,
      'a host name of at most 64 characters',
    ),
    layers: list(disk, 32),
    upper,
    mounts: optional(list(mount, 128)),
    network: optional(network),
    modules: optional(modules),
    gpu: optional(gpu),
    slots: optional(list(integer(1, 31), 31)),
    clock: number(0, 1e11),
    uptime: optional(number(0, 1e15)),
    entropy: bytes(32, 4096),
    memoryLimit: optional(integer(1)),
    logLevel: optional(logLevel),
  }),
  run: object<RequestOf<'run'>>({
    op: oneOf('run'),
    argv: list(argument, 65536, 1),
    argv0: optional(argument),
    env: list(argument, 65536),
    cwd: optional(path),
    user: optional(word(256, 1)),
    rlimits: optional(dictionary(matching(/^[a-z]{1,16}$/, 16, 'a limit name'), limit, 32)),
    stdin: optional(stream),
    stdout: output,
    stderr: errorOutput,
    tty: optional(window),
    noNewPrivileges: optional(boolean),
    memoryLimit: optional(integer(1)),
    pidsLimit: optional(integer(1, 4194304)),
  }),
  signal: object<RequestOf<'signal'>>({
    op: oneOf('signal'),
    process: requestId,
    signal: integer(0, 64),
    tree: optional(boolean),
  }),
  resize: object<RequestOf<'resize'>>({
    op: oneOf('resize'),
    process: requestId,
    rows: windowSide,
    columns: windowSide,
  }),
  input: object<RequestOf<'input'>>({ op: oneOf('input'), process: requestId, action: oneOf('close') }),
  mount: object<RequestOf<'mount'>>({ op: oneOf('mount'), mount }),
  network: object<RequestOf<'network'>>({ op: oneOf('network'), network }),
  'read-files': object<RequestOf<'read-files'>>({ op: oneOf('read-files'), ...transfer }),
  'write-files': object<RequestOf<'write-files'>>({
    op: oneOf('write-files'),
    ...transfer,
    mode: optional(mode),
    uid: optional(owner),
    gid: optional(owner),
  }),
  cancel: object<RequestOf<'cancel'>>({ op: oneOf('cancel'), request: requestId }),
  stats: object<RequestOf<'stats'>>({ op: oneOf('stats'), process: optional(requestId) }),
  shutdown: object<RequestOf<'shutdown'>>({ op: oneOf('shutdown'), grace: integer(0, 3_600_000) }),
  'log-level': object<RequestOf<'log-level'>>({ op: oneOf('log-level'), level: logLevel }),
  abort: object<RequestOf<'abort'>>({ op: oneOf('abort'), how: oneOf('exception', 'rejection', 'panic') }),
};

// ---------------------------------------------------------------- replies

const nothing = object<Record<string, never>>({});
const cpu = object<{ user: number; system: number }>({ user: milliseconds, system: milliseconds });
const files = object<FilesReply>({ bytes: size, entries: size, leftOut: optional(size) });

/** One validator an operation for the `ok` of its reply: the host's table. */
export const replies: { [Op in Operation]: Check<ReplyOf[Op]> } = {
  ping: object<ReplyOf['ping']>({ uptime: milliseconds }),
  prepare: nothing,
  configure: object<Ready>({
    steps: list(object<Ready['steps'][number]>({ name: text(64), milliseconds }), 64),
    gpus: optional(
      list(
        object<GuestGpu>({
          slot: text(32),
          vendor: integer(0, 0xffff),
          device: integer(0, 0xffff),
          driver: text(64),
          nodes: list(path, 256),
        }),
        64,
      ),
    ),
  }),
  run: object<RunReply>({ pid: integer(1, 4194304) }),
  signal: nothing,
  input: nothing,
  resize: nothing,
  mount: nothing,
  network: nothing,
  'read-files': files,
  'write-files': files,
  cancel: nothing,
  stats: object<StatsReply>({
    uptime: milliseconds,
    memory: object<StatsReply['memory']>({ total: size, available: size, agent: size }),
    cpu,
    root: object<StatsReply['root']>({ total: size, free: size }),
    links: list(object<StatsReply['links'][number]>({ name: text(32), rxBytes: size, txBytes: size }), 256),
    processes: size,
    process: optional(
      object<NonNullable<StatsReply['process']>>({ cpu, memory: size, memoryPeak: size, tasks: size }),
    ),
  }),
  shutdown: nothing,
  'log-level': nothing,
  abort: nothing,
};

const GUEST_ERRORS: readonly GuestErrorCode[] = [
  'bad-request',
  'unknown-request',
  'not-configured',
  'already-configured',
  'unknown-process',
  'spawn-failed',
  'unknown-user',
  'mount-failed',
  'module-failed',
  'disk-missing',
  'network-failed',
  'gpu-failed',
  'hook-failed',
  'hook-version',
  'file-failed',
  'bad-archive',
  'shutting-down',
  'internal',
];

/** A newer guest may have codes that this host does not know: they count as `internal`, the message tells the rest. */
const errorCode: Check<GuestErrorCode> = (value) => {
  const code = text(64)(value) as GuestErrorCode;
  return GUEST_ERRORS.includes(code) ? code : 'internal';
};

/** The `error` of a reply. */
export const wireError: Check<WireError> = object<WireError>({
  code: errorCode,
  message: text(32 * 1024),
  errno: optional(matching(/^E[A-Z0-9]+$/, 32, 'an errno name')),
  syscall: optional(text(64)),
  path: optional(text(16 * 1024)),
});

// ---------------------------------------------------------------- notifications

const exitedFields = object<ExitedEvent>({
  event: oneOf('exited'),
  process: requestId,
  code: optional(integer(0, 255)),
  signal: optional(integer(1, 127)),
  outOfMemory: boolean,
  totals: object<ExitedEvent['totals']>({ stdout: optional(size), stderr: optional(size) }),
  cpu,
  memoryPeak: size,
});

const exited: Check<ExitedEvent> = (value) => {
  const event = exitedFields(value);
  if ((event.code === undefined) === (event.signal === undefined)) {
    throw new ValidationError('exactly one is needed', 'code, signal');
  }
  return event;
};

/** One validator an event: the host's table. */
export const notifications: { [E in Notification['event']]: Check<Extract<Notification, { event: E }>> } = {
  hello: object<Hello>({
    event: oneOf('hello'),
    protocol: integer(0, 0xffff),
    agent: text(64),
    features: list(text(64), 64),
    kernel: text(256),
    boot: object<Hello['boot']>({ init: milliseconds, modules: milliseconds, hello: milliseconds }),
    memory: size,
    cpus: integer(1, 8192),
  }),
  exited,
  'out-of-memory': object<Extract<Notification, { event: 'out-of-memory' }>>({
    event: oneOf('out-of-memory'),
    process: requestId,
    kills: size,
  }),
  'protocol-error': object<Extract<Notification, { event: 'protocol-error' }>>({
    event: oneOf('protocol-error'),
    port: text(64),
    message: text(4096),
  }),
};
