/**
 * Frames through each kind of cable, to a thread that sends them back, against a relay of plain Node datagrams; and what is
 * lost when nobody waits for the receiver.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { sleep } from '../../host/lib/deadline.ts';
import { makeCable, type NearEnd } from '../../host/network/nic/cable.ts';
import type { FrameLink } from '../../host/network/nic/frame-link.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import type { LinkKind } from '../../host/network/types.ts';
import { loadNative } from '../../native/load.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const KINDS = ['udp', 'unix-datagram', 'tcp', 'unix'] as const;
/** Bytes of a frame: the smallest that carries anything, and a VPN's MTU. */
const SIZES = [64, 1220] as const;
const ROUNDS = 5;
/** Milliseconds of one round. */
const ROUND = 700;
/** Frames under way at most: a NIC's queue. */
const WINDOW = 256;
/** Frames sent to a receiver that nobody waits for; and socket buffers, bytes: what Debian gives everyone, and what we ask for. */
const BLAST = 200_000;
const BUFFERS = [212_992, 4 << 20] as const;
/** Of the plain relay's rate. */
const AIM = 5;

type Task = { what: 'echo' | 'count'; end: NearEnd; counted: SharedArrayBuffer } | { what: 'plain' };

export const cable: Bench = {
  name: 'cable',
  what: `frames to a thread and back, ${ROUNDS} rounds of ${ROUND} ms each, medians; ${BLAST} frames without waiting`,
  async run() {
    const figures: Figure[] = [];
    for (const size of SIZES) {
      const rates: Record<LinkKind | 'plain', number[]> = {
        udp: [],
        'unix-datagram': [],
        tcp: [],
        unix: [],
        plain: [],
      };
      // In turns, so that what disturbs the machine disturbs all.
      for (let round = 0; round < ROUNDS; round++) {
        rates.plain.push(await withOwner((owner) => plain(owner, size)));
        for (const kind of KINDS) rates[kind].push(await withOwner((owner) => echo(owner, kind, size)));
      }
      figures.push({
        what: `${size} bytes, plain Node relay: frames/s`,
        value: median(rates.plain),
        unit: '',
      });
      for (const kind of KINDS) {
        const rate = median(rates[kind]);
        const ratio = median(rates[kind].map((one, round) => one / (rates.plain[round] as number)));
        figures.push(
          { what: `${size} bytes, ${kind}: frames/s`, value: rate, unit: '' },
          { what: `${size} bytes, ${kind}: each way`, value: (rate * size) / 1e6, unit: 'MB/s' },
          { what: `${size} bytes, ${kind} ÷ plain`, value: ratio, unit: '×', aim: { atLeast: AIM } },
        );
      }
      for (const buffer of BUFFERS) {
        const lost = await withOwner((owner) => blast(owner, size, buffer));
        figures.push({ what: `${size} bytes, udp, buffers of ${buffer}: lost, %`, value: lost, unit: '' });
      }
    }
    return figures;
  },
};

interface Owner {
  teardown(end: () => void): void;
}

async function start(owner: Owner, task: Task): Promise<unknown> {
  const worker = new Worker(import.meta.filename, { workerData: task });
  owner.teardown(() => void worker.terminate());
  const [said] = await once(worker, 'message');
  return said;
}

async function echo(owner: Owner, kind: LinkKind, size: number): Promise<number> {
  const { near, backend } = makeCable(loadNative(), kind);
  await start(owner, { what: 'echo', end: backend, counted: new SharedArrayBuffer(8) });
  const link = openFrameLink(loadNative(), near);
  owner.teardown(() => link.close());
  return rate(link, size);
}

async function plain(owner: Owner, size: number): Promise<number> {
  const port = (await start(owner, { what: 'plain' })) as number;
  const [fd] = loadNative().udpConnect('127.0.0.1', port, 4 << 20);
  const link = openFrameLink(loadNative(), { kind: 'datagram', fd });
  owner.teardown(() => link.close());
  return rate(link, size);
}

/** Frames a second that come back, with as many under way as the window allows. */
async function rate(link: FrameLink, size: number): Promise<number> {
  const frame = new Uint8Array(size).fill(7);
  let received = 0;
  let running = true;
  const send = (count: number) => {
    for (let index = 0; index < count; index++) link.send(frame, 0, size);
    link.flush();
  };
  link.onBatch = ({ count }) => {
    received += count;
    if (running) send(count);
  };
  send(WINDOW);
  await sleep(100);
  const before = received;
  const started = performance.now();
  await sleep(ROUND);
  const seconds = (performance.now() - started) / 1000;
  running = false;
  return (received - before) / seconds;
}

/** Per cent of the frames that never come. */
async function blast(owner: Owner, size: number, buffer: number): Promise<number> {
  const [near, far] = loadNative().cable('udp', buffer);
  const counted = new SharedArrayBuffer(8);
  await start(owner, { what: 'count', end: { kind: 'datagram', fd: far }, counted });
  const link = openFrameLink(loadNative(), { kind: 'datagram', fd: near });
  owner.teardown(() => link.close());
  const frame = new Uint8Array(size).fill(7);
  for (let index = 0; index < BLAST; index++) link.send(frame, 0, size);
  link.flush();
  const count = new Float64Array(counted);
  for (let last = -1; last !== count[0]; await sleep(100)) last = count[0] as number;
  return 100 * (1 - (count[0] as number) / BLAST);
}

function serve({ end, what, counted }: Exclude<Task, { what: 'plain' }>): void {
  const link = openFrameLink(loadNative(), end);
  const count = new Float64Array(counted);
  link.onBatch = (batch) => {
    if (what === 'count') count[0] = (count[0] as number) + batch.count;
    else {
      for (let index = 0; index < batch.count; index++) {
        link.send(batch.bytes, batch.offsets[index] as number, batch.lengths[index] as number);
      }
    }
  };
  parentPort?.postMessage('ready');
}

function servePlain(): void {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  socket.on('message', (message, { port, address }) => socket.send(message, port, address));
  socket.bind(0, '127.0.0.1', () => parentPort?.postMessage(socket.address().port));
}

if (!isMainThread) {
  const task = workerData as Task;
  if (task.what === 'plain') servePlain();
  else serve(task);
}
