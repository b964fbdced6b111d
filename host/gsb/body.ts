/** Bodies of calls: FlexBuffers, zlib-wrapped where the sender likes to. Facts: the spec's exe-unit.md, 2.2. */
import { inflateSync } from 'node:zlib';
import { decodeFlex } from './flexbuffers/decode.ts';
import { encodeFlex } from './flexbuffers/encode.ts';
import { bodyError } from './flexbuffers/format.ts';
import { MAX_PACKET } from './packet.ts';
import type { Flex } from './types.ts';

/** Bytes of a body at most once it is inflated: as many as a packet carries without. */
export const MAX_BODY = MAX_PACKET;

/** Reads a body. @throws {YavmError} YAVM_E_GSB_BODY */
export function decodeBody(bytes: Uint8Array): Flex {
  return decodeFlex(inflateBody(bytes));
}

/** Never compressed: the receiver tries both, whatever the request was like. @throws {YavmError} YAVM_E_GSB_BODY */
export function encodeBody(value: Flex): Uint8Array {
  return encodeFlex(value);
}

/** What zlib wraps, or the bytes themselves. @throws {YavmError} YAVM_E_GSB_BODY for more than {@link MAX_BODY} */
export function inflateBody(bytes: Uint8Array): Uint8Array {
  if (!looksDeflated(bytes)) return bytes;
  try {
    return inflateSync(bytes, { maxOutputLength: MAX_BODY });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw bodyError(`more than ${MAX_BODY} bytes once inflated`, error);
    }
    return bytes;
  }
}

/** RFC 1950: method 8, a window of up to 32 KiB, and a multiple of 31. Spares plain bodies an attempt that throws. */
function looksDeflated(bytes: Uint8Array): boolean {
  const [method = 0, flags = 0] = bytes;
  return (method & 0x0f) === 8 && method >> 4 <= 7 && ((method << 8) | flags) % 31 === 0;
}
