/** Starts QEMU: opens what it needs, hands it over as descriptors, and makes it die with us. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { ExitStatus, Native, ResourceLimit } from '../../native/face.ts';
import { vfioNodes } from '../gpu/claim.ts';
import { memlockOf } from '../gpu/host-facts.ts';
import type { PassedCard } from '../gpu/select.ts';
import { HOST } from '../gpu/sysfs.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { startTimeOf } from '../lib/process.ts';
import { findProgram } from '../lib/programs.ts';
import type { TextTail } from '../lib/text-tail.ts';
import { readMessages, watchExit } from './child.ts';
import { Descriptors } from './descriptors.ts';
import type { Connect } from './frame-port.ts';
import { kernelWords } from './kernel-words.ts';
import { qemuUser } from './privileges.ts';
import {
  type DiskArguments,
  type NicArguments,
  qemuArguments,
  type ShareArguments,
} from './qemu-arguments.ts';
import type { TemplateShape } from './template/shape.ts';
import type { VmSpec } from './types.ts';
import type { UserNetwork } from './user-network.ts';

export interface LaunchSpec extends TemplateShape {
  name: string;
  kernelWords?: readonly string[];
  /** `fd`: a descriptor of ours, taken over; null: a placeholder. */
  disks: readonly (DiskArguments | null)[];
  /** Each backend's `fd` is taken over too. */
  nics: readonly NicArguments[];
  /** Both descriptors are taken over; `state` where the machine is to go on from one. */
  template?: { ram: number; mode: 'make' | 'use'; state?: number } | null;
  userNetwork?: UserNetwork | null;
  /** Each `fd` is taken over too. */
  shareDevices?: readonly ShareArguments[];
  gpu?: VmSpec['gpu'];
  hugepages?: VmSpec['hugepages'];
  /** Of `gpu`, where it is the host's; each `lock` is taken over, and held by QEMU. */
  cards?: readonly PassedCard[];
}

/** A QEMU that was started. The sockets are to be connected exactly once. */
export interface Qemu {
  pid: number;
  /** Clock ticks since the host's boot, against recycled pids. */
  startTime: number;
  ports: { control: Connect; data: Connect; log: Connect };
  qmp: Connect;
  /** Reading end of what the serial console prints. */
  consolePipe: number;
  /** QEMU's number of the open state that it is to go on from. */
  state: number | null;
  /** The last of what QEMU prints. */
  messages: TextTail;
  exited: Promise<ExitStatus>;
  /** SIGKILL; does nothing to one that has ended. */
  kill(): void;
}

const SIGKILL = 9;
const RLIMIT_CORE = 4;
const RLIMIT_MEMLOCK = 8;

/**
 * Starts QEMU. Must be called in the main thread: the signal that ends QEMU with us is tied to the calling thread.
 * @throws {YavmError} YAVM_E_QEMU_MISSING, YAVM_E_QEMU_START, YAVM_E_ASSETS
 */
