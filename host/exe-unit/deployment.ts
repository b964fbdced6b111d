/** From an agreement and a `deploy` command to the VM that `start` boots, and to the commands that run in it. Pure. */
import { basename } from 'node:path';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import type { ImageConfig } from '../image/config.ts';
import { YavmError } from '../lib/errors.ts';
import type { AccelChoice, BootAssets, CommandSpec, VmSpec } from '../runtime/types.ts';
import { checkSpec } from '../runtime/vm-plan.ts';
import { planVolumes } from '../runtime/volume-plan.ts';
import type { CommandOf } from './types.ts';

/** What a deploy has settled. */
export interface Deployment {
  /** The image's file; null: the task's root is empty but for its disk. */
  image: string | null;
  /** Of the image; null when it says nothing. */
  config: ImageConfig | null;
  command: CommandOf<'deploy'>;
}

export interface VmPlan {
  deployment: Deployment;
  /** The agreement's `golem.inf`. */
  limits: Readonly<Record<string, number>>;
  assets: BootAssets;
  accel: AccelChoice;
  /** Where disks take their room. */
  diskFolder: string;
  title: string;
}

const GIB = 1024 ** 3;
/** Upstream's runtime without limits would have a quarter of a GiB; ours what `ya-vm run` gives. */
const DEFAULTS = { memoryGiB: 0.5, storageGiB: 2, cpus: 1 };
/** Host name of a VM that nobody named. */
const DEFAULT_HOSTNAME = 'golem';

/** The VM's specification. @throws {YavmError} YAVM_E_VOLUME, YAVM_E_STORAGE_OVERCOMMIT, YAVM_E_VM_SPEC: it cannot be */
export function planVm({ deployment, limits, assets, accel, diskFolder, title }: VmPlan): VmSpec {
  const { command, image } = deployment;
  const storage = Math.floor((limitOf(limits, 'storage.gib') ?? DEFAULTS.storageGiB) * GIB);
  const volumes = deployment.config?.volumes ?? [];
  const plan = planVolumes(volumes, Object.entries(command.volumes), storage);
  const spec: VmSpec = {
    assets,
    layers: image === null ? [] : [image],
    root: plan.root,
    diskFolder,
    memoryMiB: Math.floor((limitOf(limits, 'mem.gib') ?? DEFAULTS.memoryGiB) * 1024),
    cpus: Math.max(
      1,
      Math.floor(limitOf(limits, 'cpu.threads') ?? limitOf(limits, 'cpu.cores') ?? DEFAULTS.cpus),
    ),
    hostname: command.hostname ?? DEFAULT_HOSTNAME,
    accel,
    title,
  };
  // What a requestor calls a host's directory is one of the instance's own disk: nothing of the host is shared. An image's
  // volume is one too, with the image's content in it, in the quota of the root.
  const directories = plan.directories.map((path): MountSpec => ({ kind: 'directory', path }));
  // Where its commands begin need not be in the image; docker makes it, too. Last, so that it may lie in a volume.
  const home = deployment.config?.workingDir ?? '/';
  const mounts: MountSpec[] = [...directories, ...plan.mounts];
  if (home !== '/') mounts.push({ kind: 'directory', path: home });
  if (mounts.length > 0) spec.mounts = mounts;
  if (plan.disks.length > 0) spec.disks = plan.disks;
  if (Object.keys(command.hosts).length > 0) spec.network = { hosts: command.hosts };
  checkSpec(spec);
  return spec;
}

function limitOf(limits: Readonly<Record<string, number>>, name: string): number | undefined {
  const value = Object.hasOwn(limits, name) ? limits[name] : undefined;
  return value !== undefined && Number.isFinite(value) && value > 0 ? value : undefined;
}

function refused(message: string): YavmError {
  return new YavmError('YAVM_E_DEPLOY', message);
}

/** A command of the script as the guest runs it: user, environment and folder of the image, environment of the deploy. */
export function planRun(
  { config, command }: Deployment,
  { entryPoint, args }: Pick<CommandOf<'run'>, 'entryPoint' | 'args'>,
): CommandSpec {
  const spec: CommandSpec = {
    argv: [entryPoint, ...args],
    // As upstream's VM has it: programs that look at their name see a plain one.
    argv0: basename(entryPoint),
    env: mergeEnv(
      config?.env ?? [],
      Object.entries(command.env).map(([key, value]) => `${key}=${value}`),
    ),
    cwd: config?.workingDir ?? '/',
  };
  if (config?.user) spec.user = config.user;
  return spec;
}

/** `start-entrypoint`: what the image itself wants to run. @throws {YavmError} YAVM_E_DEPLOY when it names nothing. */
export function planEntrypoint(deployment: Deployment): CommandSpec {
  const [entryPoint, ...args] = [...(deployment.config?.entrypoint ?? []), ...(deployment.config?.cmd ?? [])];
  if (entryPoint) return planRun(deployment, { entryPoint, args });
  throw refused('start-entrypoint: the image has neither Entrypoint nor Cmd');
}

/** Later entries replace earlier ones of the same name. */
function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of lists.flat()) merged.set(entry.split('=', 1)[0] as string, entry);
  return [...merged.values()];
}
