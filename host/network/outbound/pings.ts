/** Echo requests to the outside that the filter sends as if the guest had. Their replies, and nothing else, are kept from it. */
import { randomBytes, randomInt } from 'node:crypto';
import { sleep, withDeadline } from '../../lib/deadline.ts';
import { type Deferred, deferred } from '../../lib/deferred.ts';
import { isYavmError, YavmError } from '../../lib/errors.ts';
import { formatIp, parseIp } from '../frame/address.ts';
import { buildEcho } from '../frame/icmp.ts';
import { ETH, ICMP, ICMP_TYPE, ICMPV6_TYPE, IP_PROTOCOL, IPV4, IPV6, readU16 } from '../frame/layout.ts';
import { parseMac } from '../frame/mac.ts';
import { INET, type PingReply } from '../types.ts';

export interface PingParts {
  /** Why the task may not reach the address, or null. */
  objection(address: Uint8Array): string | null;
  /** Sends a frame as the guest. False: it did not get out. */
  send(frame: Uint8Array): boolean;
  /** Milliseconds. */
  now(): number;
}

/** Pings under way. */
const MAX_PINGS = 16;
/** Milliseconds after which a request is sent again. */
const AGAIN = 1000;
/** Bytes of a request's data that are this ping's alone, and all of them: ping's own number. */
const TOKEN = 16;
const DATA = 56;

interface Ping {
  id: number;
  data: Uint8Array;
  /** When each request went, by its sequence number. Milliseconds. */
  sent: number[];
  answered: Deferred<number>;
}

export class Pings {
  readonly #parts: PingParts;
  readonly #pings = new Set<Ping>();

  constructor(parts: PingParts) {
    this.#parts = parts;
  }

  /** Whether {@link take} has anything to look for. */
  get waiting(): boolean {
    return this.#pings.size > 0;
  }

  /** @throws {YavmError} YAVM_E_NET_PING: not allowed, no way, or no answer in time; YAVM_E_NET_ADDRESS */
  async ping(text: string, milliseconds: number): Promise<PingReply> {
    const target = parseIp(text);
    const why = this.#parts.objection(target);
    if (why !== null) throw new YavmError('YAVM_E_NET_PING', `${text}: the task may not reach it (${why})`);
    if (this.#pings.size >= MAX_PINGS) {
      throw new YavmError('YAVM_E_NET_PING', `${MAX_PINGS} pings are under way already`);
    }
    const data = new Uint8Array(DATA);
    data.set(randomBytes(TOKEN));
    const ping: Ping = { id: randomInt(0x10000), data, sent: [], answered: deferred<number>() };
    this.#pings.add(ping);
    const stop = new AbortController();
    try {
      this.#repeat(ping, target, stop.signal).catch(() => {});
      return { milliseconds: await withDeadline(ping.answered.promise, milliseconds, formatIp(target)) };
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      throw new YavmError('YAVM_E_NET_PING', error.message, {
        hint: 'This host may not let its users send echo requests (net.ipv4.ping_group_range): `ya-vm doctor` says so.',
      });
    } finally {
      stop.abort();
      this.#pings.delete(ping);
    }
  }

  /** Takes the reply to one of ours out of what goes to the guest. The frame has passed the filter. */
  take(bytes: Uint8Array, start: number, length: number): boolean {
    const ip = start + ETH.payload;
    const version = (bytes[ip] as number) >> 4;
    const [protocol, header, type] =
      version === 4
        ? [bytes[ip + IPV4.protocol], IPV4.header, ICMP_TYPE.echoReply]
        : [bytes[ip + IPV6.nextHeader], IPV6.header, ICMPV6_TYPE.echoReply];
    const icmp = ip + header;
    if (protocol !== (version === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6) || bytes[icmp] !== type)
      return false;
    if (start + length < icmp + ICMP.header + TOKEN) return false;
    for (const { id, data, sent, answered } of this.#pings) {
      if (readU16(bytes, icmp + ICMP.id) !== id) continue;
      const token = icmp + ICMP.header;
      if (!data.subarray(0, TOKEN).every((byte, index) => bytes[token + index] === byte)) continue;
      const at = sent[readU16(bytes, icmp + ICMP.sequence) - 1];
      if (at !== undefined) answered.resolve(this.#parts.now() - at);
      return true;
    }
    return false;
  }

  async #repeat({ id, data, sent }: Ping, destination: Uint8Array, signal: AbortSignal): Promise<void> {
    const [sourceMac, destinationMac] = [INET.guestMac, INET.gatewayMac].map(parseMac) as [
      number[],
      number[],
    ];
    const source = parseIp(destination.length === 4 ? INET.guest : INET.guest6);
    for (;;) {
      const sequence = sent.push(this.#parts.now());
      const ends = { sourceMac, destinationMac, source, destination };
      this.#parts.send(buildEcho(ends, { kind: 'request', id, sequence, data }));
      await sleep(AGAIN, signal);
    }
  }
}
