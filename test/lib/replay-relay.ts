/** The bus's side of the VPN relay's own connection in a replay: names are taken, calls go to who has the name. */
import type { Socket } from 'node:net';
import { encodePacket, type Packet, PacketDecoder } from '../../host/gsb/index.ts';

type CallRequest = Extract<Packet, { kind: 'callRequest' }>;

/** Where a VPN's names begin; the recorded supervisor registers them on its one connection. */
export const VPN_NAMES = '/public/vpn/';

export class RelayConnections {
  readonly #names = new Map<string, Socket>();
  /** Who made a call, by its id. */
  readonly #callers = new Map<string, Socket>();
  readonly #onPacket: (packet: Packet) => void;

  /** @param onPacket Gets what a relay sends, but for its Hello. */
  constructor(onPacket: (packet: Packet) => void) {
    this.#onPacket = onPacket;
  }

  accept(socket: Socket): void {
    const decoder = new PacketDecoder();
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      for (const packet of decoder.push(bytes)) this.#take(socket, packet);
    });
    socket.on('close', () => {
      for (const [name, owner] of this.#names) if (owner === socket) this.#names.delete(name);
    });
  }

  /** Hands a call to who has its name. False: nobody has. */
  call(packet: CallRequest): boolean {
    const socket = this.#names.get(packet.address);
    socket?.write(encodePacket(packet));
    return socket !== undefined;
  }

  /** Answers a call that a relay made. False: none of them did. */
  reply(packet: Extract<Packet, { kind: 'callReply' }>): boolean {
    const socket = this.#callers.get(packet.requestId);
    socket?.write(encodePacket(packet));
    return socket !== undefined;
  }

  #take(socket: Socket, packet: Packet): void {
    const answer = (reply: Packet) => socket.write(encodePacket(reply));
    if (packet.kind === 'hello') return;
    if (packet.kind === 'registerRequest') {
      this.#names.set(packet.serviceId, socket);
      answer({ kind: 'registerReply', code: 0, message: '' });
    }
    if (packet.kind === 'unregisterRequest') {
      this.#names.delete(packet.serviceId);
      answer({ kind: 'unregisterReply', code: 0 });
    }
    if (packet.kind === 'callRequest') this.#callers.set(packet.requestId, socket);
    this.#onPacket(packet);
  }
}
