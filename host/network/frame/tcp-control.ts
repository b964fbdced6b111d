/** TCP segments without data, as whole frames: resets (RFC 9293 3.10.7.1), and what else moves a connection on. */
import { ETH, IP_PROTOCOL, IPV4, IPV6, readU32, TCP, TCP_FLAG, writeU16, writeU32 } from './layout.ts';
import { writeEthernet, writeIp, writeTransportChecksum } from './write-ip.ts';

/** Most bytes that a frame of this file has. */
export const CONTROL_FRAME = ETH.payload + IPV6.header + TCP.header;

/** What a segment says; addresses of 4 or 16 bytes, all numbers as on the wire. */
export interface Control {
  destinationMac: readonly number[];
  sourceMac: readonly number[];
  source: Uint8Array;
  destination: Uint8Array;
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  /** Null: without an acknowledgement. */
  acknowledgement: number | null;
  /** As on the wire; default 0. */
  window?: number;
  /** TCP_FLAG…; that of an acknowledgement comes with one. */
  flags: number;
}

/** Writes the frame at the start of `into`; returns its length. */
export function writeControl(into: Uint8Array, control: Control): number {
  const version = control.source.length === 4 ? 4 : 6;
  const ip = ETH.payload;
  const tcp = ip + (version === 4 ? IPV4.header : IPV6.header);
  writeEthernet(into, control.destinationMac, control.sourceMac, version);
  writeIp(into, ip, control.source, control.destination, IP_PROTOCOL.tcp, TCP.header);
  into.fill(0, tcp, tcp + TCP.header);
  writeU16(into, tcp + TCP.sourcePort, control.sourcePort);
  writeU16(into, tcp + TCP.destinationPort, control.destinationPort);
  writeU32(into, tcp + TCP.sequence, control.sequence);
  writeU32(into, tcp + TCP.acknowledgement, control.acknowledgement ?? 0);
  into[tcp + TCP.offset] = (TCP.header / 4) << 4;
  into[tcp + TCP.flags] = control.flags | (control.acknowledgement === null ? 0 : TCP_FLAG.ack);
  writeU16(into, tcp + TCP.window, control.window ?? 0);
  writeTransportChecksum(into, ip, tcp, TCP.header, IP_PROTOCOL.tcp, TCP.checksum);
  return tcp + TCP.header;
}

/**
 * The numbers of a reset that answers a segment without a connection: what the segment acknowledges, or an acknowledgement of
 * all of it. `tcp` and `length`: the segment, header and data.
 */
export function resetNumbers(
  bytes: Uint8Array,
  tcp: number,
  length: number,
): Pick<Control, 'sequence' | 'acknowledgement'> {
  const flags = bytes[tcp + TCP.flags] as number;
  if (flags & TCP_FLAG.ack) {
    return { sequence: readU32(bytes, tcp + TCP.acknowledgement), acknowledgement: null };
  }
  const data = length - ((bytes[tcp + TCP.offset] as number) >> 4) * 4;
  const controls = (flags & TCP_FLAG.syn ? 1 : 0) + (flags & TCP_FLAG.fin ? 1 : 0);
  return { sequence: 0, acknowledgement: (readU32(bytes, tcp + TCP.sequence) + data + controls) >>> 0 };
}
