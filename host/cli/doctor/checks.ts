/** The checks of `doctor`, as a table in the order in which they are printed. Each asks the probes, and nothing else. */
import { join } from 'node:path';
import { isYavmError } from '../../lib/errors.ts';
import type { ProgramName } from '../../lib/programs.ts';
import { formatSize } from '../../lib/size.ts';
import { DEMO_IMAGE } from '../vm-options.ts';
import { checkIpv6, checkPasst, checkPing } from './network.ts';
import type { Probes } from './probes.ts';

export type Status = 'ok' | 'warn' | 'fail';

export interface Finding {
  status: Status;
  /** What was found. */
  detail: string;
  /** The exact command, or the sentence, that puts it right. */
  fix?: string;
}

export interface CheckRow {
  name: string;
  check(probes: Probes): Promise<Finding> | Finding;
}

const ok = (detail: string): Finding => ({ status: 'ok', detail });
const warn = (detail: string, fix?: string): Finding => ({ status: 'warn', detail, fix });
const fail = (detail: string, fix?: string): Finding => ({ status: 'fail', detail, fix });

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

const WITHOUT_VIRTIOFSD =
  "no volumes as the runtime of a stock exe-unit, nor by --volume, unless the VM's kernel has 9p";
const WITHOUT_MKSQUASHFS = 'no images can be built, nor run from archives and folders';

export const CHECKS: readonly CheckRow[] = [
  { name: 'machine', check: checkMachine },
  { name: 'node', check: checkNode },
  { name: 'qemu', check: checkQemu },
  { name: '/dev/kvm', check: checkKvmDevice },
  { name: 'acceleration', check: checkAcceleration },
  { name: 'mke2fs', check: checkMke2fs },
  { name: 'virtiofsd', check: (probes) => checkOptional(probes, 'virtiofsd', WITHOUT_VIRTIOFSD) },
  { name: 'mksquashfs', check: (probes) => checkOptional(probes, 'mksquashfs', WITHOUT_MKSQUASHFS) },
  { name: 'passt', check: checkPasst },
  { name: 'ping', check: checkPing },
  { name: 'IPv6', check: checkIpv6 },
  { name: 'kernel and initramfs', check: checkAssets },
  { name: 'demo image', check: checkDemoImage },
  { name: 'memory', check: checkMemory },
  { name: 'run folder', check: checkRunFolder },
  { name: 'disk folder', check: checkDiskFolder },
  { name: 'cache folder', check: checkCacheFolder },
  { name: 'templates', check: checkTemplates },
];

function checkMachine({ platform, architecture }: Probes): Finding {
  if (platform === 'linux' && architecture === 'x64') return ok('Linux on x86-64');
  return fail(`${platform} on ${architecture}`, 'ya-vm needs Linux on x86-64: use such a machine.');
}

/** Lowest Node that runs TypeScript sources as they are (package.json: engines). */
const MIN_NODE: readonly [number, number] = [22, 18];

function checkNode({ nodeVersion }: Probes): Finding {
  if (atLeast(nodeVersion, MIN_NODE)) return ok(nodeVersion);
  return fail(
    `${nodeVersion}, older than ${MIN_NODE.join('.')}`,
    'Run build/out/ya-vm: it uses the pinned Node. If it is not there: make build',
  );
}

/** Debian 12's. Older ones lack parts of -sandbox and of the device properties that are used. */
const MIN_QEMU: readonly [number, number] = [7, 2];

async function checkQemu(probes: Probes): Promise<Finding> {
  const path = probes.find('qemu-system-x86_64');
  const version = /version (\d+\.\d+(?:\.\d+)?)/.exec((await probes.output(path, ['--version'])) ?? '')?.[1];
  if (!version) return fail(`${path} does not run`, 'sudo apt-get install --reinstall qemu-system-x86');
  if (atLeast(version, MIN_QEMU)) return ok(`${version} (${path})`);
  return fail(`${version}, older than ${MIN_QEMU.join('.')}`, 'ya-vm needs the QEMU of Debian 12 or newer.');
}

async function checkKvmDevice(probes: Probes): Promise<Finding> {
  const { exists, read, write } = await probes.access('/dev/kvm');
  if (exists && read && write) return ok('readable and writable');
  if (exists) {
    return warn(
      `user ${probes.user} may not open it`,
      `sudo usermod -aG kvm ${probes.user}   (then log in again; for this session only: newgrp kvm)`,
    );
  }
  const flags =
    /^flags\s*:(.*)$/m.exec((await probes.readText('/proc/cpuinfo')) ?? '')?.[1]?.split(' ') ?? [];
  if (flags.includes('vmx')) return warn('not there, but the CPU can', 'sudo modprobe kvm_intel');
  if (flags.includes('svm')) return warn('not there, but the CPU can', 'sudo modprobe kvm_amd');
  return warn(
    'not there: no virtualization in this CPU',
    'Turn on VT-x or AMD-V in the firmware; inside a VM, nested virtualization on its host.',
  );
}

