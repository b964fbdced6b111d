/**
 * Frames from a connection of one node's bus to one of another's, both routers in one thread, as between two VMs of a host;
 * beside a relay of raw bytes between two Unix sockets, written in the same pieces. Sender and receiver have a thread
 * each, what is between them runs in the main one. Frames that are under way are bounded, so that none is dropped.
 *
 * CPU time is that of the thread between them: what a busy machine does not change much.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { connectGsb } from '../../host/gsb/index.ts';
import { sleep } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { GsbRouter, LocalNetwork } from '../../host/node/index.ts';
import type { Bench, BenchContext } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

/** Bytes of a frame: a guest's acknowledgement, and its largest. */
const SIZES = [64, 1220];
/** Of the raw rate, for large frames: the work for a frame is the same, whatever its size. */
const AIM = { aim: { atLeast: 0.5 } } as const;
/** Frames that are written together. */
const BATCH = 64;
/** Frames, and bytes of them, that are under way. */
const MOST_FRAMES = 4096;
const MOST_BYTES = 512 * 1024;
/** Milliseconds. */
const WARM = 500;
const MEASURED = 1500;
const ROUNDS = 3;
/** For frames that do not arrive: a busy machine lets a thread wait, too. */
const PATIENCE = 3000;

const NODES = [`0x${'a'.repeat(40)}`, `0x${'b'.repeat(40)}`] as const;
const NETWORK = '0123456789abcdef0123456789abcdef';

type Way = 'bus' | 'raw';

interface Task {
  role: 'sender' | 'receiver';
  way: Way;
  size: number;
  /** Sockets of the two sides. */
  paths: readonly [string, string];
  /** Of one Int32: frames that have arrived. */
  arrived: SharedArrayBuffer;
}

export const bus: Bench = {
  name: 'bus',
  what: `frames between two nodes of a process, ${ROUNDS} rounds, medians`,
  async run(context) {
    const figures: Figure[] = [];
    for (const size of SIZES) {
      const measured: Record<Way, Measured[]> = { bus: [], raw: [] };
      for (let round = 0; round < ROUNDS; round++) {
        for (const way of ['bus', 'raw'] as const) measured[way].push(await measure(way, size, context));
      }
      const of = (way: Way, what: keyof Measured) => median(measured[way].map((each) => each[what]));
      const [frames, raw] = [of('bus', 'rate'), of('raw', 'rate')];
      figures.push(
        { what: `frames of ${size} bytes a second`, value: frames, unit: '' },
        { what: `${size} bytes, bus`, value: (frames * size) / 1e6, unit: 'MB/s' },
        { what: `${size} bytes, raw`, value: (raw * size) / 1e6, unit: 'MB/s' },
        { what: `${size} bytes, bus ÷ raw`, value: frames / raw, unit: '×', ...(size > 1000 ? AIM : {}) },
        { what: `${size} bytes, CPU time for a million frames, bus`, value: of('bus', 'cpu'), unit: 's' },
        { what: `${size} bytes, CPU time for a million frames, raw`, value: of('raw', 'cpu'), unit: 's' },
      );
    }
    return figures;
  },
};

interface Measured {
  /** Frames a second. */
  rate: number;
  /** Seconds of the thread between the two, for a million frames. */
  cpu: number;
}

function measure(way: Way, size: number, context: BenchContext): Promise<Measured> {
  return withOwner(async (owner) => {
    const folder = mkdtempSync(join(tmpdir(), 'bus-'));
    owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const paths = [join(folder, 'a.sock'), join(folder, 'b.sock')] as const;
    const arrived = new SharedArrayBuffer(4);
    const counter = new Int32Array(arrived);
    owner.teardown(await MIDDLES[way](paths));
    for (const role of ['receiver', 'sender'] as const) {
      const task: Task = { role, way, size, paths, arrived };
      const worker = new Worker(import.meta.filename, { workerData: task });
      owner.teardown(async () => void (await worker.terminate()));
      worker.on('message', (text) => typeof text === 'string' && context.say(text));
      await once(worker, 'message');
    }
    await sleep(WARM);
    const [first, started, used] = [Atomics.load(counter, 0), performance.now(), process.threadCpuUsage()];
    await sleep(MEASURED);
    const frames = Atomics.load(counter, 0) - first;
    const { user, system } = process.threadCpuUsage(used);
    return { rate: frames / ((performance.now() - started) / 1000), cpu: (user + system) / frames };
  });
}

