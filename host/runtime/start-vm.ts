/** Starts a VM: the order in which its parts come to be, each phase reported with its time. */

import { closeSync } from 'node:fs';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';
import { findCards } from '../gpu/cards.ts';
import { cardsAt, type PassedCard, passCards } from '../gpu/select.ts';
import { HOST } from '../gpu/sysfs.ts';
import { toError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { cacheFolder, runBase } from '../lib/paths.ts';
import { findProgram } from '../lib/programs.ts';
import type { NicBackend } from '../network/types.ts';
import { chooseAccelerator } from './accelerator.ts';
import { DiskGauge } from './disk-gauge.ts';
import { checkGpuDrivers } from './gpu-drivers.ts';
import { checkHugepages, touchingTime, wholePages } from './hugepages.ts';
import { cleanUp } from './janitor.ts';
import { recordOf } from './kept-record.ts';
import { launchQemu } from './launch.ts';
import { qemuUser } from './privileges.ts';
import type { DiskArguments, NicArguments } from './qemu-arguments.ts';
import { createRunFolder } from './run-folder.ts';
import { type ShareServers, startShareServers } from './share-servers.ts';
import { bootKey, StartCache } from './start-cache.ts';
import { chooseTemplate, startChoice } from './template/choose.ts';
import { fillSlots } from './template/placeholders.ts';
import { shapeOf, type TemplateShape } from './template/shape.ts';
import type { OpenTemplate } from './template/store.ts';
import type { Phase, PhaseName, StartChoice, VmSpec } from './types.ts';
import type { UserNetwork } from './user-network.ts';
import { Vm } from './vm.ts';
import { startDisks } from './vm-disks.ts';
import { bootDeadline, checkSpec, lockingTime, planNics } from './vm-plan.ts';

export interface StartOptions {
  logger?: Logger;
  /** Gives the start up; a VM that runs is not touched by it. */
  signal?: AbortSignal;
  onPhase?(phase: Phase): void;
  /** QEMU runs: for who counts what a boot takes. The VM is not ready, and ends here when the start fails. */
  onVm?(vm: Vm): void;
  native?: HostNative;
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
    return await startWith(native, spec, options);
  } finally {
    for (const fd of cables) native.close(fd);
  }
}

/** What a start has at hand. All descriptors stay this side's: QEMU gets copies, for there may be a second one. */
interface Kit {
  native: HostNative;
  logger: Logger;
  spec: VmSpec;
  options: StartOptions;
  phase: ReturnType<typeof stopwatch>;
  cache: StartCache;
  /** Names this kind of boot, see bootKey. */
  bootKey: string;
  /** Until hello, milliseconds. */
  bootDeadline: number;
  runBase: string;
  shape: TemplateShape;
  disks: readonly DiskArguments[];
  nics: readonly NicArguments[];
  cards: readonly PassedCard[];
}

async function startWith(native: HostNative, asked: VmSpec, options: StartOptions): Promise<Vm> {
  const { signal, env = process.env, logger = silentLogger } = options;
  const phase = stopwatch(options.onPhase);
  const spec = wholePages(asked);
  checkSpec(spec);
  if (spec.hugepages) checkHugepages(spec.hugepages, spec.memoryMiB);
  const choice = startChoice(spec.start, env);
  const nics = planNics(spec, options.nics);
  signal?.throwIfAborted();
  const qemu = findProgram('qemu-system-x86_64', env);
  const cache = new StartCache(cacheFolder(env));
  const base = runBase(env);
  cleanUp(base, native, logger);
  let disks: DiskArguments[] = [];
  let made = Promise.resolve();
  let cards: PassedCard[] = [];
  try {
    cards = claimCards(spec, native);
    const { assets, cpus } = spec;
    const accelerator = await chooseAccelerator(spec.accel, {
      assets,
      native,
      cache,
      cacheFolder: cacheFolder(env),
      logger,
      cpuModel: options.cpuModel,
      signal,
    });
    const { accel } = accelerator;
    phase('accelerator');
    ({ disks, made } = await startDisks(spec, signal, env.YA_VM_KERNEL_KEY));
    phase('disk');
    const key = bootKey(accel, qemu, assets, cpus);
    const kit: Kit = {
      native,
      logger,
      spec,
      options,
      phase,
      cache,
      bootKey: key,
      bootDeadline:
        options.bootDeadline ??
        bootDeadline(accel, cache.bootTime(key)) + lockingTime(spec) + touchingTime(spec),
      runBase: base,
      shape: shapeOf(accelerator, spec),
      disks,
      nics,
      cards,
    };
    const vm = (await startFromTemplate(kit, choice, qemu)) ?? (await startFromBoot(kit));
    try {
      // By now they are, as a rule; no guest looks at its disks before.
      await made;
      await vm.configure(spec, kit.bootDeadline, signal);
    } catch (error) {
      await vm.kill();
      throw error;
    }
    phase('file systems');
    // The start is over: of 39 MB of Node's code and constants, what follows needs a quarter.
    native.dropProgramPages();
    return vm;
  } finally {
    await made.catch(() => {});
    for (const { fd } of disks) native.close(fd);
    for (const { lock } of cards) closeSync(lock);
  }
}