/** By a boot, not by the device: it may open and still not run a guest (nested, broken firmware). */
async function checkAcceleration(probes: Probes): Promise<Finding> {
  const { usable, reason } = await probes.acceleration();
  if (usable) return ok('KVM: a guest booted with it');
  const byRoot = /started by root/.test(reason);
  return warn(
    `emulation (TCG), several times slower: ${reason}`,
    byRoot
      ? 'sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm'
      : 'Emulation does for trying things out; for more see /dev/kvm above.',
  );
}

function checkMke2fs(probes: Probes): Finding {
  return ok(probes.find('mke2fs'));
}

/** A program that most VMs do without; `without`: what there is not, then. */
function checkOptional(probes: Probes, program: ProgramName, without: string): Finding {
  try {
    return ok(probes.find(program));
  } catch (error) {
    if (!isYavmError(error)) throw error;
    return warn(`${error.message}: ${without}`, error.hint);
  }
}

const BUILD = 'make build';

async function checkAssets(probes: Probes): Promise<Finding> {
  const folder = probes.kernel?.() ?? probes.assets;
  const text = await probes.readText(join(folder, 'manifest.json'));
  if (text === null) return fail(`no manifest.json in ${folder}`, BUILD);
  const manifest = parseObject(text);
  const files = [
    { name: 'vmlinux', sha256: shaOf(manifest?.vmlinux) },
    { name: 'initramfs.cpio.zst', sha256: shaOf(manifest?.initramfs) },
  ];
  for (const { name, sha256 } of files) {
    if (sha256 === null)
      return fail(`${join(folder, 'manifest.json')} is damaged`, `${BUILD}, or: ya-vm initramfs build`);
    const actual = await probes.sha256(join(folder, name));
    if (actual === null)
      return fail(`${join(folder, name)} is missing`, `${BUILD}, or: ya-vm initramfs build`);
    if (actual !== sha256) {
      return fail(
        `${name} is not the one that the manifest describes`,
        `${BUILD}, or: ya-vm initramfs build`,
      );
    }
  }
  const release = (manifest?.kernel as { release?: unknown } | undefined)?.release;
  const where = folder === probes.assets ? '' : ` in ${folder}`;
  return ok(`Linux ${String(release)}${where}, checksums match`);
}

async function checkDemoImage(probes: Probes): Promise<Finding> {
  const path = join(probes.assets, DEMO_IMAGE);
  const found = await probes.stat(path);
  return found
    ? ok(`${path}, ${formatSize(found.size)}`)
    : warn(`${path} is missing: --image is needed`, BUILD);
}

/** A default VM takes its 512 MiB, QEMU and ya-vm about 150 MiB. */
const GOOD_MEMORY = 768 * MIB;
/** The smallest VM that does something, with QEMU and ya-vm. */
const LEAST_MEMORY = 256 * MIB;

async function checkMemory(probes: Probes): Promise<Finding> {
  const meminfo = await probes.readText('/proc/meminfo');
  const available = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo ?? '')?.[1]) * 1024;
  if (Number.isNaN(available)) return warn('unknown: /proc/meminfo cannot be read');
  const limit = await cgroupRoom(probes);
  const room = Math.min(available, limit);
  const text = `${formatSize(room)} available${limit < available ? " (this process's cgroup limits it)" : ''}`;
  if (room >= GOOD_MEMORY) return ok(text);
  const fix =
    limit < available
      ? 'Raise the memory limit of the container or service, or use --memory 128M.'
      : 'End something, or use --memory 128M.';
  return room >= LEAST_MEMORY ? warn(text, fix) : fail(text, fix);
}

/** Bytes until the memory limit of our cgroup v2 and of those above it; Infinity without one. */
async function cgroupRoom(probes: Probes): Promise<number> {
  const own = /^0::(\/.*)$/m.exec((await probes.readText('/proc/self/cgroup')) ?? '')?.[1];
  if (own === undefined) return Number.POSITIVE_INFINITY;
  let room = Number.POSITIVE_INFINITY;
  for (let path = own; ; path = join(path, '..')) {
    const folder = join('/sys/fs/cgroup', path);
    const [max, current] = await Promise.all([
      probes.readText(join(folder, 'memory.max')),
      probes.readText(join(folder, 'memory.current')),
    ]);
    const left = Number(max?.trim()) - Number(current?.trim());
    // Number('max') is NaN, and so is a file that is not there.
    if (!Number.isNaN(left) && max !== null && current !== null) room = Math.min(room, Math.max(0, left));
    if (path === '/') return room;
  }
}

