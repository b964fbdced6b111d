/** Frames from outside: which of them the guest gets. What belongs to something that is under way, and what was published. */
import {
  ICMP,
  ICMP_TYPE,
  ICMPV6_TYPE,
  IP_PROTOCOL,
  readU16,
  readU32,
  TCP,
  TCP_FLAG,
  UDP,
} from '../frame/layout.ts';
import { DROP } from './drops.ts';
import type { FilterState } from './filter-state.ts';
import { type Flow, type Local, SIDE, tcpEnding } from './flows.ts';
import { LastEnds } from './last-ends.ts';
import { Packet } from './packet.ts';
import { quotedFlow } from './quoted-flow.ts';

export class Ingress {
  readonly #state: FilterState;
  readonly #packet = new Packet();
  readonly #last = new LastEnds();

  constructor(state: FilterState) {
    this.#state = state;
  }

  /** Whether the guest gets the frame. */
  frame(bytes: Uint8Array, start: number, length: number): boolean {
    const packet = this.#packet;
    const { neighbours } = this.#state;
    const flaw = packet.read(bytes, start, length);
    if (flaw !== 0) return this.#state.drop(flaw);
    const last = this.#last.flowOf(packet, this.#state.now);
    if (last !== null) return this.#segment(packet, last);
    if (packet.version === 0) return this.#state.discovery(neighbours.arpToGuest(packet), DROP.arp);
    if (packet.isNeighbourDiscovery) {
      return this.#state.discovery(neighbours.discoveryToGuest(packet), DROP.ndp);
    }
    const local = neighbours.localAt(packet.version, bytes, packet.destination);
    if (local === null) return this.#state.drop(DROP['other-destination']);
    if (packet.protocol === IP_PROTOCOL.tcp) return this.#tcpIn(packet, local);
    if (packet.protocol === IP_PROTOCOL.udp) return this.#udpIn(packet, local);
    return this.#icmpIn(packet, local);
  }

  #tcpIn(packet: Packet, local: Local): boolean {
    const { bytes, transport, flags } = packet;
    const remotePort = readU16(bytes, transport + TCP.sourcePort);
    const guestPort = readU16(bytes, transport + TCP.destinationPort);
    const now = this.#state.now;
    let flow = this.#state.tcp.find(IP_PROTOCOL.tcp, local, guestPort, remotePort, bytes, packet.source, now);
    const first = (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
    if (first && (flow === null || tcpEnding(flow))) {
      if (!this.#state.published.has(`tcp ${guestPort}`)) return this.#state.drop(DROP['no-flow']);
      if (flow !== null) this.#state.tcp.remove(flow);
      const key = { protocol: IP_PROTOCOL.tcp, local, guestPort, remotePort, fromGuest: false, dns: false };
      flow = this.#state.tcp.add(key, bytes, packet.source, now);
    }
    if (flow === null) return this.#state.drop(DROP['no-flow']);
    this.#last.remember(packet, flow);
    return this.#segment(packet, flow);
  }

  /** A segment of a connection. */
  #segment(packet: Packet, flow: Flow): boolean {
    const { bytes, transport, flags, size, data } = packet;
    const now = this.#state.now;
    if (flow.stream !== null) {
      const begin = readU32(bytes, transport + TCP.sequence) + (flags & TCP_FLAG.syn ? 1 : 0);
      const acknowledged = readU32(bytes, transport + TCP.acknowledgement);
      flow.stream.received(bytes, transport + size - data, data, begin, acknowledged, now);
    }
    if ((flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn) {
      // Until the guest says something: this is what it would acknowledge.
      flow.guestAcknowledged = (readU32(bytes, transport + TCP.sequence) + 1) | 0;
    }
    if (flags & TCP_FLAG.syn) {
      this.#state.patient?.begin(flow, readU32(bytes, transport + TCP.sequence) + 1, now);
    }
    if (flow.half === null) {
      const controls = (flags & TCP_FLAG.syn ? 1 : 0) + (flags & TCP_FLAG.fin ? 1 : 0);
      flow.remoteNext = (readU32(bytes, transport + TCP.sequence) + data + controls) | 0;
    }
    if (flow.patience !== null && (data > 0 || flags & TCP_FLAG.fin)) flow.patience.fromUpstream(now);
    flow.heard |= SIDE.remote;
    if (flags & TCP_FLAG.fin) flow.ended |= SIDE.remote;
    if (flags & TCP_FLAG.rst) flow.reset = true;
    this.#state.tcp.touch(flow, now);
    if (flow.half !== null) return flow.half.fromUpstream(packet, now) || this.#state.drop(DROP.replaced);
    if (!refusesBadly(flow, flags)) return true;
    // The same, as a guest takes it.
    this.#state.answers.endForGuest(flow);
    return this.#state.drop(DROP.replaced);
  }

  #udpIn(packet: Packet, local: Local): boolean {
    const { bytes, transport, size } = packet;
    const remotePort = readU16(bytes, transport + UDP.sourcePort);
    const guestPort = readU16(bytes, transport + UDP.destinationPort);
    const now = this.#state.now;
    let flow = this.#state.exchanges.find(
      IP_PROTOCOL.udp,
      local,
      guestPort,
      remotePort,
      bytes,
      packet.source,
      now,
    );
    if (flow === null) {
      if (!this.#state.published.has(`udp ${guestPort}`)) return this.#state.drop(DROP['no-flow']);
      const key = { protocol: IP_PROTOCOL.udp, local, guestPort, remotePort, fromGuest: false, dns: false };
      flow = this.#state.exchanges.add(key, bytes, packet.source, now);
      if (flow === null) return this.#state.drop(DROP['no-flow']);
    }
    if (flow.dns) {
      this.#state.guard.answered(bytes, transport + UDP.header, size - UDP.header, guestPort, now);
    }
    flow.heard |= SIDE.remote;
    this.#state.exchanges.touch(flow, now);
    return true;
  }

  #icmpIn(packet: Packet, local: Local): boolean {
    const { bytes, transport, protocol } = packet;
    const ipv4 = packet.version === 4;
    if (protocol !== (ipv4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6)) return this.#state.drop(DROP['no-flow']);
    if (bytes[transport + ICMP.type] === (ipv4 ? ICMP_TYPE.echoReply : ICMPV6_TYPE.echoReply)) {
      const id = readU16(bytes, transport + ICMP.id);
      const flow = this.#state.exchanges.find(protocol, local, id, 0, bytes, packet.source, this.#state.now);
      if (flow === null) return this.#state.drop(DROP['no-flow']);
      flow.heard |= SIDE.remote;
      this.#state.exchanges.touch(flow, this.#state.now);
      return true;
    }
    const quoted = quotedFlow(packet, this.#state, local);
    return quoted !== null || this.#state.drop(DROP.icmp);
  }
}

/**
 * Debian 12's passt tells that nobody listens by a reset that acknowledges nothing: who has only just asked for a connection
 * must not believe that (RFC 9293 3.10.7.3), and would wait for two minutes.
 */
function refusesBadly(flow: Flow, flags: number): boolean {
  return (flags & TCP_FLAG.rst) !== 0 && (flags & TCP_FLAG.ack) === 0 && flow.guestAcknowledged === null;
}
