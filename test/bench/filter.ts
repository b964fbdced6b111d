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
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

/** Bytes of a frame: MTU 65520, and the internet's. */
const SIZES = [65_534, 1514] as const;
const DIRECTIONS = ['out', 'in'] as const;
const ROUNDS = 9;
/** Milliseconds of one round. */
const ROUND = 500;
/** Frames of one write of the sender, of so many connections, a few of each in turn. */
const CHUNK = 1024 * 1024;
const CONNECTIONS = 8;
const BURST = 4;
/** Of what passes with nothing between the links. */
const AIM = 0.9;
const REMOTE = '93.184.216.34';

type Kind = 'filter' | 'plain';
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
        const rates: Record<Kind, Rate[]> = { filter: [], plain: [] };
        for (let round = 0; round < ROUNDS; round++) {
          // In turns, so that what disturbs the machine disturbs both.
          const kinds: Kind[] = round % 2 === 0 ? ['plain', 'filter'] : ['filter', 'plain'];
          for (const kind of kinds) rates[kind].push(await measure(kind, direction, size));
        }
        figures.push(...figuresOf(`${size} bytes, ${direction}`, size, rates));
      }
    }
    return figures;
  },
};

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

function measure(kind: Kind, direction: (typeof DIRECTIONS)[number], size: number): Promise<Rate> {
  return withOwner(async (owner) => {
    const native = loadNative();
    const [nic, upstream] = [makeCable(native, 'unix'), makeCable(native, 'unix')];
    const middle: Middle = { kind, nic: nic.near.fd, upstream: upstream.near.fd };
    const worker = new Worker(import.meta.filename, { workerData: middle });
    owner.teardown(async () => void (await worker.terminate()));
    await once(worker, 'message');
    const [guest, outside] = [nic.backend.fd, upstream.backend.fd];
    const [from, to] = direction === 'out' ? [guest, outside] : [outside, guest];
    const counter = new Counter(to);
    owner.teardown(() => counter.close());
    if (from !== guest) await connect(guest, from);
    else send(guest, framed(ports().map((port) => tcp({ to: REMOTE }, { from: port, to: 443 }))));
    const source = new Source(from, chunk(direction, size));
    owner.teardown(() => source.close());

    await sleep(ROUND / 5);
    const begin = await state(worker, counter);
    await sleep(ROUND);
    const end = await state(worker, counter);
    const bytes = (end.bytes - begin.bytes) * (size / (size + 4));
    if (bytes === 0) throw new Error(`nothing comes through the ${kind} link`);
    return { wall: (bytes / (end.at - begin.at)) * 1000, cpu: (bytes / (end.cpu - begin.cpu)) * 1e6 };
  });
}

async function state(worker: Worker, counter: Counter) {
  worker.postMessage('cpu');
  const [cpu] = (await once(worker, 'message')) as [number];
  return { cpu, bytes: counter.bytes, at: performance.now() };
}

// ---------------------------------------------------------------- the ends

/** Writes a chunk over and over, as fast as it is taken. */
class Source {
  readonly #fd: number;

  constructor(fd: number, bytes: Uint8Array) {
    this.#fd = fd;
    const native = loadNative();
    let at = 0;
    native.watch(fd, 2, () => {
      for (let turn = 0; turn < 4; turn++) {
        const taken = native.sendBytes(fd, bytes, at, bytes.length - at);
        if (taken < 0) return;
        at = (at + taken) % bytes.length;
      }
    });
  }

  close(): void {
    loadNative().unwatch(this.#fd);
    loadNative().close(this.#fd);
  }
}

/** Reads, and counts. */
class Counter {
  bytes = 0;
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
    const native = loadNative();
    const into = new Uint8Array(CHUNK);
    native.watch(fd, 1, () => {
      for (let turn = 0; turn < 4; turn++) {
        const received = native.receiveBytes(fd, into, 0, into.length);
        if (received <= 0) return;
        this.bytes += received;
      }
    });
  }

  close(): void {
    loadNative().unwatch(this.#fd);
    loadNative().close(this.#fd);
  }
}

/** The guest begins its connections, and what it sent has come out at the other end. */
async function connect(guest: number, outside: number): Promise<void> {
  const bytes = framed(ports().map((port) => tcp({ to: REMOTE }, { from: port, to: 443 })));
  send(guest, bytes);
  const into = new Uint8Array(bytes.length);
  for (let got = 0; got < bytes.length; ) {
    const received = loadNative().receiveBytes(outside, into, 0, into.length);
    if (received > 0) got += received;
    else await sleep(1);
  }
}

function send(fd: number, bytes: Uint8Array): void {
  if (loadNative().sendBytes(fd, bytes, 0, bytes.length) !== bytes.length) throw new Error('no room');
}

function ports(): number[] {
  return Array.from({ length: CONNECTIONS }, (_, index) => 40_000 + index);
}

function chunk(direction: (typeof DIRECTIONS)[number], size: number): Uint8Array {
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
