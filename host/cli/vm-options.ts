/** The options that `run` and `shell` share: which VM, from which images, and with what environment. */
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { LocalNetworkOptions } from '../exe-unit/local-network.ts';
import { YavmError } from '../lib/errors.ts';
import { bootFiles, trusted } from '../lib/kernel-set.ts';
import { assetsFolder } from '../lib/paths.ts';
import { parseSize } from '../lib/size.ts';
import type { AccelChoice, BootAssets, ShareSpec, StartChoice, VmSpec } from '../runtime/types.ts';
import { addGpuOptions, readGpuOptions } from './gpu-option.ts';
import { addNetworkOptions, readNetworkOptions } from './network-options.ts';
import {
  collect,
  forOption,
  mergeEnv,
  parseChoice,
  parseCpus,
  parseEnv,
  parseEnvFile,
  parseGuestPath,
  parseHostname,
  parseMemory,
  parseRlimit,
  parseStorage,
  type Rlimit,
  usageError,
} from './options.ts';
import { parseTmpfs, parseVolume, readVolumes, type Tmpfs, type Volumes } from './volumes.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Host name of a VM that nobody named; the one that tasks on Golem see. */
const DEFAULT_HOSTNAME = 'golem';
const DEFAULT_MEMORY_MIB = 512;
const DEFAULT_STORAGE = 2 * 1024 ** 3;
/** The image of `run` and `shell` without `--image`, in the folder of the assets. */
export const DEMO_IMAGE = 'demo.gvmi';

export const ACCELERATORS: readonly AccelChoice[] = ['auto', 'kvm', 'tcg'];
export const STARTS: readonly StartChoice[] = ['auto', 'cold', 'template'];

/** Adds the options. */
export function addVmOptions(command: Command): void {
  command
    .option(
      '--image <image>',
      '.gvmi, squashfs, docker-archive:FILE[:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG], a folder or tar (default: the demo image); repeat it for layers, the topmost first',
      collect(String),
    )
    .option(
      '-e, --env <K=V>',
      'environment variable; K alone takes its value from here; may be repeated',
      collect(String),
    )
    .option('--env-file <file>', 'file with one variable a line; may be repeated', collect(String))
    .option(
      '-w, --cwd <path>',
      "working directory (default: the image's)",
      forOption('--cwd', parseGuestPath),
    )
    .option('-u, --user <user>', "name or uid, [:group] (default: the image's, else root)")
    .option(
      '--rlimit <name=soft[:hard]>',
      'limit of the command, as nofile=1024:4096; may be repeated',
      collect(forOption('--rlimit', parseRlimit)),
    )
    .addOption(memoryOption())
    .option('--cpus <n>', 'virtual CPUs', forOption('--cpus', parseCpus), 1)
    .option('--storage <size>', 'size of the root disk (default: 2G)', forOption('--storage', parseStorage))
    .option(
      '--ram-root <size>',
      'keep what is written to / in memory instead of on a disk',
      forOption('--ram-root', parseSize),
    )
    .option('--root-disk <file>', 'keep the root disk in this file, and keep it')
    .option(
      '-v, --volume <folder:path[:ro]>',
      'a folder of this host at a path in the VM; may be repeated',
      collect(forOption('--volume', parseVolume)),
    )
    .option(
      '--tmpfs <path[:options]>',
      'memory at a path in the VM, as /cache:size=64M,mode=1777; may be repeated',
      collect(forOption('--tmpfs', parseTmpfs)),
    )
    .option(
      '--hostname <name>',
      'host name in the VM',
      forOption('--hostname', parseHostname),
      DEFAULT_HOSTNAME,
    )
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration',
      forOption('--accel', (text) => parseChoice(text, ACCELERATORS, 'accelerator')),
      'auto',
    )
    .option(
      '--start <auto|cold|template>',
      'go on from a template, or boot (default: YA_VM_START, else a template where one fits)',
      forOption('--start', (text) => parseChoice(text, STARTS, 'start')),
    )
    .option(
      '--kernel-set <name>',
      'boot this kernel set: cloud, generic, gpu (default: YA_VM_KERNEL_SET, else cloud)',
    )
    .option('--kernel <file>', 'boot this vmlinux; with --initramfs')
    .option('--initramfs <file>', 'boot this initramfs; manifest.json is taken from its folder')
    .option('--name <title>', "what 'ya-vm ps' shows (default: image and command)")
    .option('--no-progress', 'do not show the phases of the start on a terminal');
  addGpuOptions(command);
  addNetworkOptions(command);
}

export function memoryOption(): Option {
  const option = new Option('-m, --memory <size>', 'memory of the VM');
  return option
    .argParser(forOption('--memory', parseMemory))
    .default(DEFAULT_MEMORY_MIB, `${DEFAULT_MEMORY_MIB}M`);
}

