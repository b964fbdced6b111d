/** Frames of the guest: which of them go out. Those of connections that are there, and those that may begin one. */
import { formatIp } from '../frame/address.ts';
import { DNS_PORT } from '../frame/dns.ts';
import {
  ETH,
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
import { DnsStream } from './dns-stream.ts';
import { DROP } from './drops.ts';
import type { FilterState } from './filter-state.ts';
import { type Flow, LOCAL, type Local, SIDE, tcpEnding } from './flows.ts';
import { windowScale } from './half-closed.ts';
import { LastEnds } from './last-ends.ts';
import { Packet } from './packet.ts';
import type { Protocol } from './policy.ts';

/** Connections to the resolver whose queries are read. */
const MAX_STREAMS = 64;

export class Egress {
  readonly #state: FilterState;
  readonly #packet = new Packet();
  readonly #last = new LastEnds();

  constructor(state: FilterState) {
    this.#state = state;
  }

  /** Whether the frame goes out. */
  frame(bytes: Uint8Array, start: number, length: number): boolean {
    const packet = this.#packet;
    const { neighbours } = this.#state;
    const flaw = packet.read(bytes, start, length);
    if (flaw !== 0) return this.#state.drop(flaw);
    const last = this.#last.flowOf(packet, this.#state.now);
    if (last !== null) return this.#segment(packet, last);
    if (!neighbours.isGuestMac(bytes, start + ETH.source)) return this.#state.drop(DROP['source-mac']);
    if (packet.version === 0) return this.#state.discovery(neighbours.arpFromGuest(packet), DROP.arp);
    if (packet.isNeighbourDiscovery) {
      return this.#state.discovery(neighbours.discoveryFromGuest(packet), DROP.ndp);
    }
    if (((bytes[start] as number) & 1) !== 0) return this.#state.drop(DROP.group);
    if (!neighbours.isGatewayMac(bytes, start)) return this.#state.drop(DROP['destination-mac']);
    const local = neighbours.localAt(packet.version, bytes, packet.source);
    if (local === null) return this.#state.drop(DROP['source-address']);
    if (packet.protocol === IP_PROTOCOL.tcp) return this.#tcpOut(packet, local);
    if (packet.protocol === IP_PROTOCOL.udp) return this.#udpOut(packet, local);
    const icmp = packet.version === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6;
    if (packet.protocol === icmp) return this.#echoOut(packet, local);
    return this.#refuse(packet, `protocol-${packet.protocol}`, null, 'protocol');
  }

  #tcpOut(packet: Packet, local: Local): boolean {
    const { bytes, transport, flags } = packet;
    const guestPort = readU16(bytes, transport + TCP.sourcePort);
    const remotePort = readU16(bytes, transport + TCP.destinationPort);
    const now = this.#state.now;
    let flow = this.#state.tcp.find(
      IP_PROTOCOL.tcp,
      local,
      guestPort,
      remotePort,
      bytes,
      packet.destination,
      now,
    );
    const first = (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
    if (flow !== null && first && flow.stream === null && tcpEnding(flow)) {
      this.#state.tcp.remove(flow);
      flow = null;
    }
    if (flow === null) {
      flow = first ? this.#openTcp(packet, local, guestPort, remotePort) : this.#strayTcp(packet);
      if (flow === null) return false;
    } else if (first && !this.#beginsAgain(packet, flow, local)) return false;
    if (flow.stream !== null && !this.#streamOut(packet, flow, flow.stream)) return false;
    this.#last.remember(packet, flow);
    return this.#segment(packet, flow);
  }

  /** A segment of a connection: whether it goes out. */
  #segment(packet: Packet, flow: Flow): boolean {
    const { bytes, transport, flags } = packet;
    const controls = (flags & TCP_FLAG.syn ? 1 : 0) + (flags & TCP_FLAG.fin ? 1 : 0);
    const next = (readU32(bytes, transport + TCP.sequence) + packet.data + controls) | 0;
    // Only what has bytes or controls moves on: nothing else was looked at by a stream.
    const moves = packet.data + controls > 0 && ((next - flow.guestNext) | 0) > 0;
    if (moves || (flow.heard & SIDE.guest) === 0) flow.guestNext = next;
    if (flags & TCP_FLAG.ack) flow.guestAcknowledged = readU32(bytes, transport + TCP.acknowledgement) | 0;
    flow.heard |= SIDE.guest;
    if (flags & TCP_FLAG.fin) flow.ended |= SIDE.guest;
    if (flags & TCP_FLAG.rst) this.#resetOut(flow);
    this.#state.tcp.touch(flow, this.#state.now);
    if (flow.half !== null) return flow.half.fromGuest(packet) || this.#state.drop(DROP.replaced);
    if ((flags & (TCP_FLAG.syn | TCP_FLAG.fin)) !== 0) this.#turns(packet, flow);
    if (flow.patience !== null) return flow.patience.fromGuest(packet) || this.#state.drop(DROP.replaced);
    this.#state.patient?.look(packet, flow, this.#state.now);
    return true;
  }

  /** What is to be known of a connection's begin, and done at the guest's end of it. */
  #turns(packet: Packet, flow: Flow): void {
    const { flags } = packet;
    if (flags & TCP_FLAG.syn) flow.guestScale = windowScale(packet);
    const ends = (flags & (TCP_FLAG.fin | TCP_FLAG.ack | TCP_FLAG.rst)) === (TCP_FLAG.fin | TCP_FLAG.ack);
    if (!ends || flow.ended !== SIDE.guest || flow.stream !== null) return;
    flow.half = this.#state.halfClosed?.begin(packet, flow, this.#state.now) ?? null;
    if (flow.half !== null) flow.patience?.end();
  }

  /** A segment of no connection: the guest is told so, as the other side would tell it. */
  #strayTcp(packet: Packet): null {
    if (!(packet.flags & TCP_FLAG.rst)) this.#state.answers.reset(packet, this.#state.now);
    this.#state.drop(DROP['no-flow']);
    return null;
  }

  #openTcp(packet: Packet, local: Local, guestPort: number, remotePort: number): Flow | null {
    const dns = this.#isResolver(packet, local, remotePort);
    const reason = this.#objection('tcp', packet, local, remotePort, dns);
    const refuse = (why: string) => {
      this.#refuse(packet, 'tcp', remotePort, why);
      return null;
    };
    if (reason !== null) return refuse(reason);
    if (packet.data > 0) {
      // Linux sends it again without data.
      this.#state.drop(DROP['tcp-flags']);
      return null;
    }
    const reads = dns && this.#state.guard.restricted;
    if (reads && this.#streams() >= MAX_STREAMS) return refuse('too-many');
    const key = { protocol: IP_PROTOCOL.tcp, local, guestPort, remotePort, fromGuest: true, dns };
    const flow = this.#state.tcp.add(key, packet.bytes, packet.destination, this.#state.now);
    if (flow === null) return refuse('too-many');
    const sequence = readU32(packet.bytes, packet.transport + TCP.sequence);
    if (reads) flow.stream = new DnsStream(this.#state.guard, sequence + 1);
    return flow;
  }

  /** A first segment where a connection is: sent again, or another connection with the same ports. */
  #beginsAgain(packet: Packet, flow: Flow, local: Local): boolean {
    if (packet.data > 0) return this.#state.drop(DROP['tcp-flags']);
    if (flow.stream !== null) {
      const sequence = readU32(packet.bytes, packet.transport + TCP.sequence);
      const again = flow.heard === SIDE.guest && ((sequence + 1) | 0) === flow.guestNext;
      return again || this.#state.drop(DROP['tcp-flags']);
    }
    // passt of 2023-03 resets a connection whose first segment it gets once more, before or after it has answered that.
    if (this.#state.patient !== null && isRepeated(packet, flow)) return this.#state.drop(DROP.replaced);
    if (flow.heard === SIDE.guest) return true;
    const reason = this.#objection('tcp', packet, local, flow.remotePort, flow.dns);
    return reason === null || this.#refuse(packet, 'tcp', flow.remotePort, reason);
  }

  /** A segment to the resolver where names are limited. */
  #streamOut(packet: Packet, flow: Flow, stream: DnsStream): boolean {
    const { bytes, transport, size, data, flags } = packet;
    if (flow.reset) return this.#state.drop(DROP['no-flow']);
    const sequence = readU32(bytes, transport + TCP.sequence);
    const verdict =
      data === 0 ? 'pass' : stream.segment(bytes, transport + size - data, data, sequence, this.#state.now);
    if (verdict === 'dns-refused') {
      this.#refusedName(packet, 'tcp', stream.refused);
      this.#state.answers.reset(packet, this.#state.now);
      this.#state.answers.endForUpstream(flow);
      this.#state.tcp.remove(flow);
      return false;
    }
    if (verdict === 'dns-order') return this.#state.drop(DROP['dns-order']);
    if (flags & TCP_FLAG.fin && !stream.mayEnd(sequence + data)) return this.#state.drop(DROP['dns-order']);
    return true;
  }

  /** The guest says that it is over; the resolver gets that with a number that it must believe. */
  #resetOut(flow: Flow): void {
    if (flow.stream !== null && !flow.reset) this.#state.answers.endForUpstream(flow);
    flow.reset = true;
  }

  #udpOut(packet: Packet, local: Local): boolean {
    const { bytes, transport, size } = packet;
    const guestPort = readU16(bytes, transport + UDP.sourcePort);
    const remotePort = readU16(bytes, transport + UDP.destinationPort);
    const now = this.#state.now;
    let flow = this.#state.exchanges.find(
      IP_PROTOCOL.udp,
      local,
      guestPort,
      remotePort,
      bytes,
      packet.destination,
      now,
    );
    if (flow === null) {
      const dns = this.#isResolver(packet, local, remotePort);
      const reason = this.#objection('udp', packet, local, remotePort, dns);
      if (reason !== null) return this.#refuse(packet, 'udp', remotePort, reason);
      const key = { protocol: IP_PROTOCOL.udp, local, guestPort, remotePort, fromGuest: true, dns };
      flow = this.#state.exchanges.add(key, bytes, packet.destination, now);
      if (flow === null) return this.#refuse(packet, 'udp', remotePort, 'too-many');
    }
    if (flow.dns) {
      const message = transport + UDP.header;
      const verdict = this.#state.guard.datagram(bytes, message, size - UDP.header, guestPort, now);
      if (verdict === 'no-such-name') {
        const query = this.#state.guard.last;
        this.#refusedName(packet, 'udp', query?.name);
        if (query !== null) this.#state.answers.noSuchName(packet, query, now);
        return false;
      }
      if (verdict !== 'pass') return this.#state.drop(DROP[verdict]);
    }
    flow.heard |= SIDE.guest;
    this.#state.exchanges.touch(flow, now);
    return true;
  }

  #echoOut(packet: Packet, local: Local): boolean {
    const { bytes, transport, protocol } = packet;
    const type = bytes[transport + ICMP.type] as number;
    const echo = packet.version === 4 ? ICMP_TYPE.echo : ICMPV6_TYPE.echo;
    if (type !== echo || bytes[transport + ICMP.code] !== 0) return this.#state.drop(DROP.icmp);
    const id = readU16(bytes, transport + ICMP.id);
    let flow = this.#state.exchanges.find(protocol, local, id, 0, bytes, packet.destination, this.#state.now);
    if (flow === null) {
      const reason = this.#objection('icmp', packet, local, 0, false);
      if (reason !== null) return this.#refuse(packet, 'icmp', null, reason);
      const key = { protocol, local, guestPort: id, remotePort: 0, fromGuest: true, dns: false };
      flow = this.#state.exchanges.add(key, bytes, packet.destination, this.#state.now);
      if (flow === null) return this.#refuse(packet, 'icmp', null, 'too-many');
    }
    flow.heard |= SIDE.guest;
    this.#state.exchanges.touch(flow, this.#state.now);
    return true;
  }

  // ---------------------------------------------------------------- decisions

  /** Why the guest may not begin this, or null. */
  #objection(protocol: Protocol, packet: Packet, local: Local, port: number, dns: boolean): string | null {
    if (!this.#state.wayOut) return 'no-way-out';
    if (local !== LOCAL.ipv4 && !this.#state.ipv6) return 'no-ipv6';
    if (dns) return null;
    if (local === LOCAL.linkLocal) return 'link-local';
    return this.#state.policy.refusal(protocol, packet.addressAt(packet.destination), port, this.#state.now);
  }

  #isResolver(packet: Packet, local: Local, port: number): boolean {
    const address = this.#state.dns[local];
    return (
      port === DNS_PORT &&
      address !== null &&
      address !== undefined &&
      address.every((byte, index) => packet.bytes[packet.destination + index] === byte)
    );
  }

  #streams(): number {
    let count = 0;
    for (const flow of this.#state.tcp.all()) if (flow.stream !== null) count++;
    return count;
  }

  #refuse(packet: Packet, protocol: string, port: number | null, reason: string): false {
    const address = packet.addressAt(packet.destination);
    this.#state.refusals.add(
      `${protocol} ${endText(address, port)}`,
      reason,
      this.#state.policy.resolved.nameFor(address),
    );
    if (packet.protocol === IP_PROTOCOL.tcp) this.#state.answers.reset(packet, this.#state.now);
    else this.#state.answers.prohibited(packet, this.#state.now);
    return false;
  }

  #refusedName(packet: Packet, protocol: string, name: string | undefined): void {
    const address = packet.addressAt(packet.destination);
    this.#state.refusals.add(`${protocol} ${endText(address, DNS_PORT)}`, 'name-not-listed', name);
  }
}

/** A first segment, when the guest has sent nothing but that. */
function isRepeated({ bytes, transport }: Packet, flow: Flow): boolean {
  return ((readU32(bytes, transport + TCP.sequence) + 1) | 0) === flow.guestNext;
}

/** `93.184.216.34:443`, `[2001:db8::1]:443` */
function endText(address: Uint8Array, port: number | null): string {
  const text = formatIp(address);
  if (port === null) return text;
  return `${text.includes(':') ? `[${text}]` : text}:${port}`;
}
