/**
 * Frames for tests of the outbound filter, and a reader of them: written apart from host/network/frame, so that neither can
 * hide a mistake of the other. Any field can be set wrong.
 */
import { isIP, SocketAddress } from 'node:net';

export const GUEST = {
  mac: '90:13:0a:2a:2a:02',
  ipv4: '10.42.42.2',
  ipv6: 'fd42:42:42::2',
  linkLocal: 'fe80::9213:aff:fe2a:2a02',
};
export const GATEWAY = { mac: 'a0:13:0a:2a:2a:01', ipv4: '10.42.42.1', ipv6: 'fd42:42:42::1' };

export interface EthernetFields {
  to?: string;
  from?: string;
  type?: number;
}

export interface IpFields {
  to: string;
  from?: string;
  protocol?: number;
  /** IPv4: bytes between header and payload, a multiple of 4. */
  options?: Uint8Array;
  /** IPv4: flags and offset. */
  fragment?: number;
  /** IPv4's total length, IPv6's payload length; the right one by default. */
  length?: number;
  hops?: number;
}

export interface TcpFields {
  from?: number;
  to: number;
  sequence?: number;
  acknowledgement?: number;
  flags?: string;
  data?: Uint8Array;
  window?: number;
  /** In words of 32 bits. */
  offset?: number;
}

const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };
const FLAGS = 'FSRPAUEC';

export function addressBytes(text: string): Buffer {
  if (isIP(text) === 4) return Buffer.from(text.split('.').map(Number));
  // An IPv4 tail as two groups, then the gap filled.
  const plain = text.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a, b, c, d) => `${(a * 256 + +b).toString(16)}:${(c * 256 + +d).toString(16)}`,
  );
  const [head, tail] = plain.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const gap = tail === undefined ? [] : new Array(8 - head!.length - tail.length).fill('0');
  const groups = [...head!, ...gap, ...(tail ?? [])];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

/** An Ethernet frame; from the guest to its gateway unless told otherwise. */
export function ethernet(payload: Uint8Array, fields: EthernetFields = {}): Buffer {
  const version = (payload[0] ?? 0) >> 4;
  const type = fields.type ?? (version === 4 ? 0x0800 : 0x86dd);
  return Buffer.concat([
    ...[macBytes(fields.to ?? GATEWAY.mac), macBytes(fields.from ?? GUEST.mac)],
    ...[u16(type), payload],
  ]);
}

/** An IP packet of the version that the addresses have; from the guest unless told otherwise. */
export function ip(payload: Uint8Array, fields: IpFields): Buffer {
  const to = addressBytes(fields.to);
  const ipv4 = to.length === 4;
  const from = addressBytes(fields.from ?? (ipv4 ? GUEST.ipv4 : GUEST.ipv6));
  const protocol = fields.protocol ?? PROTOCOL.tcp;
  if (!ipv4) {
    const head = Buffer.concat([Buffer.from([0x60, 0, 0, 0]), u16(fields.length ?? payload.length)]);
    return Buffer.concat([head, Buffer.from([protocol, fields.hops ?? 64]), from, to, payload]);
  }
  const options = fields.options ?? new Uint8Array();
  const size = 20 + options.length;
  const header = Buffer.concat([
    ...[Buffer.from([0x40 | (size / 4), 0]), u16(fields.length ?? size + payload.length), u16(7)],
    ...[u16(fields.fragment ?? 0x4000), Buffer.from([fields.hops ?? 64, protocol, 0, 0]), from, to, options],
  ]);
  header.writeUInt16BE(onesComplement(header), 10);
  return Buffer.concat([header, payload]);
}

/** A frame with a TCP segment. */
export function tcp(address: Omit<IpFields, 'protocol'>, fields: TcpFields, outer?: EthernetFields): Buffer {
  const flags = [...(fields.flags ?? 'S')].reduce((sum, letter) => sum | (1 << FLAGS.indexOf(letter)), 0);
  const segment = Buffer.concat([
    ...[u16(fields.from ?? 40_000), u16(fields.to), u32(fields.sequence ?? 1000)],
    ...[u32(fields.acknowledgement ?? 0), Buffer.from([(fields.offset ?? 5) << 4, flags])],
    ...[u16(fields.window ?? 65_535), u16(0), u16(0), fields.data ?? new Uint8Array()],
  ]);
  return ethernet(ip(withChecksum(segment, 16, address, PROTOCOL.tcp), { ...address, protocol: 6 }), outer);
}

/** A frame with a UDP datagram. `length`: of its header's field. */
export function udp(
  address: Omit<IpFields, 'protocol'>,
  fields: { from?: number; to: number; data?: Uint8Array; length?: number },
  outer?: EthernetFields,
): Buffer {
  const data = fields.data ?? Buffer.from('data');
  const datagram = Buffer.concat([
    ...[u16(fields.from ?? 50_000), u16(fields.to), u16(fields.length ?? 8 + data.length), u16(0), data],
  ]);
  const payload = withChecksum(datagram, 6, address, PROTOCOL.udp);
  return ethernet(ip(payload, { ...address, protocol: PROTOCOL.udp }), outer);
}

