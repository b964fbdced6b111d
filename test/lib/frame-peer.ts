/**
 * The supervisor's end of a NIC's cable, for tests: keeps every frame that the VM sends, answers ARP and pings as if it had
 * every address, and asks the VM in turn. By datagrams, or by a stream with QEMU's framing in pieces of any size.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { withDeadline } from '../../host/lib/deadline.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import { checksum } from '../../host/network/frame/checksum.ts';
import { echoAnswer } from '../../host/network/frame/echo.ts';
import { ARP, ETH, ETHER_TYPE, ICMP, IPV4, readU16, writeU16 } from '../../host/network/frame/layout.ts';
import { BROADCAST_MAC, formatMac, macOf } from '../../host/network/frame/mac.ts';
import { writeEthernet, writeIp } from '../../host/network/frame/write-ip.ts';
import type { Owner } from './vm.ts';

/** For one frame from a VM under TCG on a busy machine, milliseconds. */
const DEADLINE = 120_000;
/** Frames kept. */
const MAX_KEPT = 10_000;

export class FramePeer {
  readonly frames: Buffer[] = [];
  readonly #send: (frame: Uint8Array) => void;
  #wake: (() => void)[] = [];

  constructor(send: (frame: Uint8Array) => void) {
    this.#send = send;
  }

  /** A frame came from the VM. */
  take(frame: Buffer): void {
    if (this.frames.length < MAX_KEPT) this.frames.push(frame);
    const answer = echoAnswer(frame);
    if (answer) this.#send(answer);
    for (const wake of this.#wake.splice(0)) wake();
  }

  send(frame: Uint8Array): void {
    this.#send(frame);
  }

  /** The first frame from number `from` on, now or later, that is wanted. */
  async frame(wanted: (frame: Buffer) => boolean, what: string, from = 0): Promise<Buffer> {
    const look = async () => {
      for (;;) {
        const found = this.frames.slice(from).find(wanted);
        if (found) return found;
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    };
    return await withDeadline(look(), DEADLINE, what);
  }

  /** Asks for `address` by ARP and pings it, as `own`. @returns the MAC that answered. */
  async ping(own: string, address: string): Promise<string> {
    const from = this.frames.length;
    this.send(arpRequest(own, address));
    const isArp = (frame: Buffer) =>
      readU16(frame, ETH.type) === ETHER_TYPE.arp && sender(frame) === address && target(frame) === own;
    const arp = await this.frame(isArp, `ARP of ${address}`, from);
    const mac = [...arp.subarray(ETH.source, ETH.type)];
    this.send(echoRequest(own, address, mac));
    const isEcho = (frame: Buffer) =>
      readU16(frame, ETH.type) === ETHER_TYPE.ipv4 &&
      frame[ETH.payload + IPV4.protocol] === 1 &&
      frame[ETH.payload + IPV4.header + ICMP.type] === 0 &&
      sourceIp(frame) === address;
    await this.frame(isEcho, `echo of ${address}`, from);
    return formatMac(mac);
  }
}

/** Of a frame with ARP. */
const dotted = (frame: Buffer, at: number) => [...frame.subarray(at, at + 4)].join('.');
const sender = (frame: Buffer) => dotted(frame, ETH.payload + ARP.senderIp);
const target = (frame: Buffer) => dotted(frame, ETH.payload + ARP.targetIp);

/** Of a frame with IPv4. */
export const sourceIp = (frame: Buffer) => dotted(frame, ETH.payload + IPV4.source);
export const destinationIp = (frame: Buffer) => dotted(frame, ETH.payload + IPV4.destination);
export const isIpv4 = (frame: Buffer) => readU16(frame, ETH.type) === ETHER_TYPE.ipv4;

export function arpRequest(own: string, address: string): Buffer {
  const frame = Buffer.alloc(ETH.payload + ARP.length);
  const mac = macOf('peer', parseIp(own));
  frame.set([...BROADCAST_MAC, ...mac, 0x08, 0x06]);
  frame.set([0, 1, 8, 0, 6, 4, 0, 1, ...mac, ...parseIp(own)], ETH.payload);
  frame.set(parseIp(address), ETH.payload + ARP.targetIp);
  return frame;
}

function echoRequest(own: string, address: string, mac: readonly number[]): Buffer {
  const size = ICMP.header + 24;
  const frame = Buffer.alloc(ETH.payload + IPV4.header + size);
  const icmp = ETH.payload + IPV4.header;
  writeEthernet(frame, mac, macOf('peer', parseIp(own)), 4);
  writeIp(frame, ETH.payload, parseIp(own), parseIp(address), 1, size);
  frame[icmp + ICMP.type] = 8;
  writeU16(frame, icmp + ICMP.id, 77);
  writeU16(frame, icmp + ICMP.checksum, checksum(frame, icmp, size));
  return frame;
}

/** A supervisor's UDP socket: it sends to where the runtime's answer says, as the stock one does. */
export async function udpPeer(
  t: Owner,
): Promise<{ peer: FramePeer; url: string; connect(address: string): void }> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.teardown(() => void socket.close());
  let port = 0;
  const peer = new FramePeer((frame) => {
    if (port !== 0) socket.send(frame, port, '127.0.0.1');
  });
  socket.on('message', (frame) => peer.take(frame));
  return {
    peer,
    url: `udp://127.0.0.1:${socket.address().port}`,
    connect(address) {
      port = Number(address.split(':')[1]);
    },
  };
}

/** Over a connected TCP socket. `pieces`: bytes of each write; 0: as they are. */
export function streamPeer(socket: Socket, pieces = 0): FramePeer {
  socket.setNoDelay(true);
  socket.on('error', () => {});
  const peer = new FramePeer((frame) => {
    const bytes = framed(frame);
    if (pieces === 0) return void socket.write(bytes);
    for (let at = 0; at < bytes.length; at += pieces) socket.write(bytes.subarray(at, at + pieces));
  });
  let rest = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const length = rest.readUInt32BE(0);
      peer.take(rest.subarray(4, 4 + length));
      rest = rest.subarray(4 + length);
    }
  });
  return peer;
}

/** Each frame behind its length, one after the other. */
export function framed(...frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );
}
