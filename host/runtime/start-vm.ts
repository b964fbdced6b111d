/** Starts a VM: the order in which its parts come to be, each phase reported with its time. */

import { closeSync } from 'node:fs';
import type { Native } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import { type PassedCard, passCards } from '../gpu/select.ts';
import { HOST } from '../gpu/sysfs.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { cacheFolder, runBase } from '../lib/paths.ts';
import { startTimeOf } from '../lib/process.ts';
import { findProgram } from '../lib/programs.ts';
import type { NicBackend } from '../network/types.ts';
import { chooseAccelerator } from './accelerator.ts';
import { DiskGauge } from './disk-gauge.ts';
import { readTscKhz } from './host-clock.ts';
import { cleanUp } from './janitor.ts';
import { launchQemu } from './launch.ts';
import { qemuUser } from './privileges.ts';
import type { DiskArguments } from './qemu-arguments.ts';
import { createRunFolder } from './run-folder.ts';
import { type ShareServers, startShareServers } from './share-servers.ts';
import { bootKey, StartCache } from './start-cache.ts';
import type { Phase, PhaseName, VmRecord, VmSpec } from './types.ts';
import type { UserNetwork } from './user-network.ts';
import { Vm } from './vm.ts';
import { openDisks } from './vm-disks.ts';
import { bootDeadline, checkSpec, lockingTime, planNics } from './vm-plan.ts';

export interface StartOptions {
  logger?: Logger;
  /** Gives the start up; a VM that runs is not touched by it. */
  signal?: AbortSignal;
  onPhase?(phase: Phase): void;
  /** QEMU runs: for who counts what a boot takes. The VM is not ready, and ends here when the start fails. */
  onVm?(vm: Vm): void;
  native?: Native;
  env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds until hello; default by how long boots took before. */
  bootDeadline?: number;
  /** QEMU's -cpu; default what works with the accelerator. */
  cpuModel?: string;
  /**
   * What the NICs are plugged into, in the order of `spec.network.links`; default nothing. The descriptors are taken over,
   * whatever becomes of the start.
   */
  nics?: readonly (NicBackend | null)[];
  /** QEMU's user network at a socket, beside the NICs. The descriptor is taken over too. */
  userNetwork?: UserNetwork;
}

/**
 * Starts a VM and waits until it can run commands. Nothing of it is left when this fails.
 * @throws {YavmError} YAVM_E_VM_SPEC, YAVM_E_QEMU_MISSING, YAVM_E_MKE2FS_MISSING, YAVM_E_KVM, YAVM_E_ASSETS, YAVM_E_IMAGE,
 * YAVM_E_ROOT_DISK, YAVM_E_DISK_FULL, YAVM_E_VOLUMES, YAVM_E_RUN_FOLDER, YAVM_E_GPU_…; of the boot: YAVM_E_BOOT_TIMEOUT, YAVM_E_QEMU_DIED, YAVM_E_GUEST_PANIC,
 * YAVM_E_AGENT_ABORT; of the configuration: YAVM_E_GUEST_…; the signal's reason.
 */
export async function startVm(spec: VmSpec, options: StartOptions = {}): Promise<Vm> {
  const native = options.native ?? loadNative();
  const { nics = [], userNetwork } = options;
  const cables = [...nics, userNetwork].flatMap((end) => end?.fd ?? []);
  try {
    return await startWith(native, cables, spec, options);
  } catch (error) {
    for (const fd of cables) native.close(fd);
    throw error;
  }
}