/** A frame with an ICMP or ICMPv6 message: an echo request, by default. */
export function icmp(
  address: Omit<IpFields, 'protocol'>,
  fields: { type?: number; code?: number; id?: number; sequence?: number; data?: Uint8Array } = {},
  outer?: EthernetFields,
): Buffer {
  const ipv4 = addressBytes(address.to).length === 4;
  const message = Buffer.concat([
    Buffer.from([fields.type ?? (ipv4 ? 8 : 128), fields.code ?? 0, 0, 0]),
    ...[u16(fields.id ?? 77), u16(fields.sequence ?? 1), fields.data ?? Buffer.alloc(56)],
  ]);
  const protocol = ipv4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
  if (ipv4) message.writeUInt16BE(onesComplement(message), 2);
  const payload = ipv4 ? message : withChecksum(message, 2, address, protocol);
  return ethernet(ip(payload, { ...address, protocol }), outer);
}

export function arp(
  fields: {
    operation?: number;
    senderMac?: string;
    sender?: string;
    targetMac?: string;
    target?: string;
  },
  outer: EthernetFields = {},
): Buffer {
  return ethernet(
    Buffer.concat([
      ...[u16(1), u16(0x0800), Buffer.from([6, 4]), u16(fields.operation ?? 1)],
      ...[macBytes(fields.senderMac ?? GUEST.mac), addressBytes(fields.sender ?? GUEST.ipv4)],
      ...[macBytes(fields.targetMac ?? '00:00:00:00:00:00'), addressBytes(fields.target ?? GATEWAY.ipv4)],
    ]),
    { to: 'ff:ff:ff:ff:ff:ff', type: 0x0806, ...outer },
  );
}

/** What a frame of the filter says; its checksums are computed here. */
export interface Read {
  macs: string;
  from: string;
  to: string;
  protocol: number;
  /** Of TCP and UDP. */
  ports: [from: number, to: number];
  sequence: number;
  acknowledgement: number;
  window: number;
  flags: string;
  /** Of ICMP. */
  type: number;
  code: number;
  /** Behind the transport's header. */
  data: Buffer;
  sound: boolean;
}

export function read(frame: Uint8Array): Read {
  const bytes = Buffer.from(frame);
  const mac = (at: number) =>
    [...bytes.subarray(at, at + 6)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  const packet = bytes.subarray(14);
  const ipv4 = packet[0]! >> 4 === 4;
  const header = ipv4 ? 20 : 40;
  const [source, destination] = ipv4
    ? [packet.subarray(12, 16), packet.subarray(16, 20)]
    : [packet.subarray(8, 24), packet.subarray(24, 40)];
  const inner = packet.subarray(header);
  const said = ipv4 ? packet.readUInt16BE(2) - 20 : packet.readUInt16BE(4);
  const protocol = packet[ipv4 ? 9 : 6]!;
  const pseudo = Buffer.concat([source, destination, u32(inner.length), u32(protocol)]);
  const covered = protocol === PROTOCOL.icmp ? inner : Buffer.concat([pseudo, inner]);
  const isTcp = protocol === PROTOCOL.tcp;
  const isIcmp = protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmpv6;
  return {
    macs: `${mac(6)} > ${mac(0)}`,
    ...{ from: addressText(source!), to: addressText(destination!), protocol },
    ports: [inner.readUInt16BE(0), inner.readUInt16BE(2)],
    sequence: isTcp ? inner.readUInt32BE(4) : 0,
    acknowledgement: isTcp ? inner.readUInt32BE(8) : 0,
    window: isTcp ? inner.readUInt16BE(14) : 0,
    flags: isTcp ? [...FLAGS].filter((_, bit) => inner[13]! & (1 << bit)).join('') : '',
    type: isIcmp ? inner[0]! : -1,
    code: isIcmp ? inner[1]! : -1,
    data: inner.subarray(isTcp ? 20 : 8),
    sound:
      said === inner.length &&
      onesComplement(covered) === 0 &&
      (!ipv4 || onesComplement(packet.subarray(0, 20)) === 0) &&
      (protocol !== PROTOCOL.udp || inner.readUInt16BE(4) === inner.length),
  };
}

export function u16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 255, value & 255]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Buffer.from(bytes).toString('hex').match(/.{4}/g) as string[];
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

function withChecksum(
  message: Buffer,
  at: number,
  address: Omit<IpFields, 'protocol'>,
  protocol: number,
): Buffer {
  const to = addressBytes(address.to);
  const from = addressBytes(address.from ?? (to.length === 4 ? GUEST.ipv4 : GUEST.ipv6));
  const whole = Buffer.concat([from, to, u32(message.length), u32(protocol), message]);
  message.writeUInt16BE(onesComplement(whole), at);
  return message;
}

/** RFC 1071, the plain way: zero over bytes whose checksum is right. */
function onesComplement(bytes: Uint8Array): number {
  let sum = 0n;
  const even = bytes.length % 2 === 0 ? Buffer.from(bytes) : Buffer.concat([bytes, Buffer.from([0])]);
  for (let at = 0; at < even.length; at += 2) sum += BigInt(even.readUInt16BE(at));
  // 2^16 is 1 in this arithmetic.
  const folded = Number(sum % 65_535n);
  return folded === 0 ? 0 : 65_535 - folded;
}
