/**
 * The bzImage container: real-mode setup code with the boot protocol's header, then the protected-mode part, in which
 * the compressed vmlinux lies at `payload_offset` (Documentation/arch/x86/boot.rst, "The real-mode kernel header").
 */
import { KernelImageError } from '../errors.ts';

/** File offsets of header fields; all little-endian. */
const FIELD = {
  setupSects: 0x1f1, // u8: sectors of setup code after the boot sector; 0 means 4
  bootFlag: 0x1fe, // u16 0xAA55
  magic: 0x202, // "HdrS"
  version: 0x206, // u16, major << 8 | minor
  kernelVersion: 0x20e, // u16: offset of a C string, less 0x200
  payloadOffset: 0x248, // u32, from the start of the protected-mode part
  payloadLength: 0x24c, // u32
} as const;

const SECTOR = 512;
const BOOT_FLAG = 0xaa55;
const HEADER_MAGIC = 'HdrS';
/** 2.08 (Linux 2.6.26) brought payload_offset and payload_length. */
const OLDEST_VERSION = 0x0208;
/** Longest version string looked at, bytes. */
const MAX_VERSION = 256;

export interface BzImage {
  /** The compressed kernel, with the 4-byte size that all formats but gzip have appended. */
  payload: Uint8Array;
  /** `6.1.0-56-cloud-amd64 (builder) #1 SMP …`, or '' when the header has none. */
  version: string;
}

/** Whether the bytes are a bzImage of any version. */
export function isBzImage(bytes: Uint8Array): boolean {
  return bytes.length > FIELD.payloadLength + 4 && text(bytes, FIELD.magic, 4) === HEADER_MAGIC;
}

/**
 * Finds the compressed payload.
 * @throws {KernelImageError} no bzImage, too old, or its payload lies outside the file (truncated).
 */
export function parseBzImage(bytes: Uint8Array): BzImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isBzImage(bytes) || view.getUint16(FIELD.bootFlag, true) !== BOOT_FLAG)
    throw new KernelImageError('no bzImage: the boot flag or the header magic "HdrS" is missing');
  const protocol = view.getUint16(FIELD.version, true);
  if (protocol < OLDEST_VERSION)
    throw new KernelImageError(
      `boot protocol ${protocol >> 8}.${protocol & 0xff} is older than 2.08: the header does not say where the kernel is`,
    );
  const start = ((bytes[FIELD.setupSects] || 4) + 1) * SECTOR + view.getUint32(FIELD.payloadOffset, true);
  const length = view.getUint32(FIELD.payloadLength, true);
  if (length < 8 || start + length > bytes.length)
    throw new KernelImageError(
      `the payload (bytes ${start} to ${start + length}) is not inside the file of ${bytes.length} bytes: truncated?`,
    );
  return { payload: bytes.subarray(start, start + length), version: kernelVersion(bytes, view) };
}

function kernelVersion(bytes: Uint8Array, view: DataView): string {
  const offset = view.getUint16(FIELD.kernelVersion, true);
  return offset === 0 ? '' : (text(bytes, offset + 0x200, MAX_VERSION).split('\0', 1)[0] ?? '');
}

function text(bytes: Uint8Array, offset: number, length: number): string {
  return Buffer.from(bytes.subarray(offset, offset + length)).toString('latin1');
}
