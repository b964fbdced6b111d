/** A peer of a GSB router that sends and sees single packets. */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePacket, type Packet, PacketDecoder } from '../../host/gsb/packet.ts';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { withDeadline } from '../../host/lib/deadline.ts';

export type PacketOf<Kind extends Packet['kind']> = Extract<Packet, { kind: Kind }>;

interface Owner {
  teardown(end: () => void): void;
}

/** Milliseconds for what a router does at once, on a machine that does not stand still. */
export const DEADLINE = 60_000;

/** A folder for sockets, whose paths must be short; removed with the test. */
export function socketFolder(t: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'gsb-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export class RawPeer {
  readonly socket: Socket;
  /** Resolves when the router has closed the connection. */
  readonly closed: Promise<unknown>;
  readonly #packets: Packet[] = [];
  #arrived: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', resolve));
    const decoder = new PacketDecoder();
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      // The views in a packet last as long as the chunk, which nobody writes to again.
      this.#packets.push(...decoder.push(bytes));
      this.#arrived();
    });
    socket.on('close', () => this.#arrived());
  }

  /** Connects, and says nothing. */
  static async silent(t: Owner, address: GsbAddress): Promise<RawPeer> {
    const socket = connect(address.kind === 'unix' ? { path: address.path } : { ...address, noDelay: true });
    t.teardown(() => void socket.destroy());
    const peer = new RawPeer(socket);
    await withDeadline(once(socket, 'connect'), DEADLINE, 'the router');
    return peer;
  }

  /** Connects, says Hello, and has taken the router's. */
  static async connect(t: Owner, address: GsbAddress, instanceId = randomInstance()): Promise<RawPeer> {
    const peer = await RawPeer.silent(t, address);
    peer.send(hello(instanceId));
    await peer.next('hello');
    return peer;
  }

  /** All in one write. */
  send(...packets: Packet[]): void {
    this.socket.write(Buffer.concat(packets.map(encodePacket)));
  }

  /** The next packet that comes, which must be of this kind. @throws when another one comes, none in time, or the end */
  async next<Kind extends Packet['kind']>(kind: Kind): Promise<PacketOf<Kind>> {
    const packet = await withDeadline(this.#next(), DEADLINE, `a ${kind}`);
    if (packet.kind !== kind) throw new Error(`${JSON.stringify(packet)} came instead of a ${kind}`);
    return packet as PacketOf<Kind>;
  }

  /** Packets that have come and were not taken. */
  get waiting(): readonly Packet[] {
    return this.#packets;
  }

  async register(address: string): Promise<number> {
    this.send({ kind: 'registerRequest', serviceId: address });
    return (await this.next('registerReply')).code;
  }

  /** Registers as soon as the name is free: a router takes its time to see that a peer is gone. */
  async registerOnceFree(address: string): Promise<void> {
    const last = performance.now() + DEADLINE;
    while ((await this.register(address)) !== 0) {
      if (performance.now() > last) throw new Error(`${address} does not get free`);
    }
  }

  /** Sends a call without waiting. @returns its request id */
  call(
    address: string,
    data: string | Uint8Array = '',
    options: Partial<PacketOf<'callRequest'>> = {},
  ): string {
    const request = callRequest(address, data, options);
    this.send(request);
    return request.requestId;
  }

  /** The next packet, a reply to this call. */
  async replyTo(requestId: string): Promise<PacketOf<'callReply'> & { text: string }> {
    const reply = await this.next('callReply');
    if (reply.requestId !== requestId) throw new Error(`a reply to ${reply.requestId}, not ${requestId}`);
    return { ...reply, text: Buffer.from(reply.data).toString() };
  }

  reply(requestId: string, data: string | Uint8Array, options: Partial<PacketOf<'callReply'>> = {}): void {
    this.send({
      kind: 'callReply',
      requestId,
      code: 0,
      replyType: 'full',
      data: Buffer.from(data),
      ...options,
    });
  }

  /**
   * Knows that the router has nothing more for this peer: a call to nowhere is answered at once, and answers keep
   * their order. @throws when something else comes first
   */
  async nothingMore(): Promise<void> {
    await this.replyTo(this.call('/nowhere/at/all'));
  }

  async #next(): Promise<Packet> {
    while (this.#packets.length === 0) {
      if (this.socket.destroyed) throw new Error('the router closed the connection');
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
    return this.#packets.shift() as Packet;
  }
}

export function randomInstance(): Uint8Array {
  return new Uint8Array(randomBytes(16));
}

export function hello(instanceId: Uint8Array): Packet {
  return { kind: 'hello', name: 'test', version: '0', instanceId };
}

export function callRequest(
  address: string,
  data: string | Uint8Array,
  options: Partial<PacketOf<'callRequest'>> = {},
): PacketOf<'callRequest'> {
  const requestId = randomUUID();
  return {
    kind: 'callRequest',
    caller: 'local',
    address,
    requestId,
    data: Buffer.from(data),
    noReply: false,
    ...options,
  };
}
