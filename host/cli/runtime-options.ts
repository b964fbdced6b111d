/** The options of upstream's runtime, for the commands that stand in for it (the spec's runtime-vm.md, 1.2). */
import type { Command } from 'commander';
import { type ProviderGpu, providerGpu } from '../gpu/options.ts';
import { bootFiles } from '../lib/kernel-set.ts';
import type { BootAssets } from '../runtime/types.ts';
import { type Endpoints, type EndpointUrl, parseEndpoint } from '../runtime-api/endpoint.ts';
import { collect, forOption, parseHostname, usageError } from './options.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Host name of a VM that nobody named. */
const DEFAULT_HOSTNAME = 'golem';
const DEFAULT_GIB = 0.25;
/** Far above any machine; keeps sums exact. */
const MAX_GIB = 1024 * 1024;
const MAX_CPUS = 4096;

/** The runtime's own; those with defaults by environment are read in {@link readRuntimeOptions}. */
export function addRuntimeOptions(command: Command): void {
  command
    .option('-w, --workdir <folder>', "the activity's folder")
    .option('-t, --task-package <file>', 'image; repeat it for layers, the topmost first', collect(String))
    .option('--cpu-cores <n>', 'virtual CPUs (default: 1)', forOption('--cpu-cores', parseCount))
    .option('--mem-gib <gib>', `memory of the VM (default: ${DEFAULT_GIB})`, forOption('--mem-gib', parseGib))
    .option(
      '--storage-gib <gib>',
      `size of its disk (default: ${DEFAULT_GIB})`,
      forOption('--storage-gib', parseGib),
    )
    .option('--volume-override <json>', 'volumes: {"/path": {"ram": {"size": "1 GB"}}}; host, ram, storage')
    .option('--hostname <name>', `host name in the VM (default: ${DEFAULT_HOSTNAME})`)
    .option(
      '--vpn-endpoint <url>',
      "where the supervisor's VPN is: udp://IP:PORT, tcp-connect://IP:PORT, tcp-listen://127.0.0.1:0",
      forOption('--vpn-endpoint', parseEndpoint),
    )
    .option('--inet-endpoint <url>', 'the same for the internet', forOption('--inet-endpoint', parseEndpoint))
    .option(
      '--pci-device <id>',
      "address of a graphics card for the VM; may be repeated; 'ya-vm gpu check' says whether it can be passed",
      collect(String),
    )
    .option(
      '--hugepages <2M|1G|off>',
      'all memory in huge pages that this host has set aside (default: YA_VM_HUGEPAGES, else off)',
    )
    .option('--test-timeout <seconds>', 'accepted')
    .option('--test-cpu-cores <n>', 'accepted')
    .option('--test-mem-gib <gib>', 'accepted');
}

export interface RuntimeOptions {
  workFolder: string;
  /** Topmost first; may be empty: only `deploy` needs them. */
  packages: string[];
  cpus: number;
  memoryGib: number;
  storageGib: number;
  hostname: string;
  volumeOverride?: string;
  endpoints: Endpoints<EndpointUrl>;
  gpu: ProviderGpu;
}

/** As commander names them. */
interface Given {
  workdir?: string;
  taskPackage?: string[];
  cpuCores?: number;
  memGib?: number;
  storageGib?: number;
  hostname?: string;
  volumeOverride?: string;
  vpnEndpoint?: EndpointUrl;
  inetEndpoint?: EndpointUrl;
}

/** @throws {YavmError} YAVM_E_USAGE, YAVM_E_UNSUPPORTED */
export function readRuntimeOptions(
  given: Readonly<Record<string, unknown>>,
  env: Environment,
): RuntimeOptions {
  const { workdir, taskPackage, cpuCores, memGib, storageGib, hostname, volumeOverride } = given as Given;
  const { vpnEndpoint: vpn, inetEndpoint: inet } = given as Given;
  if (!workdir) throw usageError('-w, --workdir is missing');
  return {
    workFolder: workdir,
    packages: taskPackage ?? [],
    cpus: cpuCores ?? 1,
    memoryGib: memGib ?? DEFAULT_GIB,
    storageGib: storageGib ?? DEFAULT_GIB,
    hostname: forOption(
      '--hostname',
      parseHostname,
    )(hostname ?? (env.YA_RUNTIME_HOSTNAME || DEFAULT_HOSTNAME)),
    volumeOverride: volumeOverride ?? env.YA_RUNTIME_VOLUME_OVERRIDE,
    endpoints: { vpn, inet },
    gpu: providerGpu(given, env),
  };
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= MAX_CPUS) return count;
  throw usageError(`'${text}' is no number of CPUs`);
}

/** As the supervisor prints them, unrounded: `16.092196479439735`. */
function parseGib(text: string): number {
  const gib = /^\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : Number.NaN;
  if (gib > 0 && gib <= MAX_GIB) return gib;
  throw usageError(`'${text}' is no number of GiB`);
}

/** What a provider's VMs boot. @throws {YavmError} YAVM_E_KERNEL_SET */
export function providerAssets(env: Environment): BootAssets {
  return bootFiles(env);
}
