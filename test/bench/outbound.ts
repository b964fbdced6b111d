/**
 * A VM's way to the internet, through the filter and passt, against passt alone: two VMs at once, one idle while the other is
 * measured. All of it is in network namespaces (test/lib/internet.ts), so this needs root.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { MTU } from '../../host/network/types.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { SERVERS, startInternet } from '../lib/internet.ts';
import { PORTS } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { startOutboundVm, startPlainVm } from '../lib/outbound-vm.ts';
import { type Owner, shell } from '../lib/vm.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const BYTES = 64 * 1024 * 1024;
const ROUNDS = 9;
/** Requests for 1 KB in a round. */
const FETCHES = 40;
const MTUS = [MTU.outbound, 1500];
const HOST = SERVERS.one;
/** Bytes of memory are not what is measured: enough for windows that are not the limit. */
const MEMORY = 256;

export const outbound: Bench = {
  name: 'outbound',
  what: `${Math.round(BYTES / 1e6)} MB each way, and 1 KB by HTTP, through filter and passt, and through passt alone; ${ROUNDS} rounds, medians`,
  async run(context) {
    if (process.getuid?.() !== 0) throw new Error('network namespaces need root');
    const child = spawn(process.execPath, [...process.execArgv, import.meta.filename], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, YAVM_TEST_ACCEL: context.accel },
    });
    const [printed] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    if (child.exitCode !== 0) throw new Error(`the measuring process ended with ${child.exitCode}`);
    return JSON.parse(printed) as Figure[];
  },
};

type Way = 'filtered' | 'plain';
type Samples = Record<'down' | 'up' | 'fetch', Record<Way, number[]>>;

function measureAll(): Promise<Figure[]> {
  return withOwner(async (owner) => {
    await startInternet(owner);
    const figures: Figure[] = [];
    for (const mtu of MTUS) figures.push(...(await measure(mtu)));
    return figures;
  });
}

function measure(mtu: number): Promise<Figure[]> {
  return withOwner(async (owner: Owner) => {
    const spec = { memoryMiB: MEMORY };
    const vms: Record<Way, Vm> = {
      filtered: (await startOutboundVm(owner, { mtu, spec })).vm,
      plain: (await startPlainVm(owner, { mtu, spec })).vm,
    };
    const samples: Samples = {
      down: { filtered: [], plain: [] },
      up: { filtered: [], plain: [] },
      fetch: { filtered: [], plain: [] },
    };
    for (let round = -1; round < ROUNDS; round++) {
      // Whoever is second finds the machine as the first left it: so they take turns.
      const order: Way[] = round % 2 === 0 ? ['filtered', 'plain'] : ['plain', 'filtered'];
      for (const way of order) {
        const now = {
          down: await rate(vms[way], `guest-net receive ${HOST} ${PORTS.source} ${BYTES} count`),
          up: await rate(vms[way], `guest-net send ${HOST} ${PORTS.sink} ${BYTES}`),
          fetch: Number(await shell(vms[way], `guest-net fetch ${HOST} ${PORTS.http[0]} ${FETCHES}`)) / 1000,
        };
        // The first round warms up.
        if (round >= 0) for (const key of ['down', 'up', 'fetch'] as const) samples[key][way].push(now[key]);
      }
    }
    return figuresOf(mtu, samples);
  });
}

/** MB/s, by the guest's own clock: the last line has milliseconds. */
async function rate(vm: Vm, command: string): Promise<number> {
  const lines = (await shell(vm, command)).trim().split('\n');
  return BYTES / 1e6 / (Number(lines.at(-1)) / 1000);
}

function figuresOf(mtu: number, samples: Samples): Figure[] {
  const ratio = ({ filtered, plain }: Record<Way, number[]>) =>
    median(filtered.map((value, round) => value / (plain[round] as number)));
  const { down, up, fetch } = samples;
  const name = `MTU ${mtu}`;
  return [
    { what: `${name}: download ÷ passt alone`, value: ratio(down), unit: '×', limit: { atLeast: 0.8 } },
    { what: `${name}: upload ÷ passt alone`, value: ratio(up), unit: '×', limit: { atLeast: 0.8 } },
    { what: `${name}: 1 KB by HTTP ÷ passt alone`, value: ratio(fetch), unit: '×', limit: { atMost: 1.2 } },
    { what: `${name}: download`, value: median(down.filtered), unit: 'MB/s' },
    { what: `${name}: download, passt alone`, value: median(down.plain), unit: 'MB/s' },
    { what: `${name}: upload`, value: median(up.filtered), unit: 'MB/s' },
    { what: `${name}: upload, passt alone`, value: median(up.plain), unit: 'MB/s' },
    { what: `${name}: 1 KB by HTTP`, value: median(fetch.filtered), unit: 'ms' },
    { what: `${name}: 1 KB by HTTP, passt alone`, value: median(fetch.plain), unit: 'ms' },
  ];
}

if (process.argv[1] === import.meta.filename) {
  inNamespaces(import.meta.url);
  console.log(JSON.stringify(await measureAll()));
  process.exit(0);
}
