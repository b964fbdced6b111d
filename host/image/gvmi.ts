/**
 * The `.gvmi` trailer: metadata behind a squashfs image. The kernel ignores it: it mounts from the file's start.
 *
 * ```
 * size - 8 - L - 4   u32 LE   CRC-32 (zlib's) of the JSON bytes
 * size - 8 - L       L bytes  UTF-8 JSON: a Docker ContainerConfig
 * size - 8           8 bytes  L as decimal digits, zero padded
 * ```
 */
import { crc32 } from 'node:zlib';
import { ImageChecksumError, ImageMetadataError, ImageTruncatedError } from './errors.ts';

const LENGTH_DIGITS = 8;
const CRC_SIZE = 4;
/** Bytes of a trailer beyond its JSON. */
export const TRAILER_OVERHEAD = LENGTH_DIGITS + CRC_SIZE;
/** Largest metadata accepted, bytes: the format would allow 99,999,999; a real one is below 100 KB. */
export const MAX_METADATA = 4 * 1024 * 1024;

/** Reads `length` bytes at `offset`, all of them. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

export interface Trailer {
  /** Parsed, not validated. */
  json: unknown;
  /** Where the trailer starts, bytes from the file's start. */
  start: number;
}

/**
 * Reads the trailer of a file.
 * @param from Where the squashfs ends: the trailer lies wholly behind it.
 * @returns null when the file's last 8 bytes are no length: then it has no trailer.
 * @throws {ImageTruncatedError} the trailer would reach into the squashfs.
 * @throws {ImageChecksumError} the CRC differs.
 * @throws {ImageMetadataError} larger than {@link MAX_METADATA}, or not JSON.
 */
export async function readTrailer(read: ReadAt, from: number, size: number): Promise<Trailer | null> {
  if (size - from < TRAILER_OVERHEAD) return null;
  const digits = Buffer.from(await read(size - LENGTH_DIGITS, LENGTH_DIGITS)).toString('latin1');
  if (!/^\d{8}$/.test(digits)) return null;
  const length = Number(digits);
  const start = size - TRAILER_OVERHEAD - length;
  if (start < from)
    throw new ImageTruncatedError(
      `the metadata is ${length} bytes long by its last line, but only ${size - from - TRAILER_OVERHEAD} lie behind the squashfs`,
      { hint: 'Download or copy it again.' },
    );
  if (length > MAX_METADATA)
    throw new ImageMetadataError(`the metadata is ${length} bytes long, more than ${MAX_METADATA}`);
  const bytes = Buffer.from(await read(start, CRC_SIZE + length));
  const [expected, actual] = [bytes.readUInt32LE(0), crc32(bytes.subarray(CRC_SIZE))];
  if (expected !== actual)
    throw new ImageChecksumError(
      `the metadata is damaged: its CRC-32 is ${hex(actual)}, but the image says ${hex(expected)}`,
      { hint: 'Download or copy it again.' },
    );
  return { json: parseJson(bytes.subarray(CRC_SIZE)), start };
}

/** The trailer for a configuration, to be appended to a squashfs. @throws {ImageMetadataError} too large */
export function encodeTrailer(config: object): Buffer {
  const json = Buffer.from(JSON.stringify(config));
  if (json.length > MAX_METADATA)
    throw new ImageMetadataError(`the metadata is ${json.length} bytes long, more than ${MAX_METADATA}`);
  const crc = Buffer.alloc(CRC_SIZE);
  crc.writeUInt32LE(crc32(json));
  return Buffer.concat([crc, json, Buffer.from(String(json.length).padStart(LENGTH_DIGITS, '0'), 'latin1')]);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ImageMetadataError('the metadata is not JSON in UTF-8', { cause });
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
