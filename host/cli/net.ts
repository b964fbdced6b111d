/** `ya-vm net`: what a running VM's network does. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseDuration } from '../lib/duration.ts';
import { runBase } from '../lib/paths.ts';
import { connectNetworkControl, type NetworkControlClient } from '../network/control-client.ts';
import { NETWORK_SOCKET } from '../network/control-face.ts';
import { MAX_PING } from '../network/control-wire.ts';
import type { Act } from './commands.ts';
import type { Context } from './context.ts';
import { Interrupts } from './interrupts.ts';
import { netCapture } from './net-capture.ts';
import { netPeers } from './net-peers.ts';
import { netPing } from './net-ping.ts';
import { netStats } from './net-stats.ts';
import { forOption, parseInteger, usageError } from './options.ts';
import { listVms, selectVm } from './vms.ts';

/** A running VM's network, and what ends the looking at it. */
export interface Watched {
  context: Context;
  /** The VM's id. */
  id: string;
  control: NetworkControlClient;
  /** Fires on Ctrl-C; the reason is an Interrupted. */
  signal: AbortSignal;
}

const VM = "a VM's id, or a unique beginning of it";
const ONLY = `${VM} (default: the only VM)`;
const MAX_COUNT = 1_000_000;

export function define(command: Command, act: Act): void {
  definePeers(command, act);
  defineStats(command, act);
  definePing(command, act);
  defineCapture(command, act);
}

function definePeers(command: Command, act: Act): void {
  const peers = command
    .command('peers')
    .description("whom a VM's VPN knows, and what they sent each other")
    .argument('[id]', ONLY)
    .option('--json', 'print an array');
  act(peers, (context, options, [id]) =>
    withNetwork(context, id as string | undefined, (watched) => netPeers(watched, options)),
  );
}

function defineStats(command: Command, act: Act): void {
  const stats = command
    .command('stats')
    .description("counters of a VM's network, what was dropped, and what was refused")
    .argument('[id]', ONLY)
    .option('--watch', 'again each second, with rates, until Ctrl-C or until the VM ends')
    .option('--json', 'print an object; with --watch one a line');
  act(stats, (context, options, [id]) =>
    withNetwork(context, id as string | undefined, (watched) => netStats(watched, options)),
  );
}

const PING_HELP = `
The requests are sent as if the VM had sent them, from its host: an answer shows that the way there and the peer work,
whatever the VM itself does. The exit code is 1 when nothing came back.

Example:
  ya-vm net ping tobikuda 10.5.0.3 -c 3`;

function definePing(command: Command, act: Act): void {
  const ping = command
    .command('ping')
    .description("send echo requests over a VM's network")
    .argument('<id>', VM)
    .argument('<address>', 'numeric, IPv4 or IPv6')
    .option(
      '-c, --count <n>',
      'how many (default: until Ctrl-C)',
      forOption('-c', (text) => parseInteger(text, 1, MAX_COUNT, 'number of requests')),
    )
    .option('-i, --interval <seconds>', 'between two of them', forOption('-i', parseDuration), 1000)
    .option('-W, --wait <seconds>', 'for each answer', forOption('-W', parseWait), 1000)
    .addHelpText('after', PING_HELP);
  act(ping, (context, options, [id, address]) =>
    withNetwork(context, id as string, (watched) => {
      const { count, interval, wait } = options as { count?: number; interval: number; wait: number };
      return netPing(watched, { address: address as string, count, interval, wait });
    }),
  );
}

function defineCapture(command: Command, act: Act): void {
  const capture = command
    .command('capture')
    .description("write what a VM's network interfaces see, until Ctrl-C or until the VM ends")
    .argument('[id]', ONLY)
    .requiredOption('--pcap <file>', 'pcapng, for Wireshark and tcpdump -r')
    .addHelpText('after', '\nExample:\n  ya-vm net capture tobikuda --pcap vm.pcapng');
  act(capture, (context, options, [id]) =>
    withNetwork(context, id as string | undefined, (watched) => netCapture(watched, options.pcap as string)),
  );
}

function parseWait(text: string): number {
  const milliseconds = Math.ceil(parseDuration(text));
  if (milliseconds <= MAX_PING) return milliseconds;
  throw usageError(`'${text}' is longer than an answer may take`, `At most ${MAX_PING / 1000} s.`);
}

/** @throws {YavmError} YAVM_E_NO_SUCH_VM, YAVM_E_AMBIGUOUS_VM, YAVM_E_NET_CONTROL */
async function withNetwork(
  context: Context,
  id: string | undefined,
  use: (watched: Watched) => Promise<number>,
): Promise<number> {
  const vm = selectVm(await listVms(runBase(context.env)), id);
  const control = await connectNetworkControl(join(vm.folder, NETWORK_SOCKET));
  const interrupts = new Interrupts();
  try {
    return await use({ context, id: vm.record.id, control, signal: interrupts.signal });
  } finally {
    interrupts.close();
    control.close();
  }
}
