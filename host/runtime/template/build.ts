/** Makes a template: boots a machine with nothing behind its devices, has it prepare, and keeps its memory and state. */
import { closeSync, ftruncateSync, mkdirSync, openSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostNative } from '../../../native/host-face.ts';
import { isDiskFull, YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { recordOf } from '../kept-record.ts';
import { launchQemu } from '../launch.ts';
import { qemuUser } from '../privileges.ts';
import { createRunFolder, ensurePrivate } from '../run-folder.ts';
import { Vm } from '../vm.ts';
import { sparseChecksum } from './checksum.ts';
import { saveState } from './monitor.ts';
import { PLACEHOLDERS } from './placeholders.ts';
import { RAM, RECORD, STATE, stampOf, type TemplateRecord } from './record.ts';
import { roomFor, type TemplateShape } from './shape.ts';
import type { TemplateStore } from './store.ts';

export interface BuildParts {
  store: TemplateStore;
  native: HostNative;
  logger: Logger;
  /** Parent of the run folders. */
  runBase: string;
  /** Milliseconds until hello. */
  bootDeadline: number;
  signal?: AbortSignal;
}

const MIB = 1024 ** 2;
const SAVE_DEADLINE = 30_000;
/** What the guest must be able to do. */
const FEATURE = 'prepare';

/**
 * Builds the template `key` of `shape`, unless it is there and not due to be made anew, or another process is at it.
 * @throws {YavmError} YAVM_E_TEMPLATE, and what a VM's start fails with; nothing is left of it then, and one that was
 * there still is
 */
export async function buildTemplate(
  key: string,
  shape: TemplateShape,
  parts: BuildParts,
): Promise<'built' | 'there' | 'busy'> {
  const { store, native } = parts;
  ensurePrivate(store.folder);
  const lock = store.lock(key, native);
  if (lock === null) return 'busy';
  try {
    if (store.has(key) && store.due(key) === null) return 'there';
    store.clean(native);
    const folder = store.buildPath(key);
    store.discard(key);
    mkdirSync(folder, { mode: 0o700 });
    try {
      checkRoom(folder, roomFor(shape.memoryMiB));
      await fill(folder, key, shape, parts);
      store.put(key, native);
    } catch (error) {
      store.discard(key);
      if (!isDiskFull(error)) throw error;
      throw new YavmError('YAVM_E_TEMPLATE', `${store.folder}: no room for a template`, { cause: error });
    }
    store.prune(key);
    return 'built';
  } finally {
    closeSync(lock);
  }
}

async function fill(folder: string, key: string, shape: TemplateShape, parts: BuildParts): Promise<void> {
  const { accel, cpuModel, cpus, memoryMiB } = shape;
  const [ram, state] = [join(folder, RAM), join(folder, STATE)];
  const vm = launch(createRam(ram, memoryMiB * MIB), shape, parts);
  try {
    const hello = await vm.boot(parts.bootDeadline, parts.signal);
    if (!hello.features.includes(FEATURE)) {
      throw new YavmError('YAVM_E_TEMPLATE', `the guest's agent ${hello.agent} cannot prepare a template`, {
        hint: 'Rebuild the initramfs: ya-vm initramfs build',
      });
    }
    await vm.request({ op: 'prepare' }, { signal: parts.signal });
    await saveState(vm.monitor, state, { deadline: SAVE_DEADLINE, signal: parts.signal });
    await vm.kill();
    await flush(ram);
    const record: TemplateRecord = {
      key,
      made: new Date().toISOString(),
      accel,
      cpuModel,
      cpus,
      memoryMiB,
      kernel: hello.kernel,
      hello,
      ram: await describe(ram, parts.signal),
      state: await describe(state, parts.signal),
    };
    writeFileSync(join(folder, RECORD), `${JSON.stringify(record)}\n`, { mode: 0o600 });
    await flush(join(folder, RECORD));
  } finally {
    await vm.kill();
  }
}

/** The memory: QEMU's user opens it anew, and so must own it. @returns it, open */
function createRam(path: string, size: number): number {
  const fd = openSync(path, 'wx+', 0o600);
  try {
    ftruncateSync(fd, size);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Takes `ram` over. */
function launch(ram: number, shape: TemplateShape, { native, logger, runBase }: BuildParts): Vm {
  const folder = createRunFolder(runBase, native);
  try {
    const user = qemuUser();
    if (user !== null) native.chownFd(ram, user.uid, user.gid);
    const { disks, nics } = PLACEHOLDERS;
    const qemu = launchQemu(
      { ...shape, name: `ya-vm-${folder.id}`, disks, nics, template: { ram, mode: 'make' } },
      native,
    );
    const spec = { ...shape, title: 'template', layers: [], hostname: '' };
    const record = recordOf(spec, folder.id, { accel: shape.accel, qemu, start: 'boot' });
    return new Vm({ folder, qemu, logger, record });
  } catch (error) {
    folder.remove();
    throw error;
  }
}

/** Its checksum, and how it looks now. */
async function describe(path: string, signal?: AbortSignal): Promise<TemplateRecord['ram']> {
  const sha256 = await sparseChecksum(path, signal);
  return { sha256, stamp: stampOf(statSync(path, { bigint: true })) };
}

/** After a loss of power it must not be there in part, with a stamp that fits. */
async function flush(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** On a full disk a write to the file is a SIGBUS. */
function checkRoom(folder: string, room: number): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= room) return;
  throw new YavmError('YAVM_E_TEMPLATE', `${folder}: fewer than ${Math.ceil(room / MIB)} MiB are free`);
}
