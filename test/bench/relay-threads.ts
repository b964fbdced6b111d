/**
 * The threads of the relay's bench: a simulated NIC, the relay itself (or a plain one of Node's dgram), and the bus at its
 * other side, which counts, sends or reflects frames without looking at them.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { encodeBody } from '../../host/gsb/body.ts';
import { encodePacket, type Packet, PacketDecoder } from '../../host/gsb/packet.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { VpnSetup } from '../../host/network/types.ts';
import { loadNative } from '../../native/load.ts';
import { FrameCounter, SimulatedNic, Window } from '../lib/simulated-nic.ts';

export const NODE = `0x${'1'.repeat(40)}`;
export const PEER = `0x${'2'.repeat(40)}`;

/** Bytes of a socket's buffer, as the relay's cable has it. */
const BUFFER = 4 << 20;
/** Frames that the bus writes at once. */
const BUS_BATCH = 64;

// ---------------------------------------------------------------- what they are asked

/** Each question, and what it is given; the answers are in ROLES. */
export interface Questions {
  /** Where arrivals are counted. */
  counter: Record<never, never>;
  /** Sends until the counter says stop. */
  send: { frame: Uint8Array; window: number; counter: SharedArrayBuffer };
  flood: { frame: Uint8Array; counter: SharedArrayBuffer };
  circulate: { frame: Uint8Array; window: number };
  still: Record<never, never>;
  /** Microseconds of processor time of this thread. */
  cpu: Record<never, never>;
  /** Frames that came from the NIC, and those of them that went nowhere. */
  stats: Record<never, never>;
  /** To a plain relay: where frames go. */
  connect: { port: number };
  close: Record<never, never>;
}
export type Question = keyof Questions;

/** A thread of one role, asked from outside. */
export class BenchThread {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(role: Role, given: Given[Role]): Promise<{ thread: BenchThread; ready: Answer }> {
    const worker = new Worker(import.meta.filename, { workerData: { role, given } });
    const [ready] = (await once(worker, 'message')) as [Answer];
    return { thread: new BenchThread(worker), ready };
  }

