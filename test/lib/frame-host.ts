/**
 * A host at the other end of a NIC's cable, made of nothing but frames: it answers ARP and echo requests, takes datagrams, and
 * serves TCP connections that say one thing and are told another. Every checksum of what comes is looked at.
 */
import { checksum, foldSum, pseudoHeaderSum, sumWords } from '../../host/network/frame/checksum.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMP_TYPE,
  IP_PROTOCOL,
  IPV4,
  readU16,
  readU32,
  TCP,
  TCP_FLAG,
  writeU16,
  writeU32,
} from '../../host/network/frame/layout.ts';
import type { FrameLink } from '../../host/network/nic/frame-link.ts';

const FIRST_SEQUENCE = 1000;

export interface FrameHostOptions {
  /** Four bytes. */
  ip: readonly number[];
  mac: readonly number[];
  /** What each connection is told, in segments of at most `segment` bytes. */
  greeting?: Uint8Array;
  segment?: number;
}

export class FrameHost {
  /** Lengths of the frames with echo requests that came. */
  readonly echoes: number[] = [];
  /** Payloads of UDP datagrams. */
  readonly datagrams: Uint8Array[] = [];
  /** What connections said, by the guest's port. */
  readonly said = new Map<number, Uint8Array[]>();
  /** Frames with a wrong checksum, in words. */
  readonly wrong: string[] = [];
  /** Frames of any kind. */
  frames = 0;
  readonly #link: FrameLink;
  readonly #options: Required<FrameHostOptions>;

  /** Takes the link's batches. */
  constructor(link: FrameLink, options: FrameHostOptions) {
    this.#link = link;
    this.#options = { greeting: new Uint8Array(0), segment: 1000, ...options };
    link.onBatch = ({ bytes, count, offsets, lengths }) => {
      for (let index = 0; index < count; index++) {
        const offset = offsets[index] as number;
        this.#frame(bytes.slice(offset, offset + (lengths[index] as number)));
      }
    };
  }

