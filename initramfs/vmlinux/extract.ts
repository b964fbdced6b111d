/** From a distribution's kernel file to the ELF that QEMU boots directly through its PVH entry. */
import { KernelConfigError } from '../errors.ts';
import { type RunTool, runTool } from '../tool.ts';
import { parseBzImage } from './bzimage.ts';
import { decompressPayload, detectCompression } from './decompress.ts';
import { isElf, parseElf, pvhEntry } from './elf.ts';

export interface Vmlinux {
  /** The ELF file, without the relocation table that the kernel's build appends for its own decompressor. */
  bytes: Uint8Array;
  /** Physical address of the 32-bit PVH entry. */
  entry: number;
  /** How it was packed in the bzImage; null for a vmlinux. */
  compression: string | null;
  /** The bzImage's version string (`6.1.0-56-cloud-amd64 (…) #1 SMP …`); '' for a vmlinux. */
  version: string;
}

/**
 * Unpacks a bzImage (`vmlinuz`), or takes a `vmlinux` as it is, and checks that QEMU can boot it.
 * Extracting beforehand saves 0.1–0.4 s of every boot with LZ4, and 3 s with XZ (under TCG).
 * @throws {KernelImageError} no kernel, damaged, or packed in an unknown way.
 * @throws {KernelConfigError} no PVH note: the kernel lacks CONFIG_PVH.
 * @throws {ToolError} the decompressor (lz4, xz, …) is not installed.
 */
export async function extractVmlinux(bytes: Uint8Array, run: RunTool = runTool): Promise<Vmlinux> {
  if (isElf(bytes)) return { ...checkVmlinux(bytes), compression: null, version: '' };
  const { payload, version } = parseBzImage(bytes);
  const compression = detectCompression(payload);
  return { ...checkVmlinux(await decompressPayload(payload, run)), compression, version };
}

function checkVmlinux(bytes: Uint8Array): { bytes: Uint8Array; entry: number } {
  const elf = parseElf(bytes);
  const entry = pvhEntry(bytes, elf);
  if (entry === null)
    throw new KernelConfigError(
      'the kernel has no PVH entry (Xen note 18): it was built without CONFIG_PVH',
      ['CONFIG_PVH'],
      {
        hint: 'Use a kernel with CONFIG_PVH=y; Debian’s linux-image-cloud-amd64 and linux-image-amd64 have it.',
      },
    );
  return { bytes: bytes.subarray(0, elf.end), entry };
}
