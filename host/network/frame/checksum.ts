/** The internet checksum (RFC 1071). */

/** Sum of 16-bit words, not folded; an odd last byte counts as the upper half of a word. `sum` is what came before. */
export function sumWords(bytes: Uint8Array, start: number, length: number, sum = 0): number {
  let total = sum;
  const end = start + length;
  let at = start;
  for (; at + 1 < end; at += 2) total += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (at < end) total += (bytes[at] as number) << 8;
  return total;
}

/** The checksum that a sum of words has: folded and complemented, 16 bits. */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}

/** Of `length` bytes at `start`. Zero over bytes that contain a right checksum. */
export function checksum(bytes: Uint8Array, start: number, length: number, sum = 0): number {
  return foldSum(sumWords(bytes, start, length, sum));
}

/**
 * Sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 3.1, RFC 8200 8.1): addresses of 4 or 16 bytes that lie one
 * after the other at `addresses`.
 */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  addresses: number,
  addressLength: 4 | 16,
  protocol: number,
  length: number,
): number {
  return sumWords(bytes, addresses, 2 * addressLength) + protocol + (length >>> 16) + (length & 0xffff);
}