export function launchQemu(spec: LaunchSpec, native: Native): Qemu {
  const descriptors = new Descriptors(native);
  const near: number[] = [];
  const socket = () => {
    const { child, near: end } = descriptors.giveSocket();
    near.push(end);
    return { child, end };
  };
  const give = <T extends { fd: number }>(taken: T | null): T | null =>
    taken && { ...taken, fd: descriptors.give(taken.fd) };
  const pipe = () => {
    const [read, write] = native.pipe('read', 0);
    near.push(read);
    return { read, write };
  };
  try {
    const cards = spec.cards ?? [];
    for (const { lock } of cards) descriptors.give(lock);
    const disks = spec.disks.map(give);
    const template = spec.template
      ? {
          mode: spec.template.mode,
          ram: descriptors.give(spec.template.ram),
          state: spec.template.state === undefined ? null : descriptors.give(spec.template.state),
        }
      : null;
    const shares = (spec.shareDevices ?? []).map((share) => ({ ...share, fd: descriptors.give(share.fd) }));
    const nics = spec.nics.map(({ mac, backend }) => ({ mac, backend: give(backend) }));
    const userNetwork = give(spec.userNetwork ?? null);
    const program = findProgram('qemu-system-x86_64');
    const user = qemuUser(
      undefined,
      cards.flatMap((card) => vfioNodes(card)),
    );
    const kernel = descriptors.give(openAsset(spec.assets.kernel, user !== null));
    const initramfs = descriptors.give(openAsset(spec.assets.initramfs, user !== null));
    const [control, data, log, qmp] = [socket(), socket(), socket(), socket()];
    const console_ = pipe();
    const messages = pipe();
    const consoleLog = descriptors.give(console_.write);
    descriptors.giveAs(openSync('/dev/null', 'r'), 0);
    descriptors.giveAs(messages.write, 1, 2);
    const args = qemuArguments({
      ...spec,
      kernel,
      initramfs,
      kernelWords: kernelWords(spec.accel, spec.tscKhz, spec.kernelWords),
      disks,
      nics,
      userNetwork,
      template,
      shares,
      display: spec.gpu === undefined || spec.gpu.kind === 'pci' ? null : spec.gpu.kind,
      cards,
      control: control.child,
      data: data.child,
      log: log.child,
      qmp: qmp.child,
      consoleLog,
    });
    const { pid, pidfd } = spawn(native, program, args, descriptors.pairs, user, cards.length > 0);
    return {
      pid,
      startTime: startTimeOf(pid) ?? 0,
      ports: { control: over(control.end), data: over(data.end), log: over(log.end) },
      qmp: over(qmp.end),
      state: template?.state ?? null,
      consolePipe: console_.read,
      messages: readMessages(messages.read),
      ...watchExit(native, pid, pidfd),
    };
  } catch (error) {
    for (const fd of near) native.close(fd);
    throw error;
  } finally {
    descriptors.close();
  }
}

function spawn(
  native: Native,
  program: string,
  args: string[],
  fds: [number, number][],
  user: ReturnType<typeof qemuUser>,
  locksMemory: boolean,
): { pid: number; pidfd: number } {
  try {
    return native.spawn({
      file: [program],
      argv: [program, ...args],
      env: ['PATH=/usr/bin:/bin', 'LANG=C.UTF-8'],
      fds,
      cwd: '/',
      ...(user ?? {}),
      newSession: true,
      noNewPrivileges: true,
      parentDeathSignal: SIGKILL,
      // A core would hold the guest's memory.
      rlimits: [[RLIMIT_CORE, 0, 0], ...(locksMemory ? [memlock(user !== null)] : [])],
    });
  } catch (cause) {
    throw new YavmError('YAVM_E_QEMU_START', `${program} cannot be started`, { cause });
  }
}

/** All that we may give it: the check before has said whether that is enough. */
function memlock(privileged: boolean): ResourceLimit {
  const hard = privileged ? Infinity : memlockOf(HOST);
  const limit = hard === Infinity ? -1 : hard;
  return [RLIMIT_MEMLOCK, limit, limit];
}

/** QEMU opens these two anew, through /proc: so a user other than ours must be allowed to read them. */
function openAsset(path: string, forOthers: boolean): number {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    const hint = hasErrno(cause, 'ENOENT') ? 'Build it: make build' : undefined;
    throw new YavmError('YAVM_E_ASSETS', `${path}: cannot be read`, { cause, hint });
  }
  if (!forOthers || (fstatSync(fd).mode & 0o004) !== 0) return fd;
  closeSync(fd);
  throw new YavmError('YAVM_E_ASSETS', `${path}: not readable by the user that QEMU runs as`, {
    hint: `chmod a+r ${path}`,
  });
}

function over(fd: number): Connect {
  return (onread) => new Socket({ fd, readable: true, writable: true, onread });
}
