/** A VM, from its start to its end: whatever happens in between, it ends once, and everyone who waits learns why. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type {
  FilesReply,
  GuestGpu,
  Hello,
  MountSpec,
  NetworkSpec,
  Operation,
  Ready,
  ReplyOf,
  RequestOf,
  StatsReply,
} from '../../guest/protocol/messages.ts';
import { PROTOCOL_VERSION } from '../../guest/protocol/messages.ts';
import type { ExitStatus } from '../../native/face.ts';
import { sleep, withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { isYavmError, toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { Command } from './command.ts';
import { compareClocks } from './compare-clocks.ts';
import { ConsoleLog } from './console-log.ts';
import { findConsolePath } from './console-path.ts';
import type { DiskGauge } from './disk-gauge.ts';
import { DiskWatch } from './disk-watch.ts';
import { GuestClient, type RunOptions, type WriteFilesOptions } from './guest-client.ts';
import { KeptRecord } from './kept-record.ts';
import type { Qemu } from './launch.ts';
import type { Sink } from './output-stream.ts';
import { Qmp } from './qmp.ts';
import type { RequestOptions } from './requests.ts';
import { CONSOLE_FILE, type RunFolder } from './run-folder.ts';
import type { ShareServers } from './share-servers.ts';
import { loadState } from './template/monitor.ts';
import { placeholdersOf, throughPlaceholders } from './template/placeholders.ts';
import type { CommandSpec, VmRecord, VmSpec, VmState } from './types.ts';
import { bootTimeout, describeEnd, type EndFacts, type VmEnd } from './vm-end.ts';
import { guestLogLevel, planConfigure } from './vm-plan.ts';
import { VmStateMachine } from './vm-state.ts';

export interface VmParts {
  folder: RunFolder;
  record: VmRecord;
  qemu: Qemu;
  logger: Logger;
  /** Of its writable disks. */
  disk?: DiskGauge;
  /** Of its shared folders: they end with it, and it with them. */
  shares?: ShareServers;
}

/** Default time that processes have between TERM and KILL at a stop, milliseconds. */
const GRACE = 5000;
/** For the guest to unmount and power off after that: an emulated one may have much to write. */
const POWER_OFF_DEADLINE = 30_000;
const QUIT_DEADLINE = 2000;
const MONITOR_DEADLINE = 10_000;
/** From QEMU's end to the last bytes of its sockets. */
const LAST_BYTES_WAIT = 300;
/** A QEMU that has closed its ports and does not end is of no use; until then it may write out its disks. */
const PORTS_WITHOUT_QEMU = 3000;
/** Configure loads drivers and mounts, which may take as long as a boot, and at least this, milliseconds. */
const CONFIGURE_LEAST = 30_000;
/** Lines of the console that an error's author looks at: a panic's report has some forty. */
const CONSOLE_LINES = 60;

export class Vm {
  readonly id: string;
  /** Its run folder. */
  readonly folder: string;
  readonly accel: 'kvm' | 'tcg';
  readonly start: VmRecord['start'];
  /** Resolves when the VM is gone and nothing of it is left. Never rejects. */
  readonly ended: Promise<VmEnd>;
  readonly #record: KeptRecord;
  readonly #qemu: Qemu;
  readonly #logger: Logger;
  readonly #disk: DiskGauge | undefined;
  readonly #shares: ShareServers | undefined;
  readonly #console: ConsoleLog;
  readonly #monitor: Qmp;
  #negotiated: Promise<void> | null = null;
  readonly #diskWatch: DiskWatch;
  readonly #client: GuestClient;
  readonly #states: VmStateMachine;
  readonly #portsClosed = deferred<void>();
  #asked: 'stopped' | 'killed' | null = null;
  #cause: YavmError | null = null;
  /** Set at the end: what everyone who still asks for something gets. */
  #failure: YavmError | null = null;
  #shutDown = false;
  #stopping: Promise<void> | null = null;
  #hello: Hello | null = null;
  #gpus: readonly GuestGpu[] = [];
  /** Of a VM from a template: see placeholdersOf. */
  #placeholders: ReadonlyMap<string, string> | null = null;

