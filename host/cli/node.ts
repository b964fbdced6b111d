/** `ya-vm node`: the embedded node in the foreground, for development. Tells what happens, one line a fact. */
import type { Command } from 'commander';
import { type GsbAddress, parseGsbUrl } from '../gsb/index.ts';
import { runBase } from '../lib/paths.ts';
import { type ActivityEvent, LocalNode, type RouterEvent } from '../node/index.ts';
import { ensurePrivate } from '../runtime/run-folder.ts';
import type { Act } from './commands.ts';
import { type Context, print } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { forOption } from './options.ts';

const HELP = `
The node takes reports of every activity, says who is silent for too long (5 s: unresponsive, 10 s: dead), and ends
nobody. Anybody who can connect is trusted: a Unix socket is yours alone, a TCP port is everybody's on this host.

Exit codes: 0 ended by Ctrl-C or SIGTERM; 125 it could not listen.

Examples:
  ya-vm node
  ya-vm node --listen tcp://127.0.0.1:7464 --json
  GSB_URL=unix:/run/user/1000/ya-vm/gsb.sock \\
    ya-vm service-bus my-activity /local/activity -a agreement.json -w work -c cache`;

export function define(command: Command, act: Act): void {
  command
    .option(
      '--listen <url>',
      'unix:PATH or tcp://HOST:PORT (default: a socket of yours, whose name is shown)',
      forOption('--listen', parseGsbUrl),
    )
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', HELP);
  act(command, (context, options) => runNode(context, options));
}

interface NodeOptions {
  listen?: GsbAddress;
  json?: boolean;
}

/** One fact, by either of its sources. */
type Fact = RouterEvent | ActivityEvent | { kind: 'listening'; url: string };

/** `interrupts` is replaced by tests. Runs until a signal. */
export async function runNode(
  context: Context,
  options: NodeOptions,
  interrupts: Interrupts = new Interrupts(),
): Promise<number> {
  const tell = (fact: Fact) => void print(context, options.json ? JSON.stringify(fact) : describeFact(fact));
  try {
    const node = await LocalNode.start({
      address: options.listen ?? ownSocket(context.env),
      logger: context.log,
      acceptUnknown: true,
      report: tell,
    });
    node.service.listen(tell);
    tell({ kind: 'listening', url: node.url });
    await interrupted(interrupts.signal);
    await node.close();
    return EXIT.ok;
  } finally {
    interrupts.close();
  }
}

function ownSocket(env: Context['env']): GsbAddress {
  const base = runBase(env);
  ensurePrivate(base);
  return { kind: 'unix', path: `${base}/gsb.sock` };
}

/** Waits for the signal that ends the program. */
async function interrupted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  if (!(signal.reason instanceof Interrupted)) throw signal.reason;
}

/** One line for people. */
export function describeFact(fact: Fact): string {
  switch (fact.kind) {
    case 'listening':
      return `listening: GSB_URL=${fact.url}`;
    case 'connected':
      return `connection ${fact.peer}: opened`;
    case 'hello':
      return `connection ${fact.peer}: Hello from ${fact.name} ${fact.version}`;
    case 'registered':
    case 'unregistered':
      return `connection ${fact.peer}: ${fact.kind} ${fact.address}`;
    case 'refused':
      return `connection ${fact.peer}: refused ${fact.address}, somebody has it`;
    case 'disconnected': {
      const names = fact.released.length > 0 ? `; free again: ${fact.released.join(' ')}` : '';
      return `connection ${fact.peer}: ended, ${fact.reason}${names}`;
    }
    case 'state': {
      const why = [fact.reason, fact.errorMessage].filter((text) => text !== undefined).join(', ');
      return `activity ${fact.activity}: state ${stateText(fact.state)}${why === '' ? '' : `, ${why}`}`;
    }
    case 'usage':
      return `activity ${fact.activity}: usage ${fact.usage === null ? 'none yet' : fact.usage.join(' ')}`;
    case 'unresponsive':
    case 'dead':
      return `activity ${fact.activity}: ${fact.kind}, silent for ${(fact.silent / 1000).toFixed(1)} s`;
    case 'responsive':
      return `activity ${fact.activity}: responsive again, state ${stateText(fact.state)}`;
  }
}

function stateText([current, pending]: readonly [string, string | null]): string {
  return pending === null ? current : `${current} → ${pending}`;
}
