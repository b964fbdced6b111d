/**
 * The VM of `ya-vm run`: an activity of an embedded node, run by this program as a provider starts it. Commands, output
 * and results go over the bus; stdin, terminal and signals by the supervisor's attach.sock.
 */
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { AttachClient } from '../attach/client.ts';
import type { RunningCommand } from '../attach/port.ts';
import {
  LOCAL_DEPLOYMENT,
  LOCAL_FOLDER,
  LOCAL_TOKEN,
  LocalExchange,
  type LocalStartLine,
  localRun,
} from '../exe-unit/local.ts';
import { sleep } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { startTimeOf } from '../lib/process.ts';
import { errorFromWire } from '../lib/wire-error.ts';
import type { CommandOutput, RuntimeEvent } from '../node/index.ts';
import type { Command, CommandResult, CommandSpec, OutputStream, VmSpec } from '../runtime/index.ts';
import { OutputFeed } from '../runtime/output-feed.ts';
import { ATTACH_SOCKET, type StartedVm, type StartHooks } from './boot.ts';
import { type LocalActivity, startLocalActivity, usageOf } from './local-activity.ts';

/** Bytes of output on their way to us at most: what comes beyond waits in the supervisor's spool. */
const WINDOW = 1024 * 1024;
/** From the supervisor's word that there is no such command to the event that says why, at most, milliseconds. */
const FAILURE_TOLD = 10_000;

/** @throws {YavmError} what keeps the VM from coming up; there is nothing left of it then */
export async function startActivityVm(spec: VmSpec, hooks: StartHooks): Promise<StartedVm> {
  let exchange: LocalExchange | undefined;
  const activity = await startLocalActivity(hooks, {
    memoryMiB: spec.memoryMiB,
    cpus: spec.cpus,
    storage: 'disk' in spec.root ? spec.root.disk : spec.root.ram,
    accel: spec.accel,
    environment(folder) {
      exchange = new LocalExchange(folder);
      // Who is told to stop it is this process, as for every `run`.
      exchange.putVm({
        ...spec,
        supervisor: { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0 },
      });
      exchange.putNetwork(hooks.network);
      return { [LOCAL_FOLDER]: folder };
    },
    standing: hooks.standing,
    signal: hooks.signal,
  });
  try {
    if (!exchange) throw new Error('the supervisor was started without its folder');
    const facts = await bringUp(activity, exchange, hooks);
    const attach = await AttachClient.connect(join(facts.folder, ATTACH_SOCKET), hooks.log);
    return new ActivityVm(activity, { ...facts, attach, exchange });
  } catch (error) {
    await activity.close();
    throw error;
  }
}

type Facts = Extract<LocalStartLine, { vm: unknown }>['vm'];

/** Deploys and starts. What fails there is thrown as if it had failed here. */
async function bringUp(
  { node, activity }: LocalActivity,
  exchange: LocalExchange,
  hooks: StartHooks,
): Promise<Facts> {
  const requestor = node.requestor(activity.activity);
  const batch = await requestor.exec(LOCAL_DEPLOYMENT, { signal: hooks.signal });
  let facts: Facts | null = null;
  let rest = '';
  for await (const event of requestor.stream(batch, { signal: hooks.signal })) {
    if (event.kind === 'finished' && event.returnCode !== 0) throw failure(exchange, event.message);
    if (event.kind !== 'stdout') continue;
    rest += typeof event.output === 'string' ? event.output : Buffer.from(event.output).toString();
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const said = JSON.parse(line) as LocalStartLine;
      if ('phase' in said) hooks.onPhase(said.phase);
      else facts = said.vm;
    }
  }
  hooks.signal.throwIfAborted();
  if (facts === null) throw new YavmError('YAVM_E_ACTIVITY_START', 'the supervisor did not tell of its VM');
  return facts;
}

/** Why a command of the script failed: as the supervisor wrote it down, else as the bus has it. */
function failure(exchange: LocalExchange, message: string | null): Error {
  try {
    const end = exchange.end();
    if ('error' in end) return errorFromWire(end.error);
  } catch {
    // It was not the runtime that failed.
  }
  return new YavmError('YAVM_E_ACTIVITY_START', message ?? 'the activity failed');
}

interface LocalParts extends Facts {
  attach: AttachClient;
  exchange: LocalExchange;
}

class ActivityVm implements StartedVm {
  readonly id: string;
  readonly folder: string;
  readonly accel: 'kvm' | 'tcg';
  readonly start: 'template' | 'boot';
  /** The supervisor serves attach.sock. */
  readonly attached = true;
  usage: NonNullable<StartedVm['usage']> = [];
  readonly #activity: LocalActivity;
  readonly #parts: LocalParts;
  #closing: Promise<void> | null = null;

  constructor(activity: LocalActivity, parts: LocalParts) {
    this.id = parts.id;
    this.folder = parts.folder;
    this.accel = parts.accel;
    this.start = parts.start;
    this.#activity = activity;
    this.#parts = parts;
  }

