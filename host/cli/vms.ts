/** The running VMs of this user, as their run folders tell. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { isAlive } from '../lib/process.ts';
import type { VmRecord, VmState } from '../runtime/types.ts';

export interface ListedVm {
  record: VmRecord;
  /** Its run folder. */
  folder: string;
}

/** Largest vm.json that is read, bytes. */
const MAX_RECORD = 256 * 1024;

/**
 * VMs whose supervisor lives, oldest first. A folder without a readable record is one that is just made, or debris for
 * the janitor: neither is listed.
 */
export async function listVms(base: string): Promise<ListedVm[]> {
  let names: string[];
  try {
    names = await readdir(base);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw new YavmError('YAVM_E_RUN_FOLDER', `${base}: cannot list the running VMs`, { cause: error });
  }
  const listed: ListedVm[] = [];
  for (const name of names) {
    const folder = join(base, name);
    const record = await readRecord(folder);
    if (record && record.id === name && isAlive(record.supervisor)) listed.push({ record, folder });
  }
  return listed.sort((a, b) => a.record.started.localeCompare(b.record.started));
}

async function readRecord(folder: string): Promise<VmRecord | null> {
  try {
    const text = await readFile(join(folder, 'vm.json'), 'utf8');
    return text.length > MAX_RECORD ? null : decodeRecord(JSON.parse(text));
  } catch {
    return null;
  }
}

/**
 * The one VM that `id` names: its id or a beginning of it that no other has. Without `id`: the only one that runs.
 * @throws {YavmError} YAVM_E_NO_SUCH_VM, YAVM_E_AMBIGUOUS_VM
 */
export function selectVm(vms: readonly ListedVm[], id: string | undefined): ListedVm {
  const matches = id === undefined ? vms : vms.filter(({ record }) => record.id.startsWith(id));
  const exact = matches.find(({ record }) => record.id === id);
  if (exact) return exact;
  if (matches.length === 1) return matches[0] as ListedVm;
  const hint = 'See: ya-vm ps';
  if (matches.length === 0) {
    const message = id === undefined ? 'no VM is running' : `no VM is running whose id begins with '${id}'`;
    throw new YavmError('YAVM_E_NO_SUCH_VM', message, { hint });
  }
  const ids = matches.map(({ record }) => record.id).join(', ');
  const message =
    id === undefined ? `several VMs are running: ${ids}` : `several ids begin with '${id}': ${ids}`;
  throw new YavmError('YAVM_E_AMBIGUOUS_VM', message, { hint });
}

const STATES: readonly VmState[] = [
  'new',
  'launching',
  'booting',
  'configuring',
  'running',
  'stopping',
  'ended',
];

/** A record as read from JSON; null when it is none. */
export function decodeRecord(value: unknown): VmRecord | null {
  if (typeof value !== 'object' || value === null) return null;
  const { id, title, supervisor, qemu, state, started, memoryMiB, cpus, accel, layers, hostname } =
    value as Record<string, unknown>;
  // A program of before templates writes none.
  const { start = 'boot', console: console_ } = value as Record<string, unknown>;
  const valid =
    isText(id) &&
    isText(title) &&
    isIdentity(supervisor) &&
    (qemu === null || isIdentity(qemu)) &&
    STATES.includes(state as VmState) &&
    isText(started) &&
    isCount(memoryMiB) &&
    isCount(cpus) &&
    (accel === 'kvm' || accel === 'tcg') &&
    (start === 'template' || start === 'boot') &&
    Array.isArray(layers) &&
    layers.every(isText) &&
    isText(hostname) &&
    (console_ === null || isText(console_));
  return valid ? ({ ...value, start } as VmRecord) : null;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isIdentity(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, startTime } = value as Record<string, unknown>;
  return isCount(pid) && pid > 0 && isCount(startTime);
}
