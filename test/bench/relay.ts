/**
 * The VPN's relay alone, without a VM: simulated NICs at the one side, a stand-in for the bus at the other. Beside it a
 * relay as Node's documentation would have it: dgram's `message`, then `send`. Sender, relay and receiver have a thread each.
 * On a machine with fewer processors than that, a second of the relay's own processor time says more than one of the clock.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../../host/lib/deadline.ts';
import { makeCable } from '../../host/network/nic/cable.ts';
import { loadNative } from '../../native/load.ts';
import { arpFrame, ipv4Frame } from '../lib/sibling-frames.ts';
import { FrameCounter } from '../lib/simulated-nic.ts';
import type { Owner } from '../lib/vm.ts';
import type { Bench, BenchContext } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';
import { BenchThread, NODE, PEER } from './relay-threads.ts';

/** Bytes of a frame: the largest of the VPN with its header, and an acknowledgement. */
const SIZES = [1234, 64];
const GUEST = '10.5.0.2';
const OTHER = '10.5.0.100';
/** Frames under way: what a guest's TCP has, and what fits into a socket's buffer that an ordinary user gets. */
const WINDOW = 128;
/** Milliseconds. */
const WARM = 300;
const MEASURED = 1000;
const STORM = 5000;
const ROUNDS = 3;
const CURVE = [1, 2, 4, 8];
/** ARP requests a second that the relay must take. */
const STORM_RATE = 30_000;
const BUFFER = 4 << 20;

const native = loadNative();

interface Speed {
  /** By the clock. */
  second: number;
  /** By the relay's thread's own processor time. */
  own: number;
}

export const relay: Bench = {
  name: 'relay',
  what: `frames through the VPN's relay and through a plain one; ${ROUNDS} rounds, medians`,
  async run(context) {
    return [...(await directions(context)), ...(await storm(context)), ...(await curve(context))];
  },
};

// ---------------------------------------------------------------- one relay

async function directions({ say }: BenchContext): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const size of SIZES) {
    const speeds: Record<'out' | 'in' | 'plain', Speed[]> = { out: [], in: [], plain: [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const [way, measure] of [
        ['out', outward],
        ['in', inward],
        ['plain', plainly],
      ] as const) {
        speeds[way].push(await withOwner((owner) => measure(owner, size, say)));
      }
      const rates = Object.entries(speeds).map(
        ([way, list]) => `${way} ${Math.round(list.at(-1)?.second ?? 0)}`,
      );
      say(`${size} bytes, frames/s: ${rates.join(', ')}`);
    }
    const of = (way: keyof typeof speeds, what: keyof Speed) =>
      median(speeds[way].map((speed) => speed[what]));
    for (const way of ['out', 'in'] as const) {
      const text = `${size} bytes, ${way === 'out' ? 'guest to bus' : 'bus to guest'}`;
      figures.push(
        { what: `${text}, frames/s`, value: of(way, 'second'), unit: '' },
        { what: text, value: (of(way, 'second') * size) / 1e6, unit: 'MB/s' },
        {
          what: `${text}, ÷ plain`,
          value: of(way, 'second') / of('plain', 'second'),
          unit: '×',
          aim: { atLeast: 5 },
        },
        {
          what: `${text}, ÷ plain, by the relay's processor time`,
          value: of(way, 'own') / of('plain', 'own'),
          unit: '×',
          aim: { atLeast: 5 },
        },
      );
    }
    figures.push({ what: `${size} bytes, plain, frames/s`, value: of('plain', 'second'), unit: '' });
  }
  return figures;
}

/** From the NIC to the bus, which counts. */
async function outward(owner: Owner, size: number, say: (line: string) => void): Promise<Speed> {
  const { nics, relays, counters } = await startRelays(owner, 1, false);
  const [counter] = counters as [FrameCounter];
  const frame = ipv4Frame(GUEST, OTHER, size);
  const sending = (nics[0] as BenchThread).ask('send', { frame, window: WINDOW, counter: counter.memory });
  const speed = await speedOf(counter, relays[0] as BenchThread);
  counter.stopped = true;
  tellLost((await sending).value, say);
  return speed;
}

