/** From a kernel and an /init to `vmlinux`, `initramfs.cpio.zst` and `manifest.json`. */
import { type KeyObject, randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { constants as zlibConstants, zstdCompress } from 'node:zlib';
import { signaturePath, signBytes } from '../host/lib/signature.ts';
import {
  checkInit,
  type FileSpec,
  fileEntry,
  type LoadedModule,
  moduleEntries,
  SKELETON,
} from './content.ts';
import { type Entry, packCpio } from './cpio.ts';
import { ContentError, KernelImageError, ModuleError } from './errors.ts';
import { firmwareEntries, firmwareFolders } from './firmware.ts';
import { checkHook } from './hook.ts';
import { checkConfig, embeddedConfig, squashfsCompressions } from './kconfig.ts';
import type { KernelSource } from './kernel/source.ts';
import { describeEntry, digest, MANIFEST_FORMAT, type Manifest } from './manifest.ts';
import { type CarriedModule, resolveClosure } from './modules/closure.ts';
import { readModule } from './modules/tree.ts';
import { type ModuleWishes, moduleRequests } from './requests.ts';
import { type RunTool, runTool } from './tool.ts';
import { extractVmlinux, type Vmlinux } from './vmlinux/extract.ts';

export interface InitramfsOptions extends ModuleWishes {
  kernel: KernelSource;
  /** The program of PID 1: a file, or its bytes. */
  init: string | Uint8Array;
  files?: readonly FileSpec[];
  /** Firmware by name, and folders to look in before the kernel's own. */
  firmware?: { names: readonly string[]; folders?: readonly string[] };
  /** More entries, ready made. */
  entries?: readonly Entry[];
  /** Where the results go; absent ones are not written. `base` is the initramfs without its modules. */
  outputs: { vmlinux?: string; initramfs: string; manifest?: string; base?: string };
  /** Version of the builder. */
  version: string;
  /** Version of the agent that /init is; null (default) for a foreign one. */
  agent?: string | null;
  /** Time of all entries, seconds since the epoch; default $SOURCE_DATE_EPOCH, else 0. */
  mtime?: number;
  /** Signs the manifest. */
  sign?: KeyObject;
  run?: RunTool;
}

/** Modules that are read and unpacked at the same time. */
const READ_AT_ONCE = 8;
/** Most that all modules may take, unpacked, bytes: it is the guest's memory. All of Debian's generic kernel is 350 MB. */
const MAX_MODULES = 512 * 1024 * 1024;

/** Slowest level that needs no more memory in the guest than the archive is large: the cpio is read there in one go. */
const ZSTD_LEVEL = 19;

/**
 * Builds an initramfs, and the vmlinux that boots it. Reproducible: the same inputs give the same bytes, whatever
 * their time stamps, owner and order on disk. Files are replaced atomically, the manifest last.
 * @returns the manifest that is written.
 * @throws {YavmError} with a YAVM_E_INITRAMFS_… code; nothing is written then.
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<Manifest> {
  const { kernel, outputs, run = runTool } = options;
  const vmlinux = await readKernel(kernel, run);
  const config = kernel.config ?? embeddedConfig(vmlinux.bytes);
  if (config) checkConfig(config);

  const { release, index } = kernel.modules;
  const closure = resolveClosure(index, moduleRequests(index, options), config);
  const loaded = await readModules(kernel, closure.modules, run);
  const base = await baseEntries(options, run);
  const entries = [...base, ...moduleEntries(release, index, closure, loaded)];

  const mtime = options.mtime ?? sourceDateEpoch(process.env.SOURCE_DATE_EPOCH);
  const cpio = packCpio(entries, mtime);
  const [initramfs, baseInitramfs] = await Promise.all([compress(cpio), compress(packCpio(base, mtime))]);

  const bytesOf = new Map(loaded.map(({ name, data }) => [name, data]));
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    builder: options.version,
    agent: options.agent ?? null,
    kernel: {
      release,
      version: vmlinux.version,
      package: kernel.package,
      compression: vmlinux.compression,
      pvhEntry: `0x${vmlinux.entry.toString(16)}`,
      squashfs: config && squashfsCompressions(config),
    },
    vmlinux: digest(vmlinux.bytes),
    initramfs: { ...digest(initramfs), unpacked: cpio.length },
    sizes: {
      init: initOf(base).length,
      base: baseInitramfs.length,
      modules: loaded.reduce((sum, { data }) => sum + data.length, 0),
    },
    modules: closure.modules.map((module: CarriedModule) => {
      return { ...module, ...digest(bytesOf.get(module.name) as Uint8Array) };
    }),
    preset: options.preset ?? null,
    builtin: closure.builtin,
    absent: closure.absent.map(({ name }) => name),
    files: sortByPath(entries).map(describeEntry),
  };
  if (outputs.vmlinux) await replaceFile(outputs.vmlinux, vmlinux.bytes);
  await replaceFile(outputs.initramfs, initramfs);
  if (outputs.base) await replaceFile(outputs.base, baseInitramfs);
  if (outputs.manifest) await writeManifest(outputs.manifest, manifest, options.sign);
  return manifest;
}

async function writeManifest(path: string, manifest: Manifest, key: KeyObject | undefined): Promise<void> {
  const text = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  // One of before is none of this.
  if (key === undefined) await rm(signaturePath(path), { force: true });
  else await replaceFile(signaturePath(path), signBytes(text, key));
  await replaceFile(path, text);
}

/** Seconds from $SOURCE_DATE_EPOCH (reproducible-builds.org); 0 when it is not set. @throws {ContentError} not a time that cpio can hold. */
export function sourceDateEpoch(text: string | undefined): number {
  if (text === undefined || text === '') return 0;
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds <= 0xffff_ffff) return seconds;
  throw new ContentError(`SOURCE_DATE_EPOCH=${text}: not a number of seconds below 2^32`);
}

