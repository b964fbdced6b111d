/**
 * The first words with passt: who has the gateway's address? It answers when it is up, and learns the guest's MAC by the
 * question, so that a published port works before the guest has said anything.
 */
import type { HostNative } from '../../../native/host-face.ts';
import { YavmError } from '../../lib/errors.ts';
import { parseIp } from '../frame/address.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  readU16,
  readU32,
  writeU16,
  writeU32,
} from '../frame/layout.ts';
import { BROADCAST_MAC, parseMac } from '../frame/mac.ts';
import { INET, MAX_FRAME } from '../types.ts';

/** A frame's length before it, as QEMU and passt write it. Bytes. */
const PREFIX = 4;
const READABLE = 1;
/** Ethernet over ARP's header (RFC 826). */
const HARDWARE_ETHERNET = 1;

/** The guest's question, behind its length. */
export function gatewayQuestion(): Uint8Array {
  const bytes = new Uint8Array(PREFIX + ETH.payload + ARP.length);
  const arp = PREFIX + ETH.payload;
  const mac = parseMac(INET.guestMac);
  writeU32(bytes, 0, bytes.length - PREFIX);
  bytes.set(BROADCAST_MAC, PREFIX + ETH.destination);
  bytes.set(mac, PREFIX + ETH.source);
  writeU16(bytes, PREFIX + ETH.type, ETHER_TYPE.arp);
  writeU16(bytes, arp + ARP.hardware, HARDWARE_ETHERNET);
  writeU16(bytes, arp + ARP.protocol, ETHER_TYPE.ipv4);
  bytes[arp + ARP.hardwareLength] = mac.length;
  bytes[arp + ARP.protocolLength] = 4;
  writeU16(bytes, arp + ARP.operation, ARP_OPERATION.request);
  bytes.set(mac, arp + ARP.senderMac);
  bytes.set(parseIp(INET.guest), arp + ARP.senderIp);
  bytes.set(parseIp(INET.gateway), arp + ARP.targetIp);
  return bytes;
}

/** Whether a frame is the answer to it. */
export function isGatewayAnswer(frame: Uint8Array): boolean {
  return (
    frame.length >= ETH.payload + ARP.length &&
    readU16(frame, ETH.type) === ETHER_TYPE.arp &&
    readU16(frame, ETH.payload + ARP.operation) === ARP_OPERATION.reply
  );
}

/**
 * Asks and waits. Reads whole frames, and none beyond the answer: what follows is the filter's.
 * @returns whether it came; false: the cable's other end is gone
 * @throws {YavmError} YAVM_E_NET_PASST: what comes are no frames; the signal's reason
 */
export function firstAnswer(fd: number, native: HostNative, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let buffer: Uint8Array = new Uint8Array(PREFIX);
    let filled = 0;
    const done = (end: () => void) => {
      native.unwatch(fd);
      signal.removeEventListener('abort', onAbort);
      end();
    };
    const gone = () => done(() => resolve(false));
    const onAbort = () => done(() => reject(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    /** Bytes of one part are there: a length, or the frame that it belongs to. */
    const onPart = () => {
      const whole = buffer;
      filled = 0;
      if (whole.length === PREFIX) {
        const length = readU32(whole, 0);
        // A frame of 4 bytes would be taken for a length; there is none shorter than Ethernet's header.
        if (length < ETH.payload || length > MAX_FRAME) return done(() => reject(notFrames()));
        buffer = new Uint8Array(length);
        return;
      }
      buffer = new Uint8Array(PREFIX);
      if (isGatewayAnswer(whole)) done(() => resolve(true));
    };
    native.watch(fd, READABLE, () => {
      try {
        const got = native.receiveBytes(fd, buffer, filled, buffer.length - filled);
        if (got === 0) return gone();
        if (got < 0) return;
        filled += got;
        if (filled === buffer.length) onPart();
      } catch {
        gone();
      }
    });
    try {
      const question = gatewayQuestion();
      native.sendBytes(fd, question, 0, question.length);
    } catch {
      gone();
    }
  });
}

function notFrames(): YavmError {
  return new YavmError('YAVM_E_NET_PASST', 'what passt writes are no frames');
}
