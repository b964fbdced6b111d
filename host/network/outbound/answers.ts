/** Frames that the filter makes: what a refused guest gets at once, and what ends connections that nobody else would end. */
import { parseIp } from '../frame/address.ts';
import { type DnsQuery, writeNoSuchName } from '../frame/dns.ts';
import { ETH, IP_PROTOCOL, IPV4, IPV6, readU16, TCP, TCP_FLAG, UDP, writeU16 } from '../frame/layout.ts';
import { CONTROL_FRAME, type Control, resetNumbers, writeControl } from '../frame/tcp-control.ts';
import { UNREACHABLE_FRAME, writeProhibited } from '../frame/unreachable.ts';
import { writeEthernet, writeIp, writeTransportChecksum } from '../frame/write-ip.ts';
import { INET } from '../types.ts';
import { MAX_QUERY } from './dns-guard.ts';
import { type Flow, SIDE } from './flows.ts';
import type { Neighbours } from './neighbours.ts';
import type { Packet } from './packet.ts';
import { TokenBucket } from './token-bucket.ts';

/** Where a frame goes; it is copied before this returns. */
export type Emit = (side: 'guest' | 'upstream', bytes: Uint8Array, length: number) => void;

/** Refusals a second that the guest is told of; beyond that it learns by waiting. */
const RATE = 2000;

/** A flow's segment, but for its ends; numbers of 32 bits, signed or not. */
type Segment = Pick<Control, 'sequence' | 'acknowledgement' | 'flags' | 'window'>;

export class Answers {
  readonly #neighbours: Neighbours;
  readonly #emit: Emit;
  readonly #rate = new TokenBucket(RATE);
  readonly #frame = new Uint8Array(
    Math.max(CONTROL_FRAME, UNREACHABLE_FRAME, ETH.payload + IPV6.header + UDP.header + MAX_QUERY),
  );
  readonly #gateway = { 4: parseIp(INET.gateway), 6: parseIp(INET.gateway6) } as const;

  constructor(neighbours: Neighbours, emit: Emit) {
    this.#neighbours = neighbours;
    this.#emit = emit;
  }

  /** To the segment that was read last: there is no such connection. */
  reset(packet: Packet, now: number): void {
    if (!this.#rate.take(now)) return;
    const { bytes, transport } = packet;
    const length = writeControl(this.#frame, {
      ...this.#ends(packet),
      flags: TCP_FLAG.rst,
      sourcePort: readU16(bytes, transport + TCP.destinationPort),
      destinationPort: readU16(bytes, transport + TCP.sourcePort),
      ...resetNumbers(bytes, transport, packet.size),
    });
    this.#emit('guest', this.#frame, length);
  }

  /** To any other packet. */
  prohibited(packet: Packet, now: number): void {
    const { bytes, ip, version, transport, size } = packet;
    // Nobody is told about what went to many (RFC 1122 3.2.2, RFC 4443 2.4).
    if (version === 0 || isGroup(packet) || !this.#rate.take(now)) return;
    const message = { ...this.#ends(packet), source: this.#gateway[version] };
    const length = writeProhibited(this.#frame, message, bytes, ip, transport + size - ip);
    this.#emit('guest', this.#frame, length);
  }

  /** To a query over UDP: there is no such name. */
  noSuchName(packet: Packet, query: DnsQuery, now: number): void {
    if (!this.#rate.take(now)) return;
    const { bytes, transport, version } = packet;
    const into = this.#frame;
    const { destinationMac, sourceMac, source, destination } = this.#ends(packet);
    const ip = ETH.payload;
    const udp = ip + (version === 4 ? IPV4.header : IPV6.header);
    const message = transport + UDP.header;
    const size = UDP.header + writeNoSuchName(into, udp + UDP.header, bytes, message, query);
    writeEthernet(into, destinationMac, sourceMac, version === 4 ? 4 : 6);
    writeIp(into, ip, source, destination, IP_PROTOCOL.udp, size);
    writeU16(into, udp + UDP.sourcePort, readU16(bytes, transport + UDP.destinationPort));
    writeU16(into, udp + UDP.destinationPort, readU16(bytes, transport + UDP.sourcePort));
    writeU16(into, udp + UDP.length, size);
    writeTransportChecksum(into, ip, udp, size, IP_PROTOCOL.udp, UDP.checksum);
    this.#emit('guest', into, udp + size);
  }

  /** Ends a connection for the guest, as the other side would: the number is what the guest waits for. */
  endForGuest(flow: Flow): void {
    const acknowledged = flow.guestAcknowledged;
    this.#toGuest(flow, {
      // Who has sent nothing but a first segment, takes only what acknowledges that.
      sequence: acknowledged ?? 0,
      acknowledgement: acknowledged === null ? flow.guestNext : null,
      flags: TCP_FLAG.rst,
    });
  }

  /** Ends it for the other side, as the guest would. */
  endForUpstream(flow: Flow): void {
    if ((flow.heard & SIDE.guest) === 0) return;
    const acknowledgement = flow.guestAcknowledged ?? 0;
    this.#toUpstream(flow, { sequence: flow.guestNext, acknowledgement, flags: TCP_FLAG.rst });
  }

  /** The other side has ended, and everything of the guest has arrived. */
  finishForGuest(flow: Flow, sequence: number, acknowledgement: number): void {
    this.#toGuest(flow, { sequence, acknowledgement, flags: TCP_FLAG.fin });
  }

  /** As the guest would. `window`: as on the wire. */
  acknowledgeForUpstream(flow: Flow, sequence: number, acknowledgement: number, window = 0): void {
    this.#toUpstream(flow, { sequence, acknowledgement, window, flags: 0 });
  }

  #toGuest(flow: Flow, segment: Segment): void {
    const length = writeControl(this.#frame, {
      destinationMac: this.#neighbours.guestMac,
      sourceMac: this.#neighbours.gatewayMac,
      source: flow.address(),
      destination: this.#neighbours.guest[flow.local],
      sourcePort: flow.remotePort,
      destinationPort: flow.guestPort,
      ...segment,
    });
    this.#emit('guest', this.#frame, length);
  }

  #toUpstream(flow: Flow, segment: Segment): void {
    const length = writeControl(this.#frame, {
      destinationMac: this.#neighbours.gatewayMac,
      sourceMac: this.#neighbours.guestMac,
      source: this.#neighbours.guest[flow.local],
      destination: flow.address(),
      sourcePort: flow.guestPort,
      destinationPort: flow.remotePort,
      ...segment,
    });
    this.#emit('upstream', this.#frame, length);
  }

  /** The frame's own ends, turned round. */
  #ends(packet: Packet) {
    const { bytes, start } = packet;
    const mac = start + ETH.destination;
    return {
      destinationMac: this.#neighbours.guestMac,
      sourceMac: Array.from(bytes.subarray(mac, mac + 6)),
      source: packet.addressAt(packet.destination),
      destination: packet.addressAt(packet.source),
    };
  }
}

/** Multicast, broadcast, or nobody's address. */
function isGroup({ bytes, version, destination }: Packet): boolean {
  const first = bytes[destination] as number;
  return version === 4 ? first >= 224 || first === 0 : first === 0xff;
}