/** `cables`: descriptors of the NICs, emptied when the launcher has taken them over. */
async function startWith(native: Native, cables: number[], spec: VmSpec, options: StartOptions): Promise<Vm> {
  const { signal, env = process.env, logger = silentLogger } = options;
  const phase = stopwatch(options.onPhase);
  checkSpec(spec);
  const nics = planNics(spec, options.nics);
  signal?.throwIfAborted();
  const program = findProgram('qemu-system-x86_64', env);
  const cache = new StartCache(cacheFolder(env));
  const base = runBase(env);
  cleanUp(base, native, logger);
  const folder = createRunFolder(base, native);
  let vm: Vm | undefined;
  let disks: DiskArguments[] = [];
  let cards: PassedCard[] = [];
  let disk: DiskGauge | undefined;
  let shares: ShareServers | undefined;
  try {
    cards = claimCards(spec, native);
    const { accel, cpuModel } = await chooseAccelerator(spec.accel, {
      assets: spec.assets,
      native,
      cache,
      cacheFolder: cacheFolder(env),
      logger,
      cpuModel: options.cpuModel,
      signal,
    });
    phase('accelerator');
    disks = await openDisks(spec, signal);
    disk = new DiskGauge(disks.filter(({ readOnly }) => !readOnly).map(({ fd }) => fd));
    phase('disk');
    const { manifest } = spec.assets;
    shares = startShareServers(spec.shares ?? [], { native, folder: folder.path, env, manifest });
    // From here on the descriptors are the launcher's.
    const [opened, passed] = [disks.splice(0), cards.splice(0)];
    cables.length = 0;
    const qemu = launchQemu(
      {
        ...spec,
        name: `ya-vm-${folder.id}`,
        accel,
        cpuModel,
        tscKhz: accel === 'tcg' ? readTscKhz() : undefined,
        disks: opened,
        nics,
        userNetwork: options.userNetwork,
        shareDevices: shares.devices,
        cards: passed,
      },
      native,
    );
    vm = new Vm({ folder, qemu, logger, disk, shares, record: recordOf(spec, folder.id, accel, qemu) });
    options.onVm?.(vm);
    const key = bootKey(accel, program, spec.assets, spec.cpus);
    const deadline = options.bootDeadline ?? bootDeadline(accel, cache.bootTime(key)) + lockingTime(spec);
    const { boot } = await vm.boot(deadline, signal);
    const agent = Math.max(0, boot.hello - boot.init);
    const whole = phase('kernel', agent);
    cache.addBoot(key, whole);
    options.onPhase?.({ name: 'agent', milliseconds: Math.round(agent) });
    await vm.configure(spec, deadline, signal);
    phase('file systems');
    // The start is over: of 39 MB of Node's code and constants, what follows needs a quarter.
    native.dropProgramPages();
    return vm;
  } catch (error) {
    if (vm) {
      await vm.kill();
    } else {
      for (const { fd } of disks) native.close(fd);
      for (const { lock } of cards) closeSync(lock);
      disk?.close();
      await shares?.close();
      folder.remove();
    }
    throw error;
  }
}

/** @throws {YavmError} YAVM_E_GPU_… */
function claimCards({ gpu, memoryMiB }: VmSpec, native: Native): PassedCard[] {
  if (gpu?.kind !== 'pci') return [];
  const user = (devices: readonly string[]) => qemuUser(undefined, devices);
  return passCards(gpu.slots, memoryMiB, { roots: HOST, user, locker: native });
}

/** Reports each phase with the time since the last one. */
function stopwatch(
  onPhase: ((phase: Phase) => void) | undefined,
): (name: PhaseName, less?: number) => number {
  let last = performance.now();
  return (name, less = 0) => {
    const now = performance.now();
    const passed = now - last;
    last = now;
    onPhase?.({ name, milliseconds: Math.max(0, Math.round(passed - less)) });
    return passed;
  };
}

function recordOf(
  spec: VmSpec,
  id: string,
  accel: 'kvm' | 'tcg',
  { pid, startTime }: { pid: number; startTime: number },
): VmRecord {
  return {
    id,
    title: spec.title ?? '',
    supervisor: spec.supervisor ?? { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0 },
    qemu: { pid, startTime },
    state: 'new',
    started: new Date().toISOString(),
    memoryMiB: spec.memoryMiB,
    cpus: spec.cpus,
    accel,
    layers: spec.layers,
    hostname: spec.hostname,
    console: null,
  };
}
