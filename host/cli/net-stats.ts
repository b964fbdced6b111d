/** `ya-vm net stats`: counters of a VM's network, once or each second. */
import { sleep } from '../lib/deadline.ts';
import { isYavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type {
  Dropped,
  NetworkStats,
  NicCounters,
  OutboundStats,
  Refusal,
  VpnStats,
} from '../network/types.ts';
import { type Context, print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted } from './interrupts.ts';
import type { Watched } from './net.ts';
import { alignColumns } from './style.ts';

/** Between two looks, milliseconds. */
const INTERVAL = 1000;
/** Refusals that are shown; JSON has all. */
const MOST_REFUSALS = 20;
/** Cursor to the corner, and everything after it cleared. */
const CLEAR = '\u001b[H\u001b[2J';

interface Options {
  watch?: boolean;
  json?: boolean;
}

export async function netStats(watched: Watched, options: Options): Promise<number> {
  const { context, control } = watched;
  if (options.watch) return await watch(watched, options.json === true);
  const stats = await control.stats();
  if (options.json) await printJson(context, stats);
  else await print(context, ...statsLines(stats));
  return EXIT.ok;
}

async function watch({ context, control, signal }: Watched, json: boolean): Promise<number> {
  const live = context.stdout.isTTY === true && context.env.TERM !== 'dumb';
  let before: Sample | null = null;
  try {
    for (;;) {
      const stats = await control.stats();
      const sample: Sample = { stats, time: performance.now() };
      if (json) await print(context, JSON.stringify(stats));
      else await show(context, statsLines(stats, before && { before, now: sample.time }), live);
      before = sample;
      await sleep(INTERVAL, signal);
    }
  } catch (error) {
    if (error instanceof Interrupted) return error.signal === 'SIGINT' ? EXIT.ok : error.exitCode;
    // It was there before: the VM has ended, which is an end of watching.
    if (before !== null && isYavmError(error, 'YAVM_E_NET_CONTROL')) return EXIT.ok;
    throw error;
  }
}

async function show(context: Context, lines: string[], live: boolean): Promise<void> {
  const [first = '', ...rest] = lines;
  await print(context, live ? CLEAR + first : first, ...rest, ...(live ? [] : ['']));
}

// ---------------------------------------------------------------- for people

interface Sample {
  stats: NetworkStats;
  /** Milliseconds. */
  time: number;
}

/** What rates are told against. */
interface Since {
  before: Sample;
  now: number;
}

export function statsLines({ vpn, outbound }: NetworkStats, since: Since | null = null): string[] {
  return alignColumns(
    [
      ...(vpn ? vpnRows(vpn, since && rateOf(vpn.nic, since.before.stats.vpn?.nic, since)) : []),
      ...(outbound
        ? outboundRows(outbound, since && rateOf(outbound.nic, since.before.stats.outbound?.nic, since))
        : []),
    ].map((row) => row.map(printable)),
  );
}

function vpnRows({ nic, dropped, networks }: VpnStats, rate: Rate | null): string[][] {
  return [
    ...nicRows('vpn, eth0', nic, rate),
    ...droppedRows(dropped),
    ...networks.flatMap(({ id, range, role, peers, dropped: there }) => [
      [`network ${id}`, `${range}, ${role}, ${peers.length} ${peers.length === 1 ? 'peer' : 'peers'}`],
      ...droppedRows(there),
    ]),
  ];
}

function outboundRows(stats: OutboundStats, rate: Rate | null): string[][] {
  const { nic, upstream, flows, resolved, refusals, dropped, restarts } = stats;
  return [
    ...nicRows('internet, eth1', nic, rate),
    ['  through', restarts === 0 ? upstream : `${upstream}, started anew ${times(restarts)}`],
    ['  flows', String(flows)],
    ['  names', `${resolved} addresses are allowed by name`],
    ...droppedRows(dropped),
    ...refusalRows(refusals),
  ];
}

function nicRows(title: string, nic: NicCounters, rate: Rate | null): string[][] {
  const line = (bytes: number, frames: number, perSecond: number | undefined) =>
    `${formatSize(bytes)} in ${frames} frames${perSecond === undefined ? '' : `, ${formatSize(perSecond)}/s`}`;
  return [
    [title, `received ${line(nic.bytesIn, nic.framesIn, rate?.in)}`],
    ['', `sent     ${line(nic.bytesOut, nic.framesOut, rate?.out)}`],
  ];
}

function droppedRows(dropped: Dropped): string[][] {
  const counted = Object.entries(dropped).filter(([, count]) => count > 0);
  return counted.map(([reason, count], index) => [index === 0 ? '  dropped' : '', `${count} ${reason}`]);
}

/** The most frequent first. */
function refusalRows(refusals: readonly Refusal[]): string[][] {
  const sorted = refusals.toSorted((a, b) => b.count - a.count);
  const rows = sorted.slice(0, MOST_REFUSALS).map(({ destination, name, reason, count }) => {
    return `${destination}${name === undefined ? '' : ` (${name})`}: ${reason}, ${times(count)}`;
  });
  const more = refusals.length - rows.length;
  if (more > 0) rows.push(`and ${more} other destinations`);
  return rows.map((row, index) => [index === 0 ? '  refused' : '', row]);
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

/** Bytes a second. */
interface Rate {
  in: number;
  out: number;
}

function rateOf(nic: NicCounters, before: NicCounters | undefined, since: Since): Rate | null {
  const seconds = (since.now - since.before.time) / 1000;
  if (before === undefined || seconds <= 0) return null;
  const rate = (now: number, then: number) => Math.max(0, Math.round((now - then) / seconds));
  return { in: rate(nic.bytesIn, before.bytesIn), out: rate(nic.bytesOut, before.bytesOut) };
}
