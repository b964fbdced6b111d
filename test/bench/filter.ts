/**
 * The outbound filter alone, without VMs and without passt: between two Unix streams in a thread of its own, as it is beside
 * a VM, against the same two links with nothing between them.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { sleep } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { makeCable } from '../../host/network/nic/cable.ts';
import { StreamLink } from '../../host/network/nic/stream-link.ts';
import { openOutboundFilter } from '../../host/network/outbound/filter-link.ts';
import { loadNative } from '../../native/load.ts';
import { GATEWAY, GUEST, tcp } from '../lib/outbound-frames.ts';
import type { Owner } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

/** Bytes of a frame: MTU 65520, and the internet's. */
const SIZES = [65_534, 1514] as const;
const DIRECTIONS = ['out', 'in'] as const;
const ROUNDS = 9;
/** Milliseconds of one round. */
const ROUND = 500;
const WARM_UP = 1000;
const DRAIN = 20;
/** Reads or writes of one turn of the event loop. */
const TURN = 4;
/** Frames of one write of the sender, of so many connections, a few of each in turn. */
const CHUNK = 1024 * 1024;
const CONNECTIONS = 8;
const BURST = 4;
/** Of what passes with nothing between the links. */
const AIM = 0.9;
const REMOTE = '93.184.216.34';

type Kind = 'filter' | 'plain';
type Direction = (typeof DIRECTIONS)[number];
interface Middle {
  kind: Kind;
  nic: number;
  upstream: number;
}
interface Rate {
  /** Bytes of frames per second, and per second of the middle's processor time. */
  wall: number;
  cpu: number;
}

export const filter: Bench = {
  name: 'filter',
  what: `frames through the outbound filter, and through its links alone; ${ROUNDS} rounds of ${ROUND} ms each, medians`,
  async run() {
    const figures: Figure[] = [];
    for (const size of SIZES) {
      for (const direction of DIRECTIONS) {
        figures.push(...figuresOf(`${size} bytes, ${direction}`, size, await compare(direction, size)));
      }
    }
    return figures;
  },
};

/** Both are there all the time, and in turns they are fed: so both are warm, and what disturbs the machine disturbs both. */
function compare(direction: Direction, size: number): Promise<Record<Kind, Rate[]>> {
  return withOwner(async (owner) => {
    const way: Record<Kind, Way> = {
      plain: await Way.open(owner, 'plain', direction, size),
      filter: await Way.open(owner, 'filter', direction, size),
    };
    const rates: Record<Kind, Rate[]> = { filter: [], plain: [] };
    for (const kind of ['plain', 'filter'] as const) await way[kind].round(WARM_UP);
    for (let round = 0; round < ROUNDS; round++) {
      const kinds: Kind[] = round % 2 === 0 ? ['plain', 'filter'] : ['filter', 'plain'];
      for (const kind of kinds) rates[kind].push(await way[kind].round(ROUND));
    }
    return rates;
  });
}

function figuresOf(what: string, size: number, { filter, plain }: Record<Kind, Rate[]>): Figure[] {
  const middle = (rates: Rate[], of: keyof Rate) => median(rates.map((rate) => rate[of]));
  const ratio = (of: keyof Rate) =>
    median(filter.map((rate, round) => rate[of] / (plain[round] as Rate)[of]));
  return [
    { what: `${what}: plain`, value: middle(plain, 'wall') / 1e6, unit: 'MB/s' },
    { what: `${what}: filter`, value: middle(filter, 'wall') / 1e6, unit: 'MB/s' },
    { what: `${what}: filter, frames/s`, value: middle(filter, 'wall') / size, unit: '' },
    { what: `${what}: filter ÷ plain`, value: ratio('wall'), unit: '×', aim: { atLeast: AIM } },
    { what: `${what}: filter ÷ plain, by processor time`, value: ratio('cpu'), unit: '×' },
  ];
}

/** Two ends, and what is between them in a thread of its own. */
class Way {
  readonly #worker: Worker;
  readonly #from: number;
  readonly #chunk: Uint8Array;
  readonly #size: number;
  #at = 0;
  #received = 0;

  private constructor(worker: Worker, from: number, to: number, direction: Direction, size: number) {
    this.#worker = worker;
    this.#from = from;
    this.#chunk = chunk(direction, size);
    this.#size = size;
    const native = loadNative();
    const into = new Uint8Array(CHUNK);
    native.watch(to, 1, () => {
      for (let turn = 0; turn < TURN; turn++) {
        const received = native.receiveBytes(to, into, 0, into.length);
        if (received <= 0) return;
        this.#received += received;
      }
    });
  }

