/** A VM for the time of one command: started with its phases shown, open to `ya-vm shell ID`, and always ended. */
import { join } from 'node:path';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import type { CommandHost } from '../attach/port.ts';
import { serveAttach } from '../attach/server.ts';
import type { LocalNetworkOptions } from '../exe-unit/local-network.ts';
import type { Logger } from '../lib/logger.ts';
import type { Phase, VmSpec } from '../runtime/types.ts';
import { type Context, styleOf } from './context.ts';
import type { OpenedImages } from './images.ts';
import { Phases } from './phases.ts';
import type { PlaceOptions, Standing } from './stand-by.ts';
import type { VmOptions } from './vm-options.ts';
import { withImageVolumes } from './volumes.ts';

/** What the command line needs of a VM. */
export interface StartedVm extends CommandHost {
  readonly id: string;
  /** Its run folder. */
  readonly folder: string;
  readonly accel: 'kvm' | 'tcg';
  /** How it came to be. */
  readonly start: 'template' | 'boot';
  /** Its supervisor is another process, which serves attach.sock too. */
  readonly attached?: boolean;
  /** What it has used, names and values in an agreement's order; known at its end. */
  readonly usage?: readonly (readonly [name: string, value: number])[];
  /** Ends it in order: processes, file systems, power. */
  stop(): Promise<void>;
  /** Ends it at once. Both may be called at any time, and more than once. */
  kill(): Promise<void>;
}

export interface StartHooks {
  /** Null: none. */
  network: LocalNetworkOptions | null;
  /** What stood by for this VM; it is taken. */
  standing?: Standing;
  signal: AbortSignal;
  onPhase(phase: Phase): void;
  log: Logger;
  env: Context['env'];
}

export interface StartVm {
  /** Rejects when no VM comes up; there is none left behind then. */
  (spec: VmSpec, hooks: StartHooks): Promise<StartedVm>;
  /** Starts what can be started before it is known what the VM is made of. */
  standBy?(context: Pick<Context, 'env' | 'log'>, options: PlaceOptions): Standing;
}

/** The name of the socket in the run folder. */
export const ATTACH_SOCKET = 'attach.sock';

export interface WithVm<T> {
  context: Context;
  spec: VmSpec;
  network: LocalNetworkOptions | null;
  standing?: Standing;
  phases: Phases;
  signal: AbortSignal;
  start: StartVm;
  use(vm: StartedVm): Promise<T>;
}

/** Starts a VM, lets it be used, and ends it, whatever happens in between. */
export async function withVm<T>(parts: WithVm<T>): Promise<T> {
  const { context, spec, network, standing, phases, signal, start, use } = parts;
  phases.start();
  let vm: StartedVm;
  try {
    vm = await start(spec, {
      network,
      standing,
      signal,
      onPhase: (phase) => phases.add(phase),
      log: context.log,
      env: context.env,
    });
  } catch (error) {
    phases.clear();
    throw error;
  }
  let orderly = false;
  try {
    phases.accelerator = vm.accel;
    const attach = vm.attached ? null : await serveAttach(vm, join(vm.folder, ATTACH_SOCKET), context.log);
    try {
      const result = await use(vm);
      orderly = true;
      return result;
    } finally {
      phases.clear();
      await attach?.close();
    }
  } finally {
    // A disk that is kept must be unmounted in order; one that is thrown away is not worth the time.
    if (orderly && spec.rootDisk !== undefined) await vm.stop();
    else await vm.kill();
  }
}

/** Phases for standard error: a live line when that is a terminal and `--no-progress` was not given. */
export function phasesFor(context: Context, options: Pick<VmOptions, 'progress'>): Phases {
  const { stderr, env } = context;
  const live = options.progress && stderr.isTTY === true && env.TERM !== 'dumb';
  return new Phases({
    write: (text) => void stderr.write(text),
    live,
    columns: () => stderr.columns ?? 80,
    style: styleOf(context, stderr),
    now: () => performance.now(),
  });
}

/** What a VM is made of, from the options and the images. `cwd` is where its command begins: made where it is missing, as docker does. */
export function vmSpecOf(
  options: VmOptions,
  { layers, volumes }: OpenedImages,
  title: string,
  cwd = '/',
): VmSpec {
  return {
    assets: options.assets,
    layers,
    root: options.root,
    rootDisk: options.rootDisk,
    ...options.gpu,
    mounts: [...withImageVolumes(volumes, options.volumes), ...workingDirectory(cwd)],
    shares: options.volumes.shares,
    memoryMiB: options.memoryMiB,
    cpus: options.cpus,
    hostname: options.hostname,
    accel: options.accel,
    start: options.start,
    title,
  };
}

/** None for the root, which is there, and cannot be a volume. */
function workingDirectory(path: string): MountSpec[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return parts.length === 0 || parts.includes('..') ? [] : [{ kind: 'directory', path }];
}