/** Longest socket path in a run folder: sun_path's 108 bytes, less NUL, `/`, an id and `/control.sock`. */
const MAX_RUN_BASE = 107 - '/0123456789abcdef/control.sock'.length;

const OTHER_RUN_FOLDER = 'mkdir -p -m 700 /tmp/run-$(id -u); export XDG_RUNTIME_DIR=/tmp/run-$(id -u)';

async function checkRunFolder(probes: Probes): Promise<Finding> {
  const { runBase, uid } = probes;
  if (Buffer.byteLength(runBase) > MAX_RUN_BASE) {
    return fail(`${runBase}: too long for the path of a socket`, OTHER_RUN_FOLDER);
  }
  const found = await probes.stat(runBase);
  if (found && (!found.isDirectory || found.uid !== uid)) {
    return fail(`${runBase} is not a folder of ${probes.user}`, OTHER_RUN_FOLDER);
  }
  if (found && (found.mode & 0o077) !== 0) {
    return fail(`${runBase} can be entered by others`, `chmod 700 ${runBase}`);
  }
  const asked = { what: 'records and sockets of running VMs', least: MIB, elsewhere: OTHER_RUN_FOLDER };
  return await checkSpace(probes, runBase, asked);
}

const OTHER_DISK_FOLDER = 'export YAVM_DISK_DIR=FOLDER-ON-A-DISK';

/** Root disks are as large as what VMs write; in memory they would take that away from everything else. */
async function checkDiskFolder(probes: Probes): Promise<Finding> {
  const asked = { what: 'root disks of VMs', least: GIB, elsewhere: OTHER_DISK_FOLDER };
  const found = await checkSpace(probes, probes.disks, asked);
  const inMemory = (await probes.fileSystem(probes.disks))?.inMemory;
  if (!inMemory || found.status === 'fail') return found;
  return warn(`${found.detail}, but it is memory (tmpfs)`, OTHER_DISK_FOLDER);
}

/** Without a cache everything works, only slower: what was learnt is learnt again. */
async function checkCacheFolder(probes: Probes): Promise<Finding> {
  const elsewhere = 'export XDG_CACHE_HOME=FOLDER-OF-YOURS';
  const asked = { what: 'kernels and templates', least: GIB, elsewhere };
  const found = await checkSpace(probes, probes.cache, asked);
  return found.status === 'fail' ? { ...found, status: 'warn' } : found;
}

const TEMPLATES_ELSEWHERE = 'export YA_VM_TEMPLATES=FOLDER-OF-YOURS';

/** Without templates every VM boots, which is slower and nothing else. */
async function checkTemplates(probes: Probes): Promise<Finding> {
  const facts = await probes.templates?.();
  if (facts === undefined) return warn('unknown');
  const { choice, folder, limit, count, size } = facts;
  if (choice === 'cold') return ok('none are used: YA_VM_START=cold');
  if (limit === 0) return ok('none are made: YA_VM_TEMPLATES_LIMIT=0');
  const asked = { what: 'them', least: 256 * MIB, elsewhere: TEMPLATES_ELSEWHERE };
  const { status, detail, fix } = await checkSpace(probes, folder, asked);
  const text = `${count}, ${formatSize(size)} of at most ${formatSize(limit)}`;
  if (status === 'ok') return ok(`${text}; ${folder}`);
  return warn(`${text}; ${detail}: where none can be made, VMs boot`, fix);
}

interface SpaceNeed {
  what: string;
  /** Fewer free bytes are a warning. */
  least: number;
  /** The command that chooses another folder. */
  elsewhere: string;
}

async function checkSpace(
  probes: Probes,
  path: string,
  { what, least, elsewhere }: SpaceNeed,
): Promise<Finding> {
  const parent = await nearestFolder(probes, path);
  if (!(await probes.access(parent)).write) {
    return fail(`${parent}: user ${probes.user} may not write there`, elsewhere);
  }
  const system = await probes.fileSystem(path);
  if (!system) return warn(`${path}: free space unknown`);
  const text = `${path}: ${formatSize(system.free)} free for ${what}`;
  return system.free >= least ? ok(text) : warn(text, `df -h ${parent}   (make room, or: ${elsewhere})`);
}

async function nearestFolder(probes: Probes, path: string): Promise<string> {
  let folder = path;
  while (folder !== '/' && !(await probes.stat(folder))) folder = join(folder, '..');
  return folder;
}

/** Compares the first numbers of a version. */
export function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}

function shaOf(entry: unknown): string | null {
  const sha256 = (entry as { sha256?: unknown } | null | undefined)?.sha256;
  return typeof sha256 === 'string' ? sha256 : null;
}