/** The options as read. */
export interface VmOptions {
  images: string[];
  assets: BootAssets;
  env: string[];
  cwd?: string;
  user?: string;
  rlimits: Rlimit[];
  memoryMiB: number;
  cpus: number;
  root: VmSpec['root'];
  rootDisk?: string;
  gpu: Pick<VmSpec, 'gpu' | 'driverLayer' | 'hugepages'>;
  volumes: Volumes;
  /** Null: none. */
  network: LocalNetworkOptions | null;
  hostname: string;
  accel: AccelChoice;
  start?: StartChoice;
  name?: string;
  progress: boolean;
}

/** Reads the options, and the files that they name. @throws {YavmError} YAVM_E_USAGE, YAVM_E_ENV_FILE, YAVM_E_VOLUMES, YAVM_E_KERNEL_SET */
export async function readVmOptions(
  options: Record<string, unknown>,
  environment: Environment,
): Promise<VmOptions> {
  const given = options as {
    image?: string[];
    env?: string[];
    envFile?: string[];
    cwd?: string;
    user?: string;
    rlimit?: Rlimit[];
    memory: number;
    cpus: number;
    storage?: number;
    ramRoot?: number;
    rootDisk?: string;
    volume?: ShareSpec[];
    tmpfs?: Tmpfs[];
    hostname: string;
    accel: AccelChoice;
    start?: StartChoice;
    kernel?: string;
    initramfs?: string;
    kernelSet?: string;
    name?: string;
    progress: boolean;
  };
  const assets = readAssets(given.kernel, given.initramfs, environment, given.kernelSet);
  return {
    images: given.image ?? [join(assetsFolder(environment), DEMO_IMAGE)],
    assets,
    env: await readEnv(given.env ?? [], given.envFile ?? [], environment),
    cwd: given.cwd,
    user: given.user,
    rlimits: given.rlimit ?? [],
    memoryMiB: given.memory,
    cpus: given.cpus,
    root: readRoot(given.storage, given.ramRoot, given.rootDisk),
    rootDisk: given.rootDisk,
    gpu: readGpuOptions(options, environment),
    volumes: readVolumes(given.volume ?? [], given.tmpfs ?? [], given.memory),
    network: readNetworkOptions(options, environment),
    hostname: given.hostname,
    accel: given.accel,
    start: given.start,
    name: given.name,
    progress: given.progress,
  };
}

/** Kernel and initramfs; ya-vm's own by default. @throws {YavmError} YAVM_E_USAGE */
export function readAssets(
  kernel: string | undefined,
  initramfs: string | undefined,
  environment: Environment,
  kernelSet?: string,
): BootAssets {
  if ((kernel === undefined) !== (initramfs === undefined)) {
    throw usageError(
      '--kernel and --initramfs belong together',
      'ya-vm initramfs build --output FOLDER makes both.',
    );
  }
  if (kernel === undefined || initramfs === undefined) return bootFiles(environment, kernelSet);
  if (kernelSet !== undefined) throw usageError('--kernel-set excludes --kernel and --initramfs');
  // Whole: the process that opens them may be in another folder.
  const files = { kernel: resolve(kernel), initramfs: resolve(initramfs) };
  return trusted(environment, { ...files, manifest: join(dirname(files.initramfs), 'manifest.json') });
}

function readRoot(
  storage: number | undefined,
  ramRoot: number | undefined,
  rootDisk: string | undefined,
): VmSpec['root'] {
  if (ramRoot === undefined) return { disk: storage ?? DEFAULT_STORAGE };
  if (storage !== undefined || rootDisk !== undefined) {
    throw usageError(
      '--ram-root excludes --storage and --root-disk',
      'The root is either in memory or on a disk.',
    );
  }
  return { ram: ramRoot };
}

/** Files first, then `--env`, each in order; later ones win. */
async function readEnv(entries: string[], files: string[], environment: Environment): Promise<string[]> {
  const fromFiles = await Promise.all(
    files.map(async (file) => {
      try {
        return parseEnvFile(await readFile(file, 'utf8'), file, environment);
      } catch (cause) {
        if (cause instanceof YavmError) throw cause;
        throw new YavmError('YAVM_E_ENV_FILE', `${file}: the environment file cannot be read`, { cause });
      }
    }),
  );
  const parse = forOption('--env', (text) => parseEnv(text, environment));
  const given = entries.map(parse).filter((entry) => entry !== undefined);
  return mergeEnv(fromFiles.flat(), given);
}

/** Longest title that is stored, characters: a command line may have megabytes. */
const MAX_TITLE = 200;

/** `alpine.gvmi: sh -c …` */
export function titleOf(options: VmOptions, argv: readonly string[]): string {
  const title = options.name ?? `${basename(options.images[0] as string)}: ${argv.join(' ')}`;
  return title.length > MAX_TITLE ? `${title.slice(0, MAX_TITLE - 1)}…` : title;
}