/** From the bus to the NIC, which counts. */
async function inward(owner: Owner, size: number, say: (line: string) => void): Promise<Speed> {
  const { relays, bus, received } = await startRelays(owner, 1, false);
  const [counter] = received as [FrameCounter];
  const frame = ipv4Frame(OTHER, GUEST, size);
  const sending = bus.ask('send', { frame, window: WINDOW, counter: counter.memory });
  const speed = await speedOf(counter, relays[0] as BenchThread);
  counter.stopped = true;
  tellLost((await sending).value, say);
  return speed;
}

/** From one simulated NIC to another. */
async function plainly(owner: Owner, size: number, say: (line: string) => void): Promise<Speed> {
  const { thread, ready } = await BenchThread.start('plain', {});
  owner.teardown(() => thread.end());
  const [sender] = await startNic(owner, native.udpConnect('127.0.0.1', ready.value, BUFFER)[0]);
  const [fd, port] = native.udpConnect('127.0.0.1', ready.dropped ?? 0, BUFFER);
  const [, counter] = await startNic(owner, fd);
  await thread.ask('connect', { port });
  const frame = ipv4Frame(GUEST, OTHER, size);
  const sending = sender.ask('send', { frame, window: WINDOW, counter: counter.memory });
  const speed = await speedOf(counter, thread);
  counter.stopped = true;
  tellLost((await sending).value, say);
  return speed;
}

async function speedOf(counter: FrameCounter, thread: BenchThread): Promise<Speed> {
  await sleep(WARM);
  const before = await cpuOf([thread]);
  const [first, started] = [counter.value, performance.now()];
  await sleep(MEASURED);
  const frames = counter.value - first;
  const seconds = (performance.now() - started) / 1000;
  const own = ((await cpuOf([thread])) - before) / 1e6;
  return { second: frames / seconds, own: frames / own };
}

function tellLost(lost: number, say: (line: string) => void): void {
  if (lost > 0) say(`${lost} frames were lost on the way`);
}

// ---------------------------------------------------------------- a storm

/** ARP requests as fast as a guest can send them: how many the relay takes, and how long it lets others wait. */
function storm({ say }: BenchContext): Promise<Figure[]> {
  return withOwner(async (owner) => {
    const { nics, relays } = await startRelays(owner, 1, false);
    const [nic, thread] = [nics[0] as BenchThread, relays[0] as BenchThread];
    const stop = new FrameCounter();
    // For a node that is there, which costs most.
    const frame = arpFrame(GUEST, OTHER);
    const flooding = nic.ask('flood', { frame, counter: stop.memory });
    await sleep(WARM);
    const waits: number[] = [];
    const before = await thread.ask('stats', {});
    const started = performance.now();
    while (performance.now() - started < STORM) {
      const asked = performance.now();
      await thread.ask('cpu', {});
      waits.push(performance.now() - asked);
      await sleep(50);
    }
    const after = await thread.ask('stats', {});
    const seconds = (performance.now() - started) / 1000;
    stop.stopped = true;
    const sent = (await flooding).value;
    const taken = after.value - before.value;
    say(`${sent} sent, ${taken} taken, ${(after.dropped ?? 0) - (before.dropped ?? 0)} of those dropped`);
    return [
      { what: 'ARP storm, frames/s taken', value: taken / seconds, unit: '', limit: { atLeast: STORM_RATE } },
      { what: 'ARP storm, longest wait of another question', value: Math.max(...waits), unit: 'ms' },
    ];
  });
}

// ---------------------------------------------------------------- several relays

