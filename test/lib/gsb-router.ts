/** A bus that a test plays by hand: takes connections, notes what they send, answers registrations, and what it is told to. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeBody } from '../../host/gsb/body.ts';
import { connectGsb, type GsbConnection, type GsbOptions } from '../../host/gsb/connection.ts';
import { type CallReply, encodePacket, type Packet, PacketDecoder } from '../../host/gsb/packet.ts';
import type { Flex, GsbAddress } from '../../host/gsb/types.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { silentLogger } from '../../host/lib/logger.ts';

/** Milliseconds for whatever a test waits for. */
const WAIT = 60_000;

export type PacketOf<Kind extends Packet['kind']> = Extract<Packet, { kind: Kind }>;

interface Teardown {
  teardown(work: () => void | Promise<void>): void;
}

export class FakeRouter {
  /** With port 0, whatever port is free. */
  address: GsbAddress;
  /** All there have been, the newest last. */
  readonly connections: RouterConnection[] = [];
  /** What a registration is answered with; null: nothing. */
  register: (serviceId: string) => 0 | 400 | 409 | null = () => 0;
  #server: Server | undefined;
  #arrived = deferred<void>();
  #taken = 0;

  constructor(address: GsbAddress) {
    this.address = address;
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => {
      this.connections.push(new RouterConnection(socket, this));
      this.#arrived.resolve();
      this.#arrived = deferred();
    });
    this.#server = server;
    const { address } = this;
    const where = address.kind === 'unix' ? { path: address.path } : address;
    await new Promise<void>((resolve) => server.listen(where, resolve));
    const bound = server.address();
    if (address.kind === 'tcp' && typeof bound === 'object')
      this.address = { ...address, port: bound?.port ?? 0 };
  }

  /** The next connection that nobody has asked for. */
  async connection(): Promise<RouterConnection> {
    while (this.connections.length <= this.#taken) {
      await withDeadline(this.#arrived.promise, WAIT, 'a connection');
    }
    return this.connections[this.#taken++] as RouterConnection;
  }

  /** Ends as a bus that is killed: sockets closed, nobody listens. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const { socket } of this.connections) socket.destroy();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }
}

export class RouterConnection {
  readonly socket: Socket;
  /** What came and was not asked for yet. */
  readonly received: Packet[] = [];
  /** Data events in which the packets came. */
  bursts = 0;
  closed = false;
  #changed = deferred<void>();

  constructor(socket: Socket, router: FakeRouter) {
    this.socket = socket;
    const decoder = new PacketDecoder(Number.MAX_SAFE_INTEGER);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      this.bursts++;
      for (const packet of decoder.push(bytes)) {
        if (packet.kind === 'registerRequest') {
          const code = router.register(packet.serviceId);
          if (code !== null) this.send({ kind: 'registerReply', code, message: '' });
        }
        if (packet.kind === 'unregisterRequest') this.send({ kind: 'unregisterReply', code: 0 });
        this.received.push(packet);
      }
      this.#change();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#change();
    });
  }

  send(packet: Packet): void {
    if (this.socket.writable) this.socket.write(encodePacket(packet));
  }

  /** The first packet of the kind that was not taken yet. */
  async take<Kind extends Packet['kind']>(kind: Kind): Promise<PacketOf<Kind>> {
    for (;;) {
      const index = this.received.findIndex((packet) => packet.kind === kind);
      if (index !== -1) return this.received.splice(index, 1)[0] as PacketOf<Kind>;
      await withDeadline(this.#changed.promise, WAIT, `a ${kind}`);
    }
  }

  async end(): Promise<void> {
    while (!this.closed) await withDeadline(this.#changed.promise, WAIT, 'the end');
  }

  /** Sends a call as a peer would. */
  call(
    address: string,
    body: Flex | { raw: Uint8Array },
    requestId: string,
    fields: Partial<PacketOf<'callRequest'>> = {},
  ): void {
    const raw = (body as { raw?: Uint8Array } | null)?.raw;
    const data = raw instanceof Uint8Array ? raw : encodeBody(body as Flex);
    this.send({ kind: 'callRequest', caller: 'local', address, requestId, data, noReply: false, ...fields });
  }

  /** Answers a call that came. */
  reply(requestId: string, body: Flex | undefined, fields: Partial<CallReply> = {}): void {
    const data = body === undefined ? new Uint8Array(0) : encodeBody(body);
    this.send({ kind: 'callReply', requestId, code: 0, replyType: 'full', data, ...fields });
  }

  #change(): void {
    const changed = this.#changed;
    this.#changed = deferred();
    changed.resolve();
  }
}

/** A router on a Unix socket of its own; ends with the test. */
export async function startRouter(t: Teardown): Promise<FakeRouter> {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-gsb-'));
  const router = new FakeRouter({ kind: 'unix', path: join(folder, 'gsb.sock') });
  await router.listen();
  t.teardown(async () => {
    await router.stop();
    rmSync(folder, { recursive: true });
  });
  return router;
}

/** A connection to it; ends with the test. */
export function connectTo(t: Teardown, router: FakeRouter, options: Partial<GsbOptions> = {}): GsbConnection {
  const gsb = connectGsb({ address: router.address, logger: silentLogger, ...options });
  t.teardown(() => gsb.close());
  return gsb;
}
