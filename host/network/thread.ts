/**
 * The thread of an activity's network, from the main thread. All that moves frames is there, so whatever a guest or a peer
 * sends, the thread that talks to the node is never late: five seconds of silence end an activity.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { withDeadline } from '../lib/deadline.ts';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { packedText } from '../lib/packed.ts';
import { errorFromWire } from '../lib/wire-error.ts';
import { logFromThread, thresholdOf } from './thread-log.ts';
import type { RequestName, Requests, ThreadAnswer, ThreadStats } from './thread-messages.ts';
import type { NicCounters, OutboundSetup, PingReply, SharedCounters, VpnSetup } from './types.ts';

/** Beside the launcher's bundle (build/launcher.ts), else the source. The single program has its text. */
const PLACES = ['./network-worker.cjs', './worker.ts'];
/** Milliseconds for what needs nobody else. */
const PROMPT = 10_000;
/** For a VPN's identity and names on a bus that may just be coming back. */
const OPEN_WAIT = 30_000;
/** For the thread to give names back and to close its descriptors. */
const CLOSE_WAIT = 2000;
/** Requests under way; who asks more often does so in error. */
const MAX_REQUESTS = 256;

/** Order of the numbers in {@link SharedCounters}. */
const COUNTERS = ['framesIn', 'bytesIn', 'framesOut', 'bytesOut'] as const;

export class NetworkThread {
  readonly #worker: Worker;
  readonly #logger: Logger;
  readonly #waiting = new Map<number, Deferred<unknown>>();
  readonly #vpnCounters = newCounters();
  readonly #outboundCounters = newCounters();
  readonly #failed = deferred<YavmError>();
  #count = 0;
  #closing: Promise<void> | null = null;
  #error: YavmError | null = null;

  /** Starts the thread; 10 to 13 MB, and 40 ms before it answers. */
  constructor(logger: Logger) {
    this.#logger = logger;
    const packed = packedText('network-worker.cjs');
    this.#worker = new Worker(packed ?? workerFile(), {
      eval: packed !== null,
      name: 'network',
      workerData: { threshold: thresholdOf(logger) },
      // The launcher's limits are for the main thread's garbage.
      execArgv: process.execArgv.filter((word) => word.startsWith('--disable-warning')),
    });
    this.#worker.on('message', (answer: ThreadAnswer) => this.#answered(answer));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => this.#fail(new Error('it has ended')));
    this.#worker.unref();
  }

  /** Resolves when the thread itself has failed: nothing passes any more. */
  get failed(): Promise<YavmError> {
    return this.#failed.promise;
  }

  /** Connects a NIC to the VPN. Takes the setup's descriptor over. @throws {YavmError} YAVM_E_NET_…, YAVM_E_GSB_… */
  async openVpn(setup: VpnSetup): Promise<void> {
    await this.#ask('openVpn', { setup, counters: this.#vpnCounters }, OPEN_WAIT);
  }

  /** Connects a NIC to the way out. Takes the setup's descriptors over. @throws {YavmError} YAVM_E_NET_… */
  async openOutbound(setup: OutboundSetup): Promise<void> {
    await this.#ask('openOutbound', { setup, counters: this.#outboundCounters });
  }

  /** Takes `fd` over. */
  async replaceUpstream(fd: number): Promise<void> {
    await this.#ask('replaceUpstream', { fd });
  }

  stats(): Promise<ThreadStats> {
    return this.#ask('stats', {});
  }

  /** @throws {YavmError} YAVM_E_NET_PING */
  ping(address: string, milliseconds: number): Promise<PingReply> {
    return this.#ask('ping', { address, milliseconds }, milliseconds + PROMPT);
  }

  /** Writes what the NICs see into a file; null: no longer. @throws {YavmError} YAVM_E_NET_CAPTURE */
  async capture(file: string | null): Promise<void> {
    await this.#ask('capture', { file });
  }

  /** Both NICs' numbers, now; asks nobody. */
  get counters(): { vpn: NicCounters; outbound: NicCounters } {
    return { vpn: readCounters(this.#vpnCounters), outbound: readCounters(this.#outboundCounters) };
  }

  /** Gives names back and closes every descriptor. Never rejects; waits two seconds at most. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    try {
      if (this.#error === null) await this.#ask('close', {}, CLOSE_WAIT);
    } catch (error) {
      this.#logger.warn({ err: error }, 'the network did not end in order');
    }
    await this.#worker.terminate();
  }

  async #ask<Name extends RequestName>(
    name: Name,
    give: Requests[Name]['give'],
    deadline: number = PROMPT,
  ): Promise<Requests[Name]['get']> {
    if (this.#error !== null) throw this.#error;
    if (this.#waiting.size >= MAX_REQUESTS) {
      throw new YavmError('YAVM_E_NET_THREAD', `${MAX_REQUESTS} requests to the network wait for an answer`);
    }
    const id = ++this.#count;
    const answer = deferred<unknown>();
    this.#waiting.set(id, answer);
    // Who waits keeps the process; the thread by itself does not.
    this.#worker.ref();
    try {
      this.#worker.postMessage({ id, name, give });
      return (await withDeadline(answer.promise, deadline, 'the network')) as Requests[Name]['get'];
    } finally {
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#worker.unref();
    }
  }

  #answered(answer: ThreadAnswer): void {
    if ('log' in answer) {
      logFromThread(this.#logger, answer.log);
      return;
    }
    const waiting = this.#waiting.get(answer.id);
    if ('error' in answer) waiting?.reject(errorFromWire(answer.error));
    else waiting?.resolve(answer.get);
  }

  #fail(cause: Error): void {
    if (this.#error !== null) return;
    this.#error = new YavmError(
      'YAVM_E_NET_THREAD',
      "the network's thread has failed: nothing passes any more",
      {
        cause,
      },
    );
    for (const waiting of this.#waiting.values()) waiting.reject(this.#error);
    if (this.#closing === null) this.#failed.resolve(this.#error);
  }
}

function workerFile(): URL {
  const files = PLACES.map((place) => new URL(place, import.meta.url));
  return files.find((file) => existsSync(fileURLToPath(file))) ?? (files.at(-1) as URL);
}

function newCounters(): SharedCounters {
  return new SharedArrayBuffer(COUNTERS.length * Float64Array.BYTES_PER_ELEMENT);
}

function readCounters(shared: SharedCounters): NicCounters {
  const numbers = new Float64Array(shared);
  return Object.fromEntries(COUNTERS.map((name, at) => [name, numbers[at]])) as unknown as NicCounters;
}
