/**
 * What earlier starts have taught: whether KVM works here, and how long a boot takes. A small file in the cache folder;
 * losing it costs one probe.
 */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KVM_DEVICE } from './privileges.ts';
import { ensurePrivate } from './run-folder.ts';
import type { BootAssets } from './types.ts';

export interface KvmVerdict {
  usable: boolean;
  /** Why not; shown by `doctor`. */
  reason: string;
  /** QEMU's -cpu with which it works. */
  cpuModel?: string;
  /** Milliseconds since the epoch from which on it is to be found out anew; without it, never. */
  until?: number;
}

interface CacheContent {
  /** By what the verdict depends on. */
  kvm: Record<string, KvmVerdict>;
  /** Milliseconds from QEMU's start to hello, the slowest of late, by accelerator and assets. */
  boots: Record<string, number>;
}

const FILE = 'probe.json';
const MAX_FILE = 64 * 1024;
/** Entries kept of each kind: other kernels, other boots of the host. */
const MAX_ENTRIES = 16;

export class StartCache {
  readonly #folder: string;

  /** `folder`: lib/paths' cacheFolder; made when something is written. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  kvm(key: string, now: number = Date.now()): KvmVerdict | undefined {
    const verdict = this.#read().kvm[key];
    return verdict?.until !== undefined && verdict.until < now ? undefined : verdict;
  }

  setKvm(key: string, verdict: KvmVerdict): void {
    this.#update((content) => put(content.kvm, key, verdict));
  }

  bootTime(key: string): number | undefined {
    return this.#read().boots[key];
  }

  /** Remembers a boot; a faster one lowers what is remembered slowly. */
  addBoot(key: string, milliseconds: number): void {
    this.#update((content) => {
      const before = content.boots[key] ?? 0;
      const after = Math.max(milliseconds, before * 0.8 + milliseconds * 0.2);
      // Written only when it says something new: most starts change nothing.
      if (Math.abs(after - before) < before * 0.05) return false;
      put(content.boots, key, Math.round(after));
      return true;
    });
  }

  #read(): CacheContent {
    try {
      const text = readFileSync(join(this.#folder, FILE), 'utf8');
      return text.length > MAX_FILE ? empty() : decode(JSON.parse(text));
    } catch {
      return empty();
    }
  }

  /** Two writers at a time: one's entry is lost, and learnt again. A folder that cannot be written is no reason to fail. */
  #update(change: (content: CacheContent) => boolean | undefined): void {
    const content = this.#read();
    if (change(content) === false) return;
    try {
      ensurePrivate(this.#folder);
      const path = join(this.#folder, FILE);
      writeFileSync(`${path}.${process.pid}`, JSON.stringify(content), { mode: 0o600 });
      renameSync(`${path}.${process.pid}`, path);
    } catch {
      return;
    }
  }
}

function empty(): CacheContent {
  return { kvm: {}, boots: {} };
}

/** Later entries last; the oldest go. */
function put<T>(entries: Record<string, T>, key: string, value: T): true {
  delete entries[key];
  entries[key] = value;
  for (const old of Object.keys(entries).slice(0, -MAX_ENTRIES)) delete entries[old];
  return true;
}

function decode(value: unknown): CacheContent {
  const content = empty();
  const { kvm, boots } = (value ?? {}) as Record<string, unknown>;
  for (const [key, verdict] of Object.entries((kvm ?? {}) as Record<string, unknown>)) {
    const { usable, reason, cpuModel, until } = (verdict ?? {}) as Record<string, unknown>;
    if (typeof usable !== 'boolean' || typeof reason !== 'string') continue;
    content.kvm[key] = { usable, reason };
    if (typeof cpuModel === 'string') content.kvm[key].cpuModel = cpuModel;
    if (typeof until === 'number') content.kvm[key].until = until;
  }
  for (const [key, time] of Object.entries((boots ?? {}) as Record<string, unknown>)) {
    if (typeof time === 'number' && time > 0 && time < 1e7) content.boots[key] = time;
  }
  return content;
}

/**
 * Key of a KVM verdict: this boot of the host, QEMU's file, the assets, the device, who asks for it, and the CPU model
 * when one was asked for. Any of them changed, it is found out anew.
 */
export function kvmKey(qemu: string, assets: BootAssets, cpuModel: string = ''): string {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const device = identityOf(KVM_DEVICE);
  return digest(bootId, identityOf(qemu), assetsKey(assets), device, String(process.getuid?.()), cpuModel);
}

/** Key of a boot time: accelerator, assets, QEMU's file and the VM's shape. */
export function bootKey(accel: 'kvm' | 'tcg', qemu: string, assets: BootAssets, cpus: number): string {
  return `${accel}-${digest(identityOf(qemu), assetsKey(assets), String(cpus))}`;
}

/** The manifest names kernel and initramfs by checksum. Without one: what the files look like. */
function assetsKey(assets: BootAssets): string {
  try {
    return digest(readFileSync(assets.manifest, 'utf8'), assets.kernel);
  } catch {
    return digest(identityOf(assets.kernel), identityOf(assets.initramfs));
  }
}

/** What changes when a file is replaced: cheaper than reading 20 MB of QEMU. */
export function identityOf(path: string): string {
  try {
    const { dev, ino, size, mtimeMs, mode, uid, gid, rdev } = statSync(path);
    // A device's modification time is that of the last write to it.
    return [path, dev, ino, size, rdev === 0 ? mtimeMs : rdev, mode, uid, gid].join(':');
  } catch {
    return `${path}:missing`;
  }
}

function digest(...parts: string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 24);
}