  /** One question at a time. @throws what the thread threw */
  async ask<Name extends Question>(name: Name, give: Questions[Name]): Promise<Answer> {
    this.#worker.postMessage({ name, give });
    const [answer] = (await once(this.#worker, 'message')) as [Answer];
    return answer;
  }

  async end(): Promise<void> {
    await this.ask('close', {});
    await this.#worker.terminate();
  }
}

/** Numbers, and a counter's memory. */
export interface Answer {
  value: number;
  dropped?: number;
  memory?: SharedArrayBuffer;
  counters?: SharedArrayBuffer[];
}

interface Given {
  nic: { fd: number };
  relay: { setup: VpnSetup };
  plain: Record<never, never>;
  /** One connection for each of the networks; `frame` is what a reflected or sent one has. */
  bus: { path: string; networks: readonly string[]; reflect: boolean };
}
type Role = keyof Given;
type Handlers = { [Name in Question]?: (give: Questions[Name]) => Promise<Answer> | Answer };

const cpu = (): Answer => {
  const { user, system } = process.threadCpuUsage();
  return { value: user + system };
};
const DONE: Answer = { value: 0 };

// ---------------------------------------------------------------- the roles

const ROLES: { [Name in Role]: (given: Given[Name]) => Promise<[Answer, Handlers]> } = {
  async nic({ fd }) {
    const nic = new SimulatedNic(loadNative(), fd);
    let circle = { stop: () => {} };
    return [
      { value: 0, memory: nic.received.memory },
      {
        send({ frame, window, counter }) {
          nic.load(frame);
          return { value: nic.sendCounted(window, new FrameCounter(counter)) };
        },
        flood({ frame, counter }) {
          nic.load(frame);
          return { value: nic.flood(new FrameCounter(counter)) };
        },
        circulate({ frame, window }) {
          nic.load(frame);
          circle = nic.circulate(window);
          return DONE;
        },
        still() {
          circle.stop();
          return DONE;
        },
        close() {
          nic.close();
          return DONE;
        },
      },
    ];
  },

  async relay({ setup }) {
    const { openVpnRelay } = await import('../../host/network/vpn/relay.ts');
    const counters = new SharedArrayBuffer(4 * Float64Array.BYTES_PER_ELEMENT);
    const relay = await openVpnRelay(setup, { native: loadNative(), logger: silentLogger, counters });
    return [
      DONE,
      {
        cpu,
        stats() {
          const { nic, dropped, networks } = relay.stats();
          const all = [dropped, ...networks.map((network) => network.dropped)];
          return {
            value: nic.framesOut,
            dropped: all.flatMap(Object.values).reduce((sum, each) => sum + each, 0),
          };
        },
        async close() {
          await relay.close();
          return DONE;
        },
      },
    ];
  },

  async plain() {
    const near = createSocket({ type: 'udp4', recvBufferSize: BUFFER });
    const far = createSocket({ type: 'udp4', sendBufferSize: BUFFER });
    near.on('message', (frame) => far.send(frame));
    for (const socket of [near, far]) {
      // The other end is closed before this one.
      socket.on('error', () => {});
      socket.bind(0, '127.0.0.1');
      await once(socket, 'listening');
    }
    return [
      { value: near.address().port, dropped: far.address().port },
      {
        cpu,
        async connect({ port }) {
          far.connect(port, '127.0.0.1');
          await once(far, 'connect');
          return DONE;
        },
        close() {
          near.close();
          far.close();
          return DONE;
        },
      },
    ];
  },

  async bus({ path, networks, reflect }) {
    const lines = new Map(networks.map((network) => [network, new BusLine(network, reflect)]));
    const server = createServer((socket) => serve(socket, lines));
    server.listen(path);
    await once(server, 'listening');
    return [
      { value: 0, counters: [...lines.values()].map(({ counter }) => counter.memory) },
      {
        async send({ frame, window, counter }) {
          const [line] = lines.values();
          return { value: (await line?.send(frame, window, new FrameCounter(counter))) ?? 0 };
        },
        circulate({ frame }) {
          for (const line of lines.values()) line.load(frame);
          return DONE;
        },
        close() {
          server.close();
          return DONE;
        },
      },
    ];
  },
};

// ---------------------------------------------------------------- the bus

/** The connection of one relay. */
class BusLine {
  readonly counter = new FrameCounter();
  socket: Socket | null = null;
  readonly #network: string;
  readonly #reflect: boolean;
  #packets: Uint8Array = new Uint8Array(0);
  #packet = 0;

  constructor(network: string, reflect: boolean) {
    this.#network = network;
    this.#reflect = reflect;
  }

  /** A frame of the peer, as often as one write has it. */
  load(frame: Uint8Array): void {
    const packet = encodePacket({
      kind: 'callRequest',
      caller: PEER,
      address: `/public/vpn/${this.#network}/raw`,
      requestId: '1234567890abcdef12345678',
      data: frame,
      noReply: true,
    });
    this.#packet = packet.length;
    this.#packets = Buffer.concat(new Array(BUS_BATCH).fill(packet));
  }

  /** Frames that the relay has pushed. */
  count(frames: number): void {
    this.counter.add(frames);
    if (!this.#reflect) return;
    for (let left = frames; left > 0; left -= BUS_BATCH) this.#write(Math.min(left, BUS_BATCH));
  }

  /** Sends until the counter says stop. @returns frames lost */
  async send(frame: Uint8Array, window: number, counter: FrameCounter): Promise<number> {
    this.load(frame);
    const flow = new Window(window, counter);
    while (!counter.stopped) {
      const room = flow.room(BUS_BATCH);
      if (room === 0) continue;
      this.#write(room);
      flow.sent += room;
      // What the kernel has not taken needs the event loop; while all is taken, the thread may wait for the counter.
      while ((this.socket?.writableLength ?? 0) > 0) await new Promise(setImmediate);
    }
    return flow.lost;
  }

  #write(frames: number): void {
    this.socket?.write(this.#packets.subarray(0, frames * this.#packet));
  }
}

/** Field `noReply`, true: what a frame's packet ends with, and no call that waits for its answer. */
const NO_REPLY = [0x28, 0x01];
/** The member callRequest. */
const CALL_REQUEST = 0x32;

function serve(socket: Socket, lines: ReadonlyMap<string, BusLine>): void {
  const decoder = new PacketDecoder();
  const reply = (packet: Packet) => socket.write(encodePacket(packet));
  let line: BusLine | undefined;
  let rest: Buffer = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    const all = rest.length > 0 ? Buffer.concat([rest, bytes]) : bytes;
    let frames = 0;
    let at = 0;
    while (all.length - at >= 4) {
      const end = at + 4 + all.readUInt32BE(at);
      if (end > all.length) break;
      const isFrame =
        all[at + 4] === CALL_REQUEST && all[end - 2] === NO_REPLY[0] && all[end - 1] === NO_REPLY[1];
      if (isFrame) {
        frames++;
      } else {
        for (const packet of decoder.push(all.subarray(at, end))) line = answer(packet, reply, lines) ?? line;
        if (line !== undefined) line.socket = socket;
      }
      at = end;
    }
    rest = all.subarray(at);
    if (frames > 0) line?.count(frames);
  });
}

/** @returns the line whose name was registered */
function answer(
  packet: Packet,
  reply: (packet: Packet) => void,
  lines: ReadonlyMap<string, BusLine>,
): BusLine | undefined {
  switch (packet.kind) {
    case 'hello':
      reply({ kind: 'hello', name: 'bench', version: '0', instanceId: new Uint8Array(16) });
      return undefined;
    case 'registerRequest':
      reply({ kind: 'registerReply', code: 0, message: '' });
      return lines.get(packet.serviceId.split('/')[3] ?? '');
    case 'unregisterRequest':
      reply({ kind: 'unregisterReply', code: 0 });
      return undefined;
    case 'ping':
      reply({ kind: 'pong' });
      return undefined;
    case 'callRequest': {
      const identity: Flex = { alias: null, nodeId: NODE, isLocked: false, isDefault: true, deleted: false };
      const data = encodeBody({ Ok: identity });
      reply({ kind: 'callReply', requestId: packet.requestId, code: 0, replyType: 'full', data });
      return undefined;
    }
    default:
      return undefined;
  }
}

// ---------------------------------------------------------------- the thread itself

const port = parentPort;
if (port !== null && typeof workerData?.role === 'string') {
  const { role, given } = workerData as { role: Role; given: never };
  const [ready, handlers] = await ROLES[role](given);
  port.on('message', async ({ name, give }: { name: Question; give: never }) => {
    const handler = handlers[name] as ((give: never) => Promise<Answer> | Answer) | undefined;
    port.postMessage(handler ? await handler(give) : DONE);
  });
  port.postMessage(ready);
}