  async run(spec: CommandSpec): Promise<RunningCommand> {
    const { attach, exchange } = this.#parts;
    const { node, activity } = this.#activity;
    exchange.putCommand(spec);
    const requestor = node.requestor(activity.activity);
    const batch = await requestor.exec(localRun(spec.argv));
    const command = new RemoteCommand(spec, exchange);
    const lost: Promise<never> = activity.ended.then(({ code, signal }) => {
      throw new YavmError(
        'YAVM_E_ACTIVITY_LOST',
        `the supervisor has ended (${signal ?? `exit code ${code}`})`,
      );
    });
    const taken = (bytes: number) => void requestor.taken(batch, bytes);
    void command.follow(requestor.stream(batch, { window: WINDOW }), taken, lost);
    // It answers when the command runs; one that cannot be started ends its batch instead.
    const adopted = attach.adopt(LOCAL_TOKEN, { stdin: spec.stdin === true });
    adopted.catch(() => {});
    const unless = adopted.then(
      (other) => command.adopt(other),
      // The command did not start, and the batch says why; or it has to.
      (error) => sleep(FAILURE_TOLD).then(() => Promise.reject(error)),
    );
    await Promise.race([unless, command.failedToStart]);
    return command;
  }

  stats() {
    return this.#parts.attach.stats();
  }

  readFiles(...args: Parameters<AttachClient['readFiles']>) {
    return this.#parts.attach.readFiles(...args);
  }

  writeFiles(...args: Parameters<AttachClient['writeFiles']>) {
    return this.#parts.attach.writeFiles(...args);
  }

  /** The supervisor ends its VM in order, as far as its time goes, or at once when nothing of it is kept. */
  stop(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  kill(): Promise<void> {
    return this.stop();
  }

  async #close(): Promise<void> {
    const { activity } = this.#activity;
    this.#parts.attach.close();
    await this.#activity.close();
    this.usage = usageOf(activity);
  }
}

/** A command whose output and end come over the bus, and everything else by attach.sock. */
class RemoteCommand implements RunningCommand {
  readonly result: Promise<CommandResult>;
  /** Rejects when it was not started. */
  readonly failedToStart: Promise<never>;
  readonly #exchange: LocalExchange;
  readonly #feeds: { stdout: OutputFeed; stderr: OutputFeed | null };
  readonly #result = deferred<CommandResult>();
  readonly #failed = deferred<never>();
  #adopted: Command | null = null;

  constructor(spec: CommandSpec, exchange: LocalExchange) {
    this.#exchange = exchange;
    // A terminal has one output.
    this.#feeds = { stdout: new OutputFeed(), stderr: spec.tty ? null : new OutputFeed() };
    this.result = this.#result.promise;
    this.failedToStart = this.#failed.promise;
    this.result.catch(() => {});
    this.failedToStart.catch(() => {});
  }

  get pid(): number {
    return this.#adopted?.pid ?? 0;
  }

  get stdin(): Writable | null {
    return this.#adopted?.stdin ?? null;
  }

  get stdout(): OutputStream {
    return this.#feeds.stdout.stream;
  }

  get stderr(): OutputStream | null {
    return this.#feeds.stderr?.stream ?? null;
  }

  async signal(signal: number, options?: { tree?: boolean }): Promise<void> {
    await this.#adopted?.signal(signal, options);
  }

  async resize(rows: number, columns: number): Promise<void> {
    await this.#adopted?.resize(rows, columns);
  }

  adopt(command: Command): void {
    this.#adopted = command;
  }

  /** Passes on what the batch tells, and tells how much output was `taken` so far. `lost` rejects when nothing more can come. */
  async follow(
    events: AsyncIterable<RuntimeEvent>,
    taken: (bytes: number) => void,
    lost: Promise<never>,
  ): Promise<void> {
    try {
      await Promise.race([this.#passOn(events, taken), lost]);
    } catch (error) {
      this.#fail(toError(error));
    }
  }

  async #passOn(events: AsyncIterable<RuntimeEvent>, taken: (bytes: number) => void): Promise<void> {
    let total = 0;
    let told = 0;
    for await (const event of events) {
      if (event.kind === 'stdout' || event.kind === 'stderr') {
        const bytes = bytesOf(event.output);
        await this.#feeds[event.kind]?.put(bytes);
        total += bytes.length;
        if (total - told < WINDOW / 4) continue;
        told = total;
        taken(total);
      } else if (event.kind === 'finished') {
        await this.#finish(event.message);
      }
    }
    this.stdout.end();
    this.stderr?.end();
  }

  /** All output came before this event. */
  async #finish(message: string | null): Promise<void> {
    const end = this.#exchange.end();
    if ('error' in end) return this.#fail(errorFromWire(end.error));
    const { stdout, stderr } = this;
    const complete = end.result.complete && !message?.includes('YAVM_E_OUTPUT_DROPPED');
    await Promise.all([stdout, stderr].map((stream) => stream?.reached(stream.received, 'taken')));
    this.#result.resolve({ ...end.result, complete });
  }

  #fail(error: Error): void {
    this.stdout.fail(error);
    this.stderr?.fail(error);
    this.#failed.reject(error);
    this.#result.reject(error);
  }
}

function bytesOf(output: CommandOutput): Uint8Array {
  return typeof output === 'string' ? Buffer.from(output) : output;
}