/** Frames that go from each NIC to the bus and back. */
async function curve({ say }: BenchContext): Promise<Figure[]> {
  const figures: Figure[] = [];
  const [size = 0] = SIZES;
  for (const count of CURVE) {
    const speeds: Speed[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      speeds.push(await withOwner((owner) => circulating(owner, count, size)));
    }
    const rate = median(speeds.map(({ second }) => second));
    const own = median(speeds.map((speed) => speed.own));
    say(
      `${count} NICs: ${Math.round(rate)} frames/s there and back, ${Math.round(own)} a second of the relays' own`,
    );
    const what = `${count} NIC${count > 1 ? 's' : ''}, ${size} bytes there and back`;
    figures.push(
      { what: `${what}, frames/s`, value: rate, unit: '' },
      { what, value: (rate * size) / 1e6, unit: 'MB/s' },
      { what: `${what}, frames a second of the relays' processor time`, value: own, unit: '' },
    );
  }
  return figures;
}

async function circulating(owner: Owner, count: number, size: number): Promise<Speed> {
  const { nics, relays, bus, received } = await startRelays(owner, count, true);
  await bus.ask('circulate', { frame: ipv4Frame(OTHER, GUEST, size), window: WINDOW });
  for (const nic of nics)
    await nic.ask('circulate', { frame: ipv4Frame(GUEST, OTHER, size), window: WINDOW });
  await sleep(WARM);
  const total = () => received.reduce((sum, { value }) => sum + value, 0);
  const before = await cpuOf(relays);
  const [first, started] = [total(), performance.now()];
  await sleep(MEASURED);
  const frames = total() - first;
  const seconds = (performance.now() - started) / 1000;
  const own = ((await cpuOf(relays)) - before) / 1e6;
  for (const nic of nics) await nic.ask('still', {});
  return { second: frames / seconds, own: frames / own };
}

/** Microseconds. */
async function cpuOf(threads: readonly BenchThread[]): Promise<number> {
  const answers = await Promise.all(threads.map((thread) => thread.ask('cpu', {})));
  return answers.reduce((sum, { value }) => sum + value, 0);
}

// ---------------------------------------------------------------- what is started

interface Relays {
  nics: BenchThread[];
  relays: BenchThread[];
  bus: BenchThread;
  /** What the bus counts, for each relay. */
  counters: FrameCounter[];
  /** What the NICs count. */
  received: FrameCounter[];
}

/** As many activities, each with a network of its own, a NIC and a relay; and the bus of them all. */
async function startRelays(owner: Owner, count: number, reflect: boolean): Promise<Relays> {
  const folder = mkdtempSync(join(tmpdir(), 'relay-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'gsb.sock');
  const networks = Array.from({ length: count }, (_, index) => `${index}`.padStart(32, '0'));
  const { thread: bus, ready } = await BenchThread.start('bus', { path, networks, reflect });
  owner.teardown(() => bus.end());
  const counters = (ready.counters ?? []).map((memory) => new FrameCounter(memory));
  const all: Relays = { nics: [], relays: [], bus, counters, received: [] };
  for (const id of networks) {
    const { near, backend } = makeCable(native, 'udp');
    const [nic, received] = await startNic(owner, backend.fd);
    const { thread } = await BenchThread.start('relay', {
      setup: {
        networks: [
          { id, address: '10.5.0.0', prefix: 24, nodeIp: GUEST, nodes: { [GUEST]: NODE, [OTHER]: PEER } },
        ],
        gsbUrl: `unix:${path}`,
        requestorId: null,
        nic: near,
        mac: '90:13:0a:05:00:02',
        siblings: folder,
      },
    });
    owner.teardown(() => thread.end());
    all.nics.push(nic);
    all.received.push(received);
    all.relays.push(thread);
  }
  return all;
}

async function startNic(owner: Owner, fd: number): Promise<[BenchThread, FrameCounter]> {
  const { thread, ready } = await BenchThread.start('nic', { fd });
  owner.teardown(() => thread.end());
  return [thread, new FrameCounter(ready.memory)];
}
