/** The kernel's configuration: where it is found, and what must be built in. */
import { gunzipSync } from 'node:zlib';
import { KernelConfigError } from './errors.ts';

/** Symbol → value (`y`, `m`, a number, a string); what is not set is absent. */
export type KernelConfig = Map<string, string>;

interface BuiltIn {
  symbol: string;
  reason: string;
}

/** What must be `=y`: the guest needs it before it can load a module, or it cannot be a module. */
export const REQUIRED_BUILTINS: readonly BuiltIn[] = [
  { symbol: 'CONFIG_64BIT', reason: 'the agent is a 64-bit program' },
  { symbol: 'CONFIG_PVH', reason: 'QEMU boots the ELF kernel through its PVH entry' },
  { symbol: 'CONFIG_BLK_DEV_INITRD', reason: 'the guest starts from an initramfs' },
  { symbol: 'CONFIG_RD_ZSTD', reason: 'the initramfs is packed with zstd' },
  { symbol: 'CONFIG_BINFMT_ELF', reason: '/init is an ELF program' },
  { symbol: 'CONFIG_PCI', reason: 'QEMU’s devices are on PCI' },
  { symbol: 'CONFIG_ACPI', reason: 'power off, and interrupt routing on q35' },
  { symbol: 'CONFIG_SERIAL_8250_CONSOLE', reason: 'the console for panics' },
  { symbol: 'CONFIG_TTY', reason: 'terminals of commands' },
  { symbol: 'CONFIG_UNIX98_PTYS', reason: 'terminals of commands' },
  { symbol: 'CONFIG_DEVTMPFS', reason: '/dev' },
  { symbol: 'CONFIG_TMPFS', reason: '/tmp, /dev/shm and upper layers in memory' },
  { symbol: 'CONFIG_PROC_FS', reason: '/proc' },
  { symbol: 'CONFIG_SYSFS', reason: '/sys: ports and disks are found there' },
  { symbol: 'CONFIG_EPOLL', reason: 'the agent’s event loop' },
  { symbol: 'CONFIG_SIGNALFD', reason: 'the agent’s event loop' },
  { symbol: 'CONFIG_TIMERFD', reason: 'the agent’s event loop' },
  { symbol: 'CONFIG_CGROUPS', reason: 'one cgroup a command' },
  { symbol: 'CONFIG_MEMCG', reason: 'memory limits and out-of-memory reports of commands' },
  { symbol: 'CONFIG_CGROUP_PIDS', reason: 'task limits of commands' },
  { symbol: 'CONFIG_NET', reason: 'the network' },
  { symbol: 'CONFIG_INET', reason: 'the network' },
  { symbol: 'CONFIG_UNIX', reason: 'Unix sockets of tasks' },
  { symbol: 'CONFIG_SQUASHFS_LZO', reason: 'published images are packed with LZO' },
];

/** Compression of squashfs images → symbol. `lzma` was never in the mainline kernel. */
export const SQUASHFS_SYMBOLS = {
  gzip: 'CONFIG_SQUASHFS_ZLIB',
  lzo: 'CONFIG_SQUASHFS_LZO',
  xz: 'CONFIG_SQUASHFS_XZ',
  lz4: 'CONFIG_SQUASHFS_LZ4',
  zstd: 'CONFIG_SQUASHFS_ZSTD',
} as const;
export type SquashfsCompression = keyof typeof SQUASHFS_SYMBOLS;

/** Parses a `.config`: `CONFIG_X=value` lines. */
export function parseConfig(text: string): KernelConfig {
  const config: KernelConfig = new Map();
  for (const line of text.split('\n')) {
    const match = /^(CONFIG_\w+)=(.*)$/.exec(line);
    if (match) config.set(match[1] as string, (match[2] as string).replace(/^"(.*)"$/, '$1'));
  }
  return config;
}

/** @throws {KernelConfigError} naming every symbol of {@link REQUIRED_BUILTINS} that is not `=y`. */
export function checkConfig(config: KernelConfig): void {
  const missing = REQUIRED_BUILTINS.filter(({ symbol }) => config.get(symbol) !== 'y');
  if (missing.length === 0) return;
  const listed = missing.map(({ symbol, reason }) => `${symbol} (${reason})`).join(', ');
  throw new KernelConfigError(
    `the kernel was built without: ${listed}`,
    missing.map(({ symbol }) => symbol),
    { hint: 'Use a kernel that has them built in (=y); Debian’s linux-image-cloud-amd64 does.' },
  );
}

/** Compressions of squashfs that this kernel mounts. */
export function squashfsCompressions(config: KernelConfig): SquashfsCompression[] {
  const all = Object.entries(SQUASHFS_SYMBOLS) as [SquashfsCompression, string][];
  return all.filter(([, symbol]) => config.get(symbol) === 'y').map(([name]) => name);
}

/** Markers that CONFIG_IKCONFIG puts around a gzip of the configuration in the kernel (kernel/configs.c). */
const EMBEDDED_START = 'IKCFG_ST';
const EMBEDDED_END = 'IKCFG_ED';
/** A configuration is 0.1–0.3 MB of text. */
const MAX_CONFIG = 4 * 1024 * 1024;

/** The configuration embedded in a vmlinux (CONFIG_IKCONFIG=y), or null. */
export function embeddedConfig(vmlinux: Uint8Array): KernelConfig | null {
  const bytes = Buffer.from(vmlinux.buffer, vmlinux.byteOffset, vmlinux.byteLength);
  const start = bytes.indexOf(EMBEDDED_START, 0, 'latin1');
  if (start < 0) return null;
  const end = bytes.indexOf(EMBEDDED_END, start, 'latin1');
  if (end < 0) return null;
  try {
    const text = gunzipSync(bytes.subarray(start + EMBEDDED_START.length, end), {
      maxOutputLength: MAX_CONFIG,
    });
    return parseConfig(text.toString('utf8'));
  } catch {
    // The markers can occur by chance (they are strings of the kernel's own source): then there is no configuration.
    return null;
  }
}