  static async open(owner: Owner, kind: Kind, direction: Direction, size: number): Promise<Way> {
    const native = loadNative();
    const [nic, upstream] = [makeCable(native, 'unix'), makeCable(native, 'unix')];
    const middle: Middle = { kind, nic: nic.near.fd, upstream: upstream.near.fd };
    const worker = new Worker(import.meta.filename, { workerData: middle });
    owner.teardown(async () => void (await worker.terminate()));
    await once(worker, 'message');
    const [guest, outside] = [nic.backend.fd, upstream.backend.fd];
    await connect(guest, outside);
    const [from, to] = direction === 'out' ? [guest, outside] : [outside, guest];
    owner.teardown(() => {
      native.unwatch(to);
      for (const fd of [guest, outside]) native.close(fd);
    });
    return new Way(worker, from, to, direction, size);
  }

  /** Sends as fast as it is taken, for a while. */
  async round(milliseconds: number): Promise<Rate> {
    const native = loadNative();
    const begin = await this.#state();
    native.watch(this.#from, 2, () => {
      for (let turn = 0; turn < TURN; turn++) {
        const taken = native.sendBytes(this.#from, this.#chunk, this.#at, this.#chunk.length - this.#at);
        if (taken < 0) return;
        this.#at = (this.#at + taken) % this.#chunk.length;
      }
    });
    await sleep(milliseconds);
    const end = await this.#state();
    native.unwatch(this.#from);
    // What is on its way arrives, and is nobody's.
    for (let before = -1; before !== this.#received; await sleep(DRAIN)) before = this.#received;
    const bytes = (end.received - begin.received) * (this.#size / (this.#size + 4));
    if (bytes === 0) throw new Error('nothing comes through');
    return { wall: (bytes / (end.at - begin.at)) * 1000, cpu: (bytes / (end.cpu - begin.cpu)) * 1e6 };
  }

  async #state() {
    this.#worker.postMessage('cpu');
    const [cpu] = (await once(this.#worker, 'message')) as [number];
    return { cpu, received: this.#received, at: performance.now() };
  }
}

/** The guest begins its connections, and what it sent has come out at the other end. */
async function connect(guest: number, outside: number): Promise<void> {
  const bytes = framed(ports().map((port) => tcp({ to: REMOTE }, { from: port, to: 443 })));
  if (loadNative().sendBytes(guest, bytes, 0, bytes.length) !== bytes.length) throw new Error('no room');
  const into = new Uint8Array(bytes.length);
  for (let got = 0; got < bytes.length; ) {
    const received = loadNative().receiveBytes(outside, into, 0, into.length);
    if (received > 0) got += received;
    else await sleep(1);
  }
}

function ports(): number[] {
  return Array.from({ length: CONNECTIONS }, (_, index) => 40_000 + index);
}

function chunk(direction: Direction, size: number): Uint8Array {
  const data = new Uint8Array(size - 54);
  const frames = ports().map((port) =>
    direction === 'out'
      ? tcp({ to: REMOTE }, { from: port, to: 443, flags: 'A', data })
      : tcp(
          { from: REMOTE, to: GUEST.ipv4 },
          { from: 443, to: port, flags: 'A', data },
          { from: GATEWAY.mac, to: GUEST.mac },
        ),
  );
  const count = Math.max(1, Math.floor(CHUNK / size / CONNECTIONS / BURST));
  const turn = frames.flatMap((frame) => new Array<Uint8Array>(BURST).fill(frame));
  return framed(Array.from({ length: count }, () => turn).flat());
}

function framed(frames: Uint8Array[]): Uint8Array {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );
}

// ---------------------------------------------------------------- the thread in the middle

function plain({ nic, upstream }: Middle): void {
  const [one, other] = [nic, upstream].map((fd) => new StreamLink(loadNative(), fd)) as [
    StreamLink,
    StreamLink,
  ];
  const join = (from: StreamLink, to: StreamLink) => {
    from.onBatch = ({ bytes, count, offsets, lengths }) => {
      const last = count - 1;
      to.sendFramed(bytes, (offsets[0] as number) - 4, (offsets[last] as number) + (lengths[last] as number));
      if (to.pressed) from.pause();
    };
    to.onRoom = () => from.resume();
  };
  join(one, other);
  join(other, one);
}

function filtered({ nic, upstream }: Middle): void {
  openOutboundFilter(
    {
      policy: { unrestricted: true, rules: [] },
      nic: { kind: 'stream', fd: nic },
      upstream: { fd: upstream },
      dns: { ipv4: GATEWAY.ipv4, ipv6: GATEWAY.ipv6 },
      ipv6: true,
      published: [],
    },
    { native: loadNative(), logger: silentLogger, counters: new SharedArrayBuffer(32) },
  );
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const middle = workerData as Middle;
  if (middle.kind === 'plain') plain(middle);
  else filtered(middle);
  port.on('message', () => {
    const { user, system } = process.threadCpuUsage();
    port.postMessage(user + system);
  });
  port.postMessage('ready');
}