/** The vmlinux, with its release held against that of the modules: a mismatch would make every insmod fail in the guest. */
async function readKernel(kernel: KernelSource, run: RunTool): Promise<Vmlinux> {
  const vmlinux = await unpackKernel(kernel.image, run);
  const banner = vmlinux.version || (findBanner(vmlinux.bytes) ?? '');
  const release = banner.split(' ', 1)[0] as string;
  if (release !== '' && release !== kernel.modules.release)
    throw new ModuleError(`the kernel is ${release}, but the modules are for ${kernel.modules.release}`, {
      hint: `Give the folder /lib/modules/${release}.`,
    });
  return { ...vmlinux, version: banner };
}

async function unpackKernel(image: string, run: RunTool): Promise<Vmlinux> {
  const bytes = await readFile(image).catch((cause) => {
    throw new KernelImageError(`${image}: the kernel cannot be read`, { cause });
  });
  try {
    return await extractVmlinux(bytes, run);
  } catch (cause) {
    // Names the file: the parts below know bytes only.
    if (cause instanceof KernelImageError)
      throw new KernelImageError(`${image}: not a usable kernel`, { cause });
    throw cause;
  }
}

/** What follows `Linux version ` in the kernel's banner, to the end of the line; null when there is none. */
function findBanner(vmlinux: Uint8Array): string | null {
  const bytes = Buffer.from(vmlinux.buffer, vmlinux.byteOffset, vmlinux.byteLength);
  const mark = 'Linux version ';
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + 1)) {
    const match = /^Linux version (\d[^\n\0]*)/.exec(bytes.toString('latin1', at, at + 512));
    if (match) return match[1] as string;
  }
  return null;
}

/** The modules' bytes, in their order. A few at a time: a packed one may take a process, and there may be hundreds. */
async function readModules(
  kernel: KernelSource,
  modules: readonly CarriedModule[],
  run: RunTool,
): Promise<LoadedModule[]> {
  const loaded: LoadedModule[] = [];
  for (let at = 0; at < modules.length; at += READ_AT_ONCE) {
    const some = modules.slice(at, at + READ_AT_ONCE).map(async ({ name, path }) => {
      return { name, data: await readModule(kernel.modules, path, run) };
    });
    loaded.push(...(await Promise.all(some)));
    const total = loaded.reduce((sum, { data }) => sum + data.length, 0);
    if (total > MAX_MODULES)
      throw new ModuleError(`the modules take more than ${MAX_MODULES} bytes, all of it the guest's memory`, {
        hint: 'Fewer: a narrower --module-all-of, or single ones with --module.',
      });
  }
  return loaded;
}

/** Everything but the modules. */
async function baseEntries(options: InitramfsOptions, run: RunTool): Promise<Entry[]> {
  const init: Entry =
    typeof options.init === 'string'
      ? await fileEntry({ source: options.init, path: '/init', mode: 0o755 })
      : { type: 'file', path: '/init', mode: 0o755, data: options.init };
  const files = await Promise.all((options.files ?? []).map(fileEntry));
  const { folder, release } = options.kernel.modules;
  const { names = [], folders = [] } = options.firmware ?? {};
  const firmware = await firmwareEntries(names, [...folders, ...firmwareFolders(folder, release)], run);
  const base = [...SKELETON, init, ...files, ...firmware, ...(options.entries ?? [])];
  checkInit(initOf([init]), base);
  checkHook(initOf([init]), base);
  return base;
}

function initOf(entries: readonly Entry[]): Uint8Array {
  const init = entries.find(({ path }) => path === '/init');
  return init?.type === 'file' ? init.data : new Uint8Array();
}

function sortByPath(entries: readonly Entry[]): Entry[] {
  return entries.toSorted((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

function compress(bytes: Buffer): Promise<Buffer> {
  return promisify(zstdCompress)(bytes, {
    params: { [zlibConstants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
    // A known size keeps the window, which the guest's kernel must allocate, no larger than the archive.
    pledgedSrcSize: bytes.length,
  });
}

async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, bytes);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new ContentError(`${path}: cannot be written`, { cause });
  }
}