/** A guest whose hello was heard. */
async function startFromBoot(kit: Kit): Promise<Vm> {
  const { options, phase } = kit;
  const vm = launch(kit, null);
  try {
    options.onVm?.(vm);
    const { boot } = await vm.boot(kit.bootDeadline, options.signal);
    const agent = Math.max(0, boot.hello - boot.init);
    kit.cache.addBoot(kit.bootKey, phase('kernel', agent));
    options.onPhase?.({ name: 'agent', milliseconds: Math.round(agent) });
    return vm;
  } catch (error) {
    await vm.kill();
    throw error;
  }
}

/** Until a guest that was restored answers, milliseconds: it takes some 75 under emulation. */
const RESTORE_DEADLINE = { kvm: 5000, tcg: 15_000 } as const;

/** The same, from a template. Null: there is none, or it is of no use; why is in the log. */
async function startFromTemplate(kit: Kit, choice: StartChoice, qemu: string): Promise<Vm | null> {
  const { native, logger, spec, options, phase, shape } = kit;
  const { env = process.env, signal, userNetwork } = options;
  const chosen = await chooseTemplate(
    choice,
    shape,
    { ...spec, userNetwork },
    {
      env,
      native,
      logger,
      qemu,
      runBase: kit.runBase,
      bootDeadline: kit.bootDeadline,
      signal,
      insists: choice === 'template',
      onBuilt: () => phase('template'),
    },
  );
  if (chosen === null) return null;
  const { store, key, template } = chosen;
  let vm: Vm | undefined;
  try {
    vm = launch(kit, template);
    await vm.restore(template.record.hello, RESTORE_DEADLINE[shape.accel], signal);
    options.onVm?.(vm);
    phase('restore');
    return vm;
  } catch (error) {
    await vm?.kill();
    signal?.throwIfAborted();
    if (choice === 'template') throw error;
    logger.warn(
      { template: key, err: toError(error) },
      'a template is dropped, and the VM boots: it was not restored',
    );
    store.drop(key);
    return null;
  } finally {
    closeSync(template.ram);
    closeSync(template.state);
  }
}

/** @throws see launchQemu; nothing is left then */
function launch(kit: Kit, template: OpenTemplate | null): Vm {
  const { native, logger, spec, options, shape } = kit;
  const { env = process.env } = options;
  const copy = <T extends { fd: number }>(taken: T): T => ({ ...taken, fd: native.dup(taken.fd) });
  const folder = createRunFolder(kit.runBase, native);
  let disk: DiskGauge | undefined;
  let shares: ShareServers | undefined;
  try {
    disk = new DiskGauge(kit.disks.filter(({ readOnly }) => !readOnly).map(({ fd }) => fd));
    const { manifest } = spec.assets;
    shares = startShareServers(spec.shares ?? [], { native, folder: folder.path, env, manifest });
    const disks = kit.disks.map(copy);
    const nics = kit.nics.map(({ mac, backend }) => ({ mac, backend: backend && copy(backend) }));
    const qemu = launchQemu(
      {
        ...spec,
        ...shape,
        name: `ya-vm-${folder.id}`,
        ...(template === null ? { disks, nics } : fillSlots(disks, nics)),
        template: template && {
          mode: 'use',
          ram: native.dup(template.ram),
          state: native.dup(template.state),
        },
        userNetwork: options.userNetwork && copy(options.userNetwork),
        shareDevices: shares.devices,
        cards: kit.cards.map((card) => ({ ...card, lock: native.dup(card.lock) })),
      },
      native,
    );
    return new Vm({
      folder,
      qemu,
      logger,
      disk,
      shares,
      record: recordOf(spec, folder.id, {
        ...{ accel: shape.accel, qemu },
        start: template === null ? 'boot' : 'template',
      }),
    });
  } catch (error) {
    disk?.close();
    void shares?.close();
    folder.remove();
    throw error;
  }
}

/** @throws {YavmError} YAVM_E_GPU_… */
function claimCards(spec: VmSpec, native: HostNative): PassedCard[] {
  const { gpu, memoryMiB } = spec;
  if (gpu?.kind !== 'pci') {
    checkGpuDrivers(spec);
    return [];
  }
  checkGpuDrivers(
    spec,
    cardsAt(findCards(HOST), gpu.slots).map(({ vendor }) => vendor),
  );
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
