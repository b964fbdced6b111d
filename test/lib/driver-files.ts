/** Parts of a driver as small files: kernel modules with a .modinfo, libraries that are ELF by their first bytes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const VERMAGIC = '6.1.0-56-amd64 SMP preempt mod_unload modversions ';

/** An ELF-64 object with a .modinfo section and nothing else. */
export function fakeModule(info: Record<string, string | string[]>): Buffer {
  const entries = Object.entries(info).flatMap(([key, values]) =>
    [values].flat().map((value) => `${key}=${value}\0`),
  );
  const modinfo = Buffer.from(entries.join(''), 'latin1');
  const names = Buffer.from('\0.modinfo\0.shstrtab\0', 'latin1');
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  header.writeUInt16LE(1, 16);
  header.writeUInt16LE(62, 18);
  header.writeBigUInt64LE(BigInt(64 + modinfo.length + names.length), 40);
  for (const [at, value] of [
    [52, 64],
    [58, 64],
    [60, 3],
    [62, 2],
  ] as const)
    header.writeUInt16LE(value, at);
  const section = (name: number, offset: number, size: number) => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeBigUInt64LE(BigInt(offset), 24);
    bytes.writeBigUInt64LE(BigInt(size), 32);
    return bytes;
  };
  return Buffer.concat([
    ...[header, modinfo, names, section(0, 0, 0)],
    ...[section(1, 64, modinfo.length), section(10, 64 + modinfo.length, names.length)],
  ]);
}

/** A driver unpacked: modules of a dkms folder, and the rest as a .run has it. Paths → content. */
export function driverFiles(version: string, vermagic = VERMAGIC): Record<string, Buffer> {
  const module = (name: string, depends: string) =>
    fakeModule({ version, name, depends, vermagic, alias: name === 'nvidia' ? 'pci:v000010DEd*' : [] });
  const library = Buffer.from('\x7fELF\x02library', 'latin1');
  return {
    'dkms/nvidia.ko': module('nvidia', 'drm'),
    'dkms/nvidia-uvm.ko': module('nvidia_uvm', 'nvidia'),
    'dkms/nvidia-drm.ko': module('nvidia_drm', 'drm_kms_helper,nvidia-modeset'),
    'dkms/nvidia-modeset.ko': module('nvidia_modeset', 'nvidia'),
    [`run/libcuda.so.${version}`]: library,
    [`run/32/libcuda.so.${version}`]: Buffer.from('\x7fELF\x01library', 'latin1'),
    [`run/libnvidia-ml.so.${version}`]: library,
    [`run/libnvidia-gpucomp.so.${version}`]: library,
    [`run/libXNVCtrl.so.${version}`]: library,
    'run/nvidia-smi': library,
    'run/init.d/nvidia-smi': Buffer.from('#!'),
    'run/nvidia.icd': Buffer.from('libnvidia-opencl.so.1\n'),
    'run/firmware/gsp_ga10x.bin': Buffer.from('firmware'),
  };
}

export function writeFiles(folder: string, files: Record<string, Buffer>): void {
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  }
}