  /** Takes over a QEMU that was just launched; {@link boot} comes next. */
  constructor({ folder, record, qemu, logger, disk, shares }: VmParts) {
    this.id = folder.id;
    this.folder = folder.path;
    ({ accel: this.accel, start: this.start } = record);
    this.#record = new KeptRecord(folder, record, logger);
    this.#qemu = qemu;
    this.#logger = logger;
    this.#disk = disk;
    this.#shares = shares;
    this.#states = new VmStateMachine((state) => this.#record.save({ state }));
    this.#states.go('launching');
    this.#console = new ConsoleLog(qemu.consolePipe, join(folder.path, CONSOLE_FILE));
    this.#diskWatch = new DiskWatch({
      resume: () => this.#resume(),
      onStopped: (reason) =>
        logger.warn({ vm: this.id, reason }, "the host's disk takes no more: the VM waits"),
      // Also while it is being stopped: what it had to write is lost then, and somebody may keep its disk.
      onGivenUp: (error) => {
        this.#cause ??= error;
        this.#qemu.kill();
      },
    });
    this.#monitor = new Qmp(qemu.qmp, (event) => this.#diskWatch.take(event));
    this.#client = new GuestClient(qemu.ports, { logger, onEnd: (error) => this.#portsEnded(error) });
    shares?.failed.then((error) => this.#fail(error));
    this.ended = qemu.exited.then((status) => this.#qemuEnded(status));
  }

  get state(): VmState {
    return this.#states.state;
  }

  /** QEMU's process, for those who count what it uses. */
  get pid(): number {
    return this.#qemu.pid;
  }

  /** QEMU's monitor, once {@link boot} is over. */
  get monitor(): Qmp {
    return this.#monitor;
  }

  /** Bytes that its writable disks take now; 0 without one, and after the end. */
  get diskAllocated(): number {
    return this.#disk?.allocated ?? 0;
  }

  /** What the guest said of itself. @throws {Error} before the boot. */
  get hello(): Hello {
    if (!this.#hello) throw new Error('the guest has not said hello');
    return this.#hello;
  }

  /** Graphics cards that work in the guest; none before it is ready. */
  get gpus(): readonly GuestGpu[] {
    return this.#gpus;
  }

  // ---------------------------------------------------------------- start

  /**
   * Waits for the guest's hello.
   * @throws {YavmError} YAVM_E_BOOT_TIMEOUT at the deadline (the VM is killed then); YAVM_E_PROTOCOL_VERSION; the VM's end.
   */
  async boot(milliseconds: number, signal?: AbortSignal): Promise<Hello> {
    this.#advance('booting');
    this.#findConsole();
    try {
      this.#hello = await this.#client.hello(milliseconds, signal);
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      this.#cause = bootTimeout(milliseconds, this.#facts());
      await this.kill();
      throw this.#cause;
    }
    const { protocol, agent } = this.#hello;
    if (protocol === PROTOCOL_VERSION) return this.#hello;
    throw new YavmError(
      'YAVM_E_PROTOCOL_VERSION',
      `the guest's agent ${agent} speaks protocol ${protocol}, this ya-vm ${PROTOCOL_VERSION}`,
      { hint: 'Rebuild the initramfs: make build' },
    );
  }

  /**
   * In place of a boot: the machine goes on from a template's state, whose guest has said `hello`. Waits until it answers.
   * @throws {YavmError} whatever it is, the machine is of no use then, and is to be killed
   */
  async restore(hello: Hello, milliseconds: number, signal?: AbortSignal): Promise<void> {
    this.#advance('booting');
    this.#placeholders = new Map();
    this.#hello = hello;
    this.#client.greeted(hello);
    // Nothing of this waits for anything else: all is there for QEMU, and then for the guest, when they come to it.
    await Promise.all([
      this.#negotiate(),
      loadState(this.#monitor, this.#qemu.state ?? -1, { deadline: milliseconds }),
      this.#client.request({ op: 'ping' }, { deadline: milliseconds, signal }),
    ]);
    this.#findConsole();
  }

  /** Tells the guest what it is to be. @throws {GuestRequestError} what it cannot do; the VM's end. */
  async configure(spec: VmSpec, milliseconds: number, signal?: AbortSignal): Promise<Ready> {
    this.#advance('configuring');
    if (this.#placeholders) this.#placeholders = placeholdersOf(spec);
    const ping = async () => (await this.#client.request({ op: 'ping' }, { signal })).uptime;
    // An older agent has no answer.
    const clocks = this.hello.features.includes('ping') ? await compareClocks(ping) : { now: Date.now() };
    const request = planConfigure(spec, {
      ...clocks,
      entropy: randomBytes(64),
      logLevel: guestLogLevel(this.#logger),
      shares: this.#shares?.kind,
      placeholders: this.#placeholders,
    });
    const deadline = Math.max(milliseconds, CONFIGURE_LEAST);
    const ready = await this.#client.request(request, { deadline, signal });
    this.#gpus = ready.gpus ?? [];
    this.#logger.debug({ vm: this.id, steps: ready.steps }, 'the VM is configured');
    this.#advance('running');
    return ready;
  }

  #negotiate(): Promise<void> {
    const log = (version: string) => this.#logger.debug({ vm: this.id, version }, 'QEMU answers');
    this.#negotiated ??= this.#monitor.negotiate(MONITOR_DEADLINE).then(log);
    return this.#negotiated;
  }

  /** @throws {YavmError} the VM's end, when that came first. */
  #advance(state: VmState): void {
    if (this.#failure) throw this.#failure;
    this.#states.go(state);
  }

  // ---------------------------------------------------------------- use

  /** Starts a command. @throws {GuestRequestError} YAVM_E_GUEST_SPAWN_FAILED and others; the VM's end. */
  run(spec: CommandSpec, options?: RunOptions): Promise<Command> {
    return this.#client.run(spec, options);
  }

  /** Any request without a stream. */
  request<Op extends Operation>(body: RequestOf<Op>, options?: RequestOptions): Promise<ReplyOf[Op]> {
    return this.#client.request(body, options);
  }

  stats(process?: number): Promise<StatsReply> {
    return this.#client.request({ op: 'stats', process });
  }

  async mount(mount: MountSpec): Promise<void> {
    await this.#client.request({ op: 'mount', mount });
  }

  async network(network: NetworkSpec): Promise<void> {
    const seen = throughPlaceholders(network, this.#placeholders);
    await this.#client.request({ op: 'network', network: seen });
  }

  /** A file, or with `tar` anything as a tar, into `sink`; see {@link GuestClient.readFiles}. */
  readFiles(
    path: string,
    sink: Sink,
    options?: { format?: 'file' | 'tar'; signal?: AbortSignal },
  ): Promise<FilesReply> {
    return this.#client.readFiles(path, sink, options);
  }

  /** The reverse; see {@link GuestClient.writeFiles}. */
  writeFiles(
    path: string,
    source: Readable | AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options?: WriteFilesOptions,
  ): Promise<FilesReply> {
    return this.#client.writeFiles(path, source, options);
  }

  /** The last lines of the serial console, without control characters. */
  consoleLines(count: number = CONSOLE_LINES): string[] {
    return this.#console.lines(count);
  }

  // ---------------------------------------------------------------- end

  /**
   * Ends the VM in order: TERM to all processes, KILL after `grace` milliseconds, sync, unmount, power off; by force when
   * the guest does not manage. Resolves when it is gone. May be called more than once.
   */
  async stop({ grace = GRACE }: { grace?: number } = {}): Promise<void> {
    this.#stopping ??= this.#stopInOrder(grace);
    await this.#stopping;
  }

  /** Ends the VM at once; what is not on its disk is lost. */
  async kill(): Promise<void> {
    this.#asked ??= 'killed';
    this.#qemu.kill();
    await this.ended;
  }

  async #stopInOrder(grace: number): Promise<void> {
    if (this.state !== 'running') return await this.kill();
    this.#asked = 'stopped';
    this.#states.go('stopping');
    try {
      await this.#client.request({ op: 'shutdown', grace }, { deadline: grace + POWER_OFF_DEADLINE });
      this.#shutDown = true;
      await withDeadline(this.#qemu.exited, POWER_OFF_DEADLINE, 'the guest to power off');
    } catch (error) {
      this.#logger.warn({ vm: this.id, err: toError(error) }, 'the VM does not end by itself');
      this.#shutDown = false;
      await this.#quit();
    }
    await this.ended;
  }

  /** QEMU writes out what its disks' caches hold when it is told to quit; a kill leaves that to the kernel alone. */
  async #quit(): Promise<void> {
    try {
      await this.#monitor.execute('quit', {}, QUIT_DEADLINE);
      await withDeadline(this.#qemu.exited, QUIT_DEADLINE, 'QEMU to quit');
    } catch {
      this.#qemu.kill();
    }
  }

  #resume(): void {
    this.#monitor.execute('cont').catch((error) => {
      this.#logger.debug({ vm: this.id, err: toError(error) }, 'the VM cannot go on');
    });
  }

  /** The ports can carry nothing more. Without an error QEMU should be ending; else the guest broke the protocol. */
  #portsEnded(error: YavmError | null): void {
    this.#portsClosed.resolve();
    if (error) {
      this.#cause ??= error;
      this.#qemu.kill();
      return;
    }
    // Not what keeps this process alive: QEMU's end does.
    setTimeout(() => this.#qemu.kill(), PORTS_WITHOUT_QEMU).unref();
  }

  /** A part without which it cannot go on has failed. */
  #fail(error: YavmError): void {
    if (this.#asked || this.#failure) return;
    this.#cause ??= error;
    this.#qemu.kill();
  }

  async #qemuEnded(exit: ExitStatus): Promise<VmEnd> {
    // What it and the guest said last is still in the sockets.
    await Promise.race([
      Promise.all([this.#portsClosed.promise, this.#monitor.closed, this.#console.closed]),
      sleep(LAST_BYTES_WAIT),
    ]);
    await this.#shares?.close();
    const failure = this.#cause ?? (this.#asked ? null : describeEnd({ ...this.#facts(), exit }));
    this.#failure = failure ?? new YavmError('YAVM_E_VM_STOPPED', `the VM was ${this.#asked}`);
    this.#client.close(this.#failure);
    this.#diskWatch.close();
    this.#monitor.close();
    this.#console.close();
    this.#disk?.close();
    this.#states.go('ended');
    this.#record.remove();
    return {
      reason: failure ? 'failed' : (this.#asked ?? 'failed'),
      error: failure,
      orderly: this.#shutDown && exit.code === 0,
      cpuSeconds: (exit.userMicroseconds + exit.systemMicroseconds) / 1e6,
    };
  }

  #facts(): Omit<EndFacts, 'exit'> {
    return {
      events: this.#monitor.events,
      consoleText: this.#console.text,
      consoleLines: this.#console.lines(CONSOLE_LINES),
      lastWords: this.#client.lastWords,
      qemuMessages: this.#qemu.messages
        .lines(CONSOLE_LINES)
        .filter((line) => !line.startsWith('char device')),
    };
  }

  /** Finds the console's pty and writes it down; nothing depends on it. */
  #findConsole(): void {
    const find = async () => {
      await this.#negotiate();
      this.#record.save({ console: await findConsolePath(this.#monitor) });
    };
    find().catch((error) => this.#logger.debug({ vm: this.id, err: toError(error) }, "no console's pty"));
  }
}
