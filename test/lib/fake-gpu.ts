/** Kernel trees with graphics cards, as the drivers' documentation and their sources write them, and what is done to them. */
import { GPU_PLACES, type GpuContext } from '../../guest/gpu/context.ts';
import type { Layer } from '../../guest/gpu/layer.ts';
import { O_CREAT, S_IFREG } from '../../guest/lib/constants.ts';
import type { FileStat, Native } from '../../native/face.ts';
import { type Fake, fakeNative, systemError } from './fake-native.ts';

type Files = Record<string, string | Uint8Array | string[]>;

export interface FakeGpu {
  fake: Fake;
  context: GpuContext;
  warnings: string[];
  /** What changed the VM, a line each, in order. */
  done(): string[];
}

export interface FakeOptions {
  /** Absolute path → text: the kernel's trees, and the layer's. Folders come by themselves. */
  kernel: Record<string, string>;
  /** Path in the task's root, without a slash in front → text. */
  root?: Record<string, string>;
  /** Absolute path → target. */
  links?: Record<string, string>;
  /** Aliases → modules. */
  aliases?: Record<string, string[]>;
  /** Called when a module loads, before it counts as loaded. */
  onLoad?: (name: string, files: Files) => void;
  /** End of programs that are run; null: they do not end. */
  exit?: number | null;
  replace?: Partial<Native>;
}

/** Folders that makeDirectories finds: what it does with others is test/unit/guest-root's. */
const ROOT_FOLDERS = [
  ...['.', 'usr/bin', 'etc/OpenCL/vendors', 'usr/share/vulkan/icd.d', 'usr/share/glvnd/egl_vendor.d'],
  ...['etc/ld.so.conf.d', 'opt/ya-vm/driver', 'usr/lib'],
];

export function fakeGpu(options: FakeOptions): FakeGpu {
  const { kernel, root = {}, links = {}, aliases = {}, onLoad, exit = 0 } = options;
  const files: Files = {
    '/dev': [],
    '/dev/null': '',
    ...Object.fromEntries(ROOT_FOLDERS.map((f) => [f, []])),
  };
  for (const [path, text] of Object.entries({ ...kernel, ...root })) addFile(files, path, text);
  const steps: string[] = [];
  const warnings: string[] = [];
  const replace: Partial<Native> = {
    openBeneath: (_root, path, flags) => {
      if (flags & O_CREAT) files[path] = '';
      return fake.native.open(path, flags, 0);
    },
    readDirectory: (fd) => {
      const folder = fake.open.get(fd) as string;
      return (files[folder] as string[]).map((name) => ({
        name,
        type: Array.isArray(files[`${folder}/${name}`]) ? 4 : 8,
      }));
    },
    fstat: () => ({ mode: S_IFREG | 0o644 }) as FileStat,
    readlink: (path) => {
      if (links[path] === undefined) throw systemError('ENOENT', 'readlink', path);
      return links[path];
    },
    uname: () => ({ release: '6.1.0-56-amd64', version: '', machine: 'x86_64', nodename: '' }),
    mknod: (path, mode, major, minor) =>
      void steps.push(`mknod ${path} ${major}:${minor} ${(mode & 0o7777).toString(8)}`),
    chmodAt: (_dir, name, mode) => void steps.push(`chmod ${name} ${mode.toString(8)}`),
    chownAt: (_dir, name, uid, gid) => void (gid + uid > 0 && steps.push(`chown ${name} ${uid}:${gid}`)),
    mount: (source, _target, type) => void steps.push(`mount ${source} ${type ?? 'bind'}`),
    writeText: (_root, path, text) => void steps.push(`write ${path} ${text}`),
    symlinkAt: (target, dir, name) => void steps.push(`link ${fake.open.get(dir)}/${name} ${target}`),
    write: (_fd, bytes) => {
      steps.push(`text ${new TextDecoder().decode(bytes)}`);
      return bytes.byteLength;
    },
    spawn: ({ argv }) => {
      steps.push(`run ${argv.join(' ')}`);
      fake.open.set(50, 'pidfd');
      return { pid: 7, pidfd: 50 };
    },
    waitPid: () =>
      exit === null ? null : { pid: 7, code: exit, userMicroseconds: 0, systemMicroseconds: 0 },
    killPidfd: () => void steps.push('kill'),
    ...options.replace,
  };
  const fake: Fake = fakeNative(files, replace);
  const parameters: Record<string, string> = {};
  const load = (name: string) => {
    onLoad?.(name, files);
    steps.push(`load ${name}${parameters[name] ? ` ${parameters[name]}` : ''}`);
  };
  const context: GpuContext = {
    native: fake.native,
    rootFd: 3,
    places: GPU_PLACES,
    warn: (text) => void warnings.push(text),
    modules: {
      load,
      configure: ({ options }) => void Object.assign(parameters, options),
      loadAlias: (alias, onFailure) =>
        (aliases[alias] ?? []).filter((name) => {
          try {
            load(name);
            return true;
          } catch (error) {
            onFailure(error);
            return false;
          }
        }),
      addSource: () => void steps.push('modules of the layer'),
    },
  };
  return { fake, context, warnings, done: () => steps };
}

