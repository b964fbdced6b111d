/**
 * KVM or emulation. That /dev/kvm opens says little: nested virtualisation may accept a guest and never finish booting
 * it. So the very kernel and initramfs in use are booted once, with a deadline, and the verdict is kept.
 */
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Native } from '../../native/face.ts';
import { toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { findProgram } from '../lib/programs.ts';
import { GuestClient } from './guest-client.ts';
import { launchQemu } from './launch.ts';
import { KVM_DEVICE, mayOpen, modeOf, type ProcessUser, qemuUser } from './privileges.ts';
import { ensurePrivate } from './run-folder.ts';
import { type KvmVerdict, kvmKey, type StartCache } from './start-cache.ts';
import type { AccelChoice, BootAssets } from './types.ts';

/** A guest is up within a second under a KVM that works. */
const PROBE_DEADLINE = 4000;
/** A guest that did not start may have been slowed down by other load: that verdict is not kept for ever. */
const SILENCE_KEPT = 6 * 3_600_000;
/** For the probe of another start to finish. */
const LOCK_WAIT = PROBE_DEADLINE + 2000;
const PROBE_MEMORY_MIB = 192;

/**
 * All that can be emulated: under TCG there is nothing to find out. Without "fast short strings": to a kernel they say
 * that copying byte by byte is fast, which is true of a CPU, while QEMU emulates each byte. With the words of 8 bytes
 * that are used instead, output of a command is 3 times as fast, and a command starts in 0.9 of the time.
 */
export const TCG_CPU = 'max,-erms,-fsrm';
/**
 * Under KVM `max` is the host's CPU. Hosts that are virtual themselves may not let QEMU set what it sees there (MSR
 * 0x10a, arch-capabilities), or the guest panics on a feature that half works: then with less.
 */
const KVM_CPUS = ['max', 'max,-arch-capabilities', 'kvm64'];

export interface Accelerator {
  accel: 'kvm' | 'tcg';
  /** QEMU's -cpu. */
  cpuModel: string;
}

export interface ProbeOptions {
  assets: BootAssets;
  native: Native;
  cache: StartCache;
  /** Where the lock lies that makes simultaneous starts probe once. */
  cacheFolder: string;
  logger: Logger;
  /** Only this model, instead of what works. */
  cpuModel?: string;
  /** Do not believe an earlier verdict that KVM does not work. */
  again?: boolean;
  signal?: AbortSignal;
}

/**
 * The accelerator for a choice.
 * @throws {YavmError} YAVM_E_KVM when KVM was asked for and does not work here; YAVM_E_QEMU_MISSING
 */
export async function chooseAccelerator(choice: AccelChoice, options: ProbeOptions): Promise<Accelerator> {
  const tcg: Accelerator = { accel: 'tcg', cpuModel: options.cpuModel ?? TCG_CPU };
  if (choice === 'tcg') return tcg;
  const verdict = await kvmVerdict({ ...options, again: choice === 'kvm' });
  if (verdict.usable) return { accel: 'kvm', cpuModel: verdict.cpuModel ?? (KVM_CPUS[0] as string) };
  if (choice === 'auto') {
    options.logger.debug({ reason: verdict.reason }, 'no KVM: the VM is emulated');
    return tcg;
  }
  throw new YavmError('YAVM_E_KVM', `KVM cannot be used: ${verdict.reason}`, {
    hint: 'See what to do: ya-vm doctor. Without KVM, slowly: --accel tcg',
  });
}

/** Whether KVM works here, from the cache or by trying. @throws {YavmError} YAVM_E_QEMU_MISSING */
export async function kvmVerdict(options: ProbeOptions): Promise<KvmVerdict> {
  const obstacle = kvmObstacle();
  if (obstacle !== null) return { usable: false, reason: obstacle };
  const { cache, again, signal } = options;
  const key = kvmKey(findProgram('qemu-system-x86_64'), options.assets, options.cpuModel);
  const known = cache.kvm(key);
  if (known && (known.usable || !again)) return known;
  const release = await lock(options);
  try {
    // Another start may have found out while this one waited.
    const learnt = cache.kvm(key);
    if (learnt && (learnt.usable || !again)) return learnt;
    const models = options.cpuModel ? [options.cpuModel] : KVM_CPUS;
    const verdict = await tryModels(models, (model) => bootProbe(options, model));
    signal?.throwIfAborted();
    cache.setKvm(key, verdict);
    return verdict;
  } finally {
    release();
  }
}

/** Why there is no point in trying; null when there is one. */
export function kvmObstacle(user: ProcessUser | null = qemuUser()): string | null {
  const device = modeOf(KVM_DEVICE);
  if (device === null) return `there is no ${KVM_DEVICE}`;
  if (user !== null) {
    if (mayOpen(device, user)) return null;
    return `QEMU, which runs as uid ${user.uid} when started by root, may not open ${KVM_DEVICE}`;
  }
  try {
    accessSync(KVM_DEVICE, constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    return `${KVM_DEVICE} cannot be opened by this user: ${toError(error).message}`;
  }
}

/** What became of a guest: it said hello; it did not, and did not end either; or QEMU ended, having said this. */
export type ProbeOutcome = 'started' | 'silent' | { said: string };

/** Tries CPU models until a guest starts. After one that hangs nothing more is tried: each would cost the deadline. */
export async function tryModels(
  models: readonly string[],
  boot: (cpuModel: string) => Promise<ProbeOutcome>,
  now: number = Date.now(),
): Promise<KvmVerdict> {
  let reason = 'no CPU model to try';
  for (const cpuModel of models) {
    const outcome = await boot(cpuModel);
    if (outcome === 'started') return { usable: true, reason: '', cpuModel };
    if (outcome === 'silent') {
      reason = `a guest does not start within ${PROBE_DEADLINE / 1000} s (-cpu ${cpuModel})`;
      return { usable: false, reason, until: now + SILENCE_KEPT };
    }
    reason = `QEMU ended (-cpu ${cpuModel}): ${outcome.said || 'no message'}`;
  }
  return { usable: false, reason };
}

/** Boots a guest under KVM until it says hello, or the deadline. */
async function bootProbe(
  { assets, native, logger, signal }: ProbeOptions,
  cpuModel: string,
): Promise<ProbeOutcome> {
  logger.debug({ cpuModel }, 'trying KVM');
  const qemu = launchQemu(
    {
      name: 'ya-vm-probe',
      accel: 'kvm',
      cpuModel,
      cpus: 1,
      memoryMiB: PROBE_MEMORY_MIB,
      assets,
      disks: [],
      nics: [],
    },
    native,
  );
  // The console is drained: a guest that prints must not stand still.
  const console_ = drain(qemu.consolePipe);
  const client = new GuestClient(qemu.ports, { logger, onEnd: () => {} });
  const monitor = qemu.qmp({ buffer: Buffer.alloc(4096), callback: () => true });
  monitor.on('error', () => {});
  try {
    return await Promise.race([
      qemu.exited.then(() => ({ said: qemu.messages.lines(2).join('; ') })),
      client.hello(PROBE_DEADLINE, signal).then(
        () => 'started' as const,
        () => 'silent' as const,
      ),
    ]);
  } finally {
    qemu.kill();
    client.close(new YavmError('YAVM_E_KVM', 'the probe is over'));
    monitor.destroy();
    console_.destroy();
    await qemu.exited;
  }
}

function drain(pipe: number): Socket {
  const socket = new Socket({ fd: pipe, readable: true, writable: false });
  socket.on('error', () => {});
  return socket.resume();
}

/** Waits for the probe of another start, so that ten starts at once do not probe ten times. */
async function lock({ cacheFolder, native, signal }: ProbeOptions): Promise<() => void> {
  let fd: number;
  try {
    ensurePrivate(cacheFolder);
    fd = openSync(join(cacheFolder, 'probe.lock'), 'a', 0o600);
  } catch {
    // Without a cache folder there is no verdict to share either.
    return () => {};
  }
  const deadline = performance.now() + LOCK_WAIT;
  try {
    while (!native.flock(fd, true) && performance.now() < deadline) await delay(50, undefined, { signal });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return () => closeSync(fd);
}