// ---------------------------------------------------------------- what is between them

type End = () => Promise<void>;

const MIDDLES: Record<Way, (paths: Task['paths']) => Promise<End>> = { bus: startRouters, raw: startRelay };

async function startRouters(paths: Task['paths']): Promise<End> {
  const network = new LocalNetwork();
  const routers = NODES.map((nodeId) => new GsbRouter({ network, nodeId }));
  for (const [index, path] of paths.entries()) await routers[index]?.listen({ kind: 'unix', path });
  return async () => void (await Promise.all(routers.map((router) => router.close())));
}

async function startRelay(paths: Task['paths']): Promise<End> {
  const sockets: Socket[] = [];
  const servers = paths.map((path, index) =>
    createServer((socket) => {
      sockets[index] = socket.on('error', () => {});
      if (sockets[0] && sockets[1]) sockets[0].pipe(sockets[1]);
    }).listen(path),
  );
  await Promise.all(servers.map((server) => once(server, 'listening')));
  return async () => {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
  };
}

// ---------------------------------------------------------------- the threads

const ready = () => void parentPort?.postMessage(true);

const ROLES: Record<Task['role'], Record<Way, (task: Task) => Promise<void>>> = {
  receiver: { bus: takeFrames, raw: takeBytes },
  sender: { bus: pushFrames, raw: writeBytes },
};

async function takeFrames({ paths, arrived }: Task): Promise<void> {
  const counter = new Int32Array(arrived);
  const gsb = connectGsb({ address: { kind: 'unix', path: paths[1] }, logger: silentLogger });
  let frames = 0;
  await gsb.bind(`/public/vpn/${NETWORK}/raw`, {
    frames: {
      frame: () => void frames++,
      flush: () => {
        Atomics.store(counter, 0, frames);
        Atomics.notify(counter, 0);
      },
    },
  });
  ready();
}

async function takeBytes({ paths, arrived, size }: Task): Promise<void> {
  const counter = new Int32Array(arrived);
  const socket = connect(paths[1]);
  await once(socket, 'connect');
  let bytes = 0;
  socket.on('data', (chunk) => {
    bytes += chunk.length;
    Atomics.store(counter, 0, Math.floor(bytes / size));
    Atomics.notify(counter, 0);
  });
  ready();
}

async function pushFrames(task: Task): Promise<void> {
  const gsb = connectGsb({ address: { kind: 'unix', path: task.paths[0] }, logger: silentLogger });
  const pusher = gsb.pusher(`/udp/net/${NODES[1]}/vpn/${NETWORK}/raw`, NODES[0]);
  const frame = Buffer.alloc(task.size, 'frame');
  await gsb.bind('/up', { unary: () => null });
  ready();
  await keepSending(task, () => {
    let sent = 0;
    while (sent < BATCH && pusher.push(frame, 0, frame.length)) sent++;
    gsb.flushFrames();
    return sent;
  });
}

async function writeBytes(task: Task): Promise<void> {
  const socket = connect(task.paths[0]);
  await once(socket, 'connect');
  const piece = Buffer.alloc(task.size * BATCH, 'frame');
  ready();
  for (;;) if (!socket.write(piece)) await once(socket, 'drain');
}

/** Sends batches for ever, as many at a time as may be under way. */
async function keepSending({ arrived, size }: Task, batch: () => number): Promise<void> {
  const counter = new Int32Array(arrived);
  const most = Math.min(MOST_FRAMES, Math.floor(MOST_BYTES / size));
  let sent = 0;
  for (;;) {
    const there = Atomics.load(counter, 0);
    if (sent - there + BATCH <= most) {
      const now = batch();
      sent += now;
      // Its socket has a turn now and then.
      if (now < BATCH || sent % (4 * BATCH) === 0) await setImmediate();
      continue;
    }
    await waitAsync(counter, 0, there, PATIENCE).value;
    if (Atomics.load(counter, 0) !== there) continue;
    parentPort?.postMessage(`${sent - there} frames were lost`);
    sent = there;
  }
}

/** ES2024's, which our types do not have yet. */
const { waitAsync } = Atomics as unknown as {
  waitAsync(counter: Int32Array, index: number, value: number, milliseconds: number): { value: unknown };
};

if (!isMainThread && parentPort) {
  const task = workerData as Task;
  void ROLES[task.role][task.way](task);
}