/** Adds a file, and it to the folders above. */
export function addFile(files: Files, path: string, text: string): void {
  files[path] = text;
  for (let child = path; child.lastIndexOf('/') > 0; ) {
    const parent = child.slice(0, child.lastIndexOf('/'));
    const name = child.slice(parent.length + 1);
    files[parent] ??= [];
    const list = files[parent] as string[];
    if (!list.includes(name)) list.push(name);
    child = parent;
  }
}

/** A device of sysfs. `kind`: class, vendor and device, in hex. */
export function pciDevice(slot: string, kind: [string, string, string]): Record<string, string> {
  const folder = `/sys/bus/pci/devices/${slot}`;
  const [className, vendor, device] = kind;
  return {
    [`${folder}/class`]: `0x${className}\n`,
    [`${folder}/vendor`]: `0x${vendor}\n`,
    [`${folder}/device`]: `0x${device}\n`,
    [`${folder}/modalias`]: `pci:v0000${vendor.toUpperCase()}d0000${device.toUpperCase()}\n`,
  };
}

/** /proc after NVIDIA's modules have loaded; `name` of the main major, by release. */
export function nvidiaProc(version: string, name = 'nvidia'): Record<string, string> {
  return {
    '/proc/devices': `Character devices:\n  1 mem\n195 ${name}\n195 nvidia-modeset\n195 nvidiactl\n226 drm\n234 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n259 blkext\n`,
    '/proc/driver/nvidia/version': `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${version}  Release Build  (dvs-builder)  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n`,
    '/proc/driver/nvidia/params':
      'EnableMSI: 1\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\nInitializeSystemMemoryAllocations: 1\n',
  };
}

/** The driver's file of a card, with its minor. */
export function nvidiaCard(slot: string, model: string, minor: number): Record<string, string> {
  return {
    [`/proc/driver/nvidia/gpus/${slot}/information`]: `Model: \t\t ${model}\nIRQ:   \t\t 33\nBus Location: \t ${slot}\nDevice Minor: \t ${minor}\nGPU Excluded:\t No\n`,
  };
}

/** A mounted layer's files below its path. */
export function layerFiles(version: string): Record<string, string> {
  const library = '/driver/usr/lib/x86_64-linux-gnu';
  return {
    '/driver/manifest.json': JSON.stringify({ driverVersion: version, kernelRelease: '6.1.0-56-amd64' }),
    [`${library}/libcuda.so.${version}`]: '',
    [`${library}/libcuda.so.1`]: '',
    [`${library}/libnvidia-ml.so.${version}`]: '',
    '/driver/usr/bin/nvidia-smi': '',
    '/driver/usr/share/OpenCL/vendors/nvidia.icd': '',
  };
}

export function layerOf(driverVersion: string): Layer {
  return { driverVersion, kernelRelease: '6.1.0-56-amd64', path: '/driver' };
}