  #frame(frame: Uint8Array): void {
    this.frames++;
    const type = readU16(frame, ETH.type);
    if (type === ETHER_TYPE.arp) this.#arp(frame);
    if (type !== ETHER_TYPE.ipv4) return;
    const { ip } = this.#options;
    if (!ip.every((byte, index) => frame[ETH.payload + IPV4.destination + index] === byte)) return;
    if (checksum(frame, ETH.payload, IPV4.header) !== 0) this.wrong.push('an IPv4 header');
    const end = ETH.payload + readU16(frame, ETH.payload + IPV4.totalLength);
    const packet = frame.subarray(0, end);
    const protocol = packet[ETH.payload + IPV4.protocol];
    if (protocol === IP_PROTOCOL.icmp) this.#icmp(packet);
    if (protocol === IP_PROTOCOL.udp || protocol === IP_PROTOCOL.tcp) {
      if (sumOfTransport(packet) !== 0) this.wrong.push(`protocol ${protocol}, ${packet.length} bytes`);
      if (protocol === IP_PROTOCOL.udp) this.datagrams.push(packet.slice(TRANSPORT + 8));
      else this.#tcp(packet);
    }
  }

  #send(frame: Uint8Array): void {
    if (!this.#link.send(frame, 0, frame.length)) this.wrong.push('a frame that found no room');
  }

  #arp(frame: Uint8Array): void {
    const { ip, mac } = this.#options;
    const asks = readU16(frame, ETH.payload + ARP.operation) === ARP_OPERATION.request;
    if (!asks || !ip.every((byte, index) => frame[ETH.payload + ARP.targetIp + index] === byte)) return;
    const reply = frame.slice(0, ETH.payload + ARP.length);
    const asker = frame.subarray(ETH.payload + ARP.senderMac, ETH.payload + ARP.targetMac);
    writeU16(reply, ETH.payload + ARP.operation, ARP_OPERATION.reply);
    reply.set(asker, ETH.payload + ARP.targetMac);
    reply.set([...mac, ...ip], ETH.payload + ARP.senderMac);
    reply.set(asker.subarray(0, 6), ETH.destination);
    reply.set(mac, ETH.source);
    this.#send(reply);
  }

  #icmp(packet: Uint8Array): void {
    if (packet[TRANSPORT + ICMP.type] !== ICMP_TYPE.echo) return;
    this.echoes.push(packet.length);
    const length = packet.length - TRANSPORT;
    if (checksum(packet, TRANSPORT, length) !== 0) this.wrong.push(`an echo request of ${length} bytes`);
    const reply = turned(packet);
    reply[TRANSPORT + ICMP.type] = ICMP_TYPE.echoReply;
    writeU16(reply, TRANSPORT + ICMP.checksum, 0);
    writeU16(reply, TRANSPORT + ICMP.checksum, checksum(reply, TRANSPORT, length));
    this.#send(reply);
  }

  /** Enough of TCP for a peer that loses nothing: greets, acknowledges what comes, and ends when the peer does. */
  #tcp(packet: Uint8Array): void {
    const flags = packet[TRANSPORT + TCP.flags] as number;
    const port = readU16(packet, TRANSPORT + TCP.sourcePort);
    const sequence = readU32(packet, TRANSPORT + TCP.sequence);
    if ((flags & TCP_FLAG.syn) !== 0) {
      this.said.set(port, []);
      this.#segment(packet, FIRST_SEQUENCE, sequence + 1, TCP_FLAG.syn | TCP_FLAG.ack);
      return;
    }
    const header = ((packet[TRANSPORT + TCP.offset] as number) >> 4) * 4;
    const data = packet.slice(TRANSPORT + header);
    const { greeting, segment } = this.#options;
    const acknowledged = readU32(packet, TRANSPORT + TCP.acknowledgement);
    const said = this.said.get(port) as Uint8Array[];
    if (data.length === 0 && (flags & TCP_FLAG.fin) === 0) {
      // The end of the handshake: now the greeting.
      if (acknowledged !== FIRST_SEQUENCE + 1 || said.length > 0) return;
      for (let at = 0; at < greeting.length; at += segment) {
        const piece = greeting.subarray(at, at + segment);
        this.#segment(packet, FIRST_SEQUENCE + 1 + at, sequence, TCP_FLAG.ack | TCP_FLAG.psh, piece);
      }
      return;
    }
    said.push(data);
    const fin = (flags & TCP_FLAG.fin) !== 0;
    const next = FIRST_SEQUENCE + 1 + greeting.length;
    const acknowledges = sequence + data.length + (fin ? 1 : 0);
    this.#segment(packet, next, acknowledges, TCP_FLAG.ack | (fin ? TCP_FLAG.fin : 0));
  }

  #segment(
    to: Uint8Array,
    sequence: number,
    acknowledges: number,
    flags: number,
    data: Uint8Array = new Uint8Array(0),
  ): void {
    const reply = new Uint8Array(TRANSPORT + TCP.header + data.length);
    reply.set(turned(to.subarray(0, TRANSPORT + TCP.header)));
    writeU16(reply, ETH.payload + IPV4.totalLength, reply.length - ETH.payload);
    writeU16(reply, ETH.payload + IPV4.checksum, 0);
    writeU16(reply, ETH.payload + IPV4.checksum, checksum(reply, ETH.payload, IPV4.header));
    writeU16(reply, TRANSPORT + TCP.sourcePort, readU16(to, TRANSPORT + TCP.destinationPort));
    writeU16(reply, TRANSPORT + TCP.destinationPort, readU16(to, TRANSPORT + TCP.sourcePort));
    writeU32(reply, TRANSPORT + TCP.sequence, sequence);
    writeU32(reply, TRANSPORT + TCP.acknowledgement, acknowledges);
    reply[TRANSPORT + TCP.offset] = (TCP.header / 4) << 4;
    reply[TRANSPORT + TCP.flags] = flags;
    writeU16(reply, TRANSPORT + TCP.window, 0xffff);
    writeU32(reply, TRANSPORT + TCP.checksum, 0);
    reply.set(data, TRANSPORT + TCP.header);
    writeU16(reply, TRANSPORT + TCP.checksum, sumOfTransport(reply));
    this.#send(reply);
  }
}

/** Where TCP, UDP and ICMP begin: the guest sends no options of IPv4. */
const TRANSPORT = ETH.payload + IPV4.header;

/** Zero over a TCP or UDP packet with a right checksum. */
function sumOfTransport(packet: Uint8Array): number {
  const length = packet.length - TRANSPORT;
  const protocol = packet[ETH.payload + IPV4.protocol] as number;
  const pseudo = pseudoHeaderSum(packet, ETH.payload + IPV4.source, 4, protocol, length);
  return foldSum(sumWords(packet, TRANSPORT, length, pseudo));
}

/** A copy with the addresses of Ethernet and IPv4 exchanged, which no checksum minds. */
function turned(packet: Uint8Array): Uint8Array {
  const copy = packet.slice();
  copy.copyWithin(ETH.destination, ETH.source, ETH.source + 6);
  copy.set(packet.subarray(ETH.destination, ETH.destination + 6), ETH.source);
  const source = ETH.payload + IPV4.source;
  const destination = ETH.payload + IPV4.destination;
  copy.set(packet.subarray(source, destination), destination);
  copy.set(packet.subarray(destination, destination + 4), source);
  return copy;
}
