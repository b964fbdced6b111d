/** Echo requests that the relay sends as if the guest had. Their replies, and nothing else, are kept from the guest. */
import { randomBytes, randomInt } from 'node:crypto';
import { sleep, withDeadline } from '../../lib/deadline.ts';
import { type Deferred, deferred } from '../../lib/deferred.ts';
import { isYavmError, YavmError } from '../../lib/errors.ts';
import { formatIp } from '../frame/address.ts';
import { buildArp } from '../frame/arp.ts';
import { buildEcho, buildNeighborSolicitation } from '../frame/icmp.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMP_TYPE,
  ICMPV6_TYPE,
  IP_PROTOCOL,
  IPV4,
  IPV6,
  readU16,
} from '../frame/layout.ts';
import type { PingReply } from '../types.ts';

export interface PingerParts {
  /** The guest's MAC. */
  mac: readonly number[];
  /** Sends a frame as the guest. */
  send(frame: Uint8Array): void;
  /** Has {@link Pinger.see} called for what comes, from now on, or no longer. */
  watch(on: boolean): void;
}

/** Pings under way. */
const MAX_PINGS = 16;
/** Milliseconds after which the question for a MAC, or the echo request, is sent again. */
const AGAIN = { ask: 300, echo: 1000 } as const;
/** Bytes of an echo request's data that are this ping's alone. */
const TOKEN = 16;
/** All of them; ping's own number. */
const DATA = 56;

interface Ping {
  source: Uint8Array;
  target: Uint8Array;
  mac: number[] | null;
  id: number;
  data: Uint8Array;
  /** When each request went, by its sequence number; milliseconds. */
  sent: number[];
  known: Deferred<void>;
  answered: Deferred<number>;
}

export class Pinger {
  readonly #parts: PingerParts;
  readonly #pings = new Set<Ping>();

  constructor(parts: PingerParts) {
    this.#parts = parts;
  }

  /** @param source An address of the guest, of the target's family. @throws {YavmError} YAVM_E_NET_PING */
  async ping(source: Uint8Array, target: Uint8Array, milliseconds: number): Promise<PingReply> {
    if (this.#pings.size >= MAX_PINGS) {
      throw new YavmError('YAVM_E_NET_PING', `${MAX_PINGS} pings are under way already`);
    }
    const data = new Uint8Array(DATA);
    data.set(randomBytes(TOKEN));
    const ping: Ping = {
      ...{ source, target, data, mac: null, sent: [], id: randomInt(0x10000) },
      ...{ known: deferred<void>(), answered: deferred<number>() },
    };
    this.#pings.add(ping);
    this.#parts.watch(true);
    const stop = new AbortController();
    try {
      this.#repeat(ping, stop.signal).catch(() => {});
      return { milliseconds: await withDeadline(ping.answered.promise, milliseconds, formatIp(target)) };
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      const what = ping.mac === null ? ': its MAC was asked for in vain' : '';
      throw new YavmError('YAVM_E_NET_PING', error.message + what);
    } finally {
      stop.abort();
      this.#pings.delete(ping);
      if (this.#pings.size === 0) this.#parts.watch(false);
    }
  }

  async #repeat(ping: Ping, signal: AbortSignal): Promise<void> {
    while (ping.mac === null) {
      this.#parts.send(this.#question(ping));
      await Promise.race([ping.known.promise, sleep(AGAIN.ask, signal)]);
    }
    for (;;) {
      const sequence = ping.sent.push(performance.now());
      const { mac: destinationMac, source, target: destination, id, data } = ping;
      const ends = { sourceMac: this.#parts.mac, destinationMac, source, destination };
      this.#parts.send(buildEcho(ends, { kind: 'request', id, sequence, data }));
      await sleep(AGAIN.echo, signal);
    }
  }

  #question({ source, target }: Ping): Uint8Array {
    const { mac } = this.#parts;
    return target.length === 4
      ? buildArp({ operation: 'request', senderMac: mac, senderIp: source, targetIp: target })
      : buildNeighborSolicitation(mac, source, target);
  }

  /** Looks at a frame that is to go to the guest; true: it is a reply of ours. */
  see(bytes: Uint8Array, offset: number, length: number): boolean {
    for (const ping of this.#pings) {
      const found = ping.target.length === 4 ? see4 : see6;
      if (found(ping, bytes, offset, length)) return true;
    }
    return false;
  }
}

function see4(ping: Ping, bytes: Uint8Array, offset: number, length: number): boolean {
  const at = offset + ETH.payload;
  const type = readU16(bytes, offset + ETH.type);
  if (type === ETHER_TYPE.arp) {
    const isReply =
      length >= ETH.payload + ARP.length && readU16(bytes, at + ARP.operation) === ARP_OPERATION.reply;
    if (isReply && equal(bytes, at + ARP.senderIp, ping.target)) learn(ping, bytes, at + ARP.senderMac);
    return false;
  }
  if (type !== ETHER_TYPE.ipv4 || length < ETH.payload + IPV4.header) return false;
  if (bytes[at + IPV4.protocol] !== IP_PROTOCOL.icmp) return false;
  const icmp = ((bytes[at + IPV4.versionLength] as number) & 15) * 4;
  return isReplyTo(ping, ICMP_TYPE.echoReply, bytes, at + icmp, length - ETH.payload - icmp);
}

function see6(ping: Ping, bytes: Uint8Array, offset: number, length: number): boolean {
  const at = offset + ETH.payload;
  const icmp = at + IPV6.header;
  const size = length - ETH.payload - IPV6.header;
  if (readU16(bytes, offset + ETH.type) !== ETHER_TYPE.ipv6 || size < ICMP.header) return false;
  if (bytes[at + IPV6.nextHeader] !== IP_PROTOCOL.icmpv6) return false;
  if (bytes[icmp] === ICMPV6_TYPE.neighborAdvertisement) {
    const isFrom = size >= ICMP.header + 16 && equal(bytes, icmp + ICMP.header, ping.target);
    if (isFrom) learn(ping, bytes, offset + ETH.source);
    return false;
  }
  return isReplyTo(ping, ICMPV6_TYPE.echoReply, bytes, icmp, size);
}

function learn(ping: Ping, bytes: Uint8Array, at: number): void {
  if (ping.mac !== null) return;
  ping.mac = Array.from(bytes.subarray(at, at + 6));
  ping.known.resolve();
}

function isReplyTo(ping: Ping, type: number, bytes: Uint8Array, at: number, size: number): boolean {
  if (size < ICMP.header + TOKEN || bytes[at + ICMP.type] !== type) return false;
  if (readU16(bytes, at + ICMP.id) !== ping.id) return false;
  if (!equal(bytes, at + ICMP.header, ping.data.subarray(0, TOKEN))) return false;
  const sent = ping.sent[readU16(bytes, at + ICMP.sequence) - 1];
  if (sent !== undefined) ping.answered.resolve(performance.now() - sent);
  return true;
}

function equal(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  return expected.every((byte, index) => bytes[at + index] === byte);
}
