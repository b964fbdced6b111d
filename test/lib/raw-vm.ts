/** A real guest with nothing between the test and its three ports: for bytes that the host's own client never sends. */
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import type { Test } from 'tap';
import { decodeMap, encodeMessage } from '../../guest/protocol/codec.ts';
import {
  decodeCredit,
  encodeCredit,
  encodeFrame,
  FrameDecoder,
  FrameType,
  MAX_CONTROL_PAYLOAD,
  MAX_DATA_PAYLOAD,
  MAX_LOG_PAYLOAD,
} from '../../guest/protocol/frames.ts';
import type { Notification, Request, RequestBody, WireError } from '../../guest/protocol/messages.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { TCG_CPU } from '../../host/runtime/accelerator.ts';
import { readTscKhz } from '../../host/runtime/host-clock.ts';
import { launchQemu, type Qemu } from '../../host/runtime/launch.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { openDisks } from '../../host/runtime/vm-disks.ts';
import { planConfigure } from '../../host/runtime/vm-plan.ts';
import { loadNative } from '../../native/load.ts';
import { type Owner, vmSpec } from './vm.ts';

export type PortName = 'control' | 'data' | 'log';
/** What a request is answered with. */
export interface Answer {
  ok?: Record<string, unknown>;
  error?: WireError;
}

const START_DEADLINE = 120_000;
const ANSWER_DEADLINE = 60_000;
const READ_BUFFER = 256 * 1024;

export class RawVm {
  readonly qemu: Qemu;
  readonly control: Socket;
  readonly data: Socket;
  readonly log: Socket;
  /** Notifications so far. */
  readonly events: Notification[] = [];
  /** Records of the guest's log so far. */
  readonly records: Record<string, unknown>[] = [];
  /** Bytes that came on each stream so far, and which have ended. */
  readonly received = new Map<number, Buffer[]>();
  readonly ended = new Set<number>();
  /** Credit that the guest has given on streams to it, and that was not used. */
  readonly credits = new Map<number, number>();
  /** Whether data that comes is paid for with new credit. */
  granting = true;
  readonly #answers = new Map<number, (answer: Answer) => void>();
  readonly #others: Socket[];
  #lastId = 1_000_000;
  #changed: (() => void)[] = [];

  /** Boots the product's guest, and configures it. Killed when the test ends. */
  static async start(t: Owner, changes: Partial<VmSpec> = {}): Promise<RawVm> {
    const spec = vmSpec({ root: { disk: 32 * 1024 * 1024 }, ...changes });
    const disks = await openDisks(spec);
    const launch = {
      name: 'ya-vm-raw',
      accel: 'tcg',
      cpuModel: TCG_CPU,
      tscKhz: readTscKhz(),
      nics: [],
    } as const;
    const vm = new RawVm(launchQemu({ ...spec, ...launch, disks }, loadNative()));
    t.teardown(() => vm.kill());
    await withDeadline(vm.event('hello'), START_DEADLINE, 'the guest');
    const facts = { now: Date.now(), entropy: randomBytes(64), logLevel: 'info' } as const;
    const { error } = await vm.request(planConfigure(spec, facts), START_DEADLINE);
    if (error) throw new Error(`${error.code}: ${error.message}`);
    return vm;
  }

  constructor(qemu: Qemu) {
    this.qemu = qemu;
    const control = new FrameDecoder(MAX_CONTROL_PAYLOAD, ({ payload }) => this.#message(decodeMap(payload)));
    const data = new FrameDecoder(MAX_DATA_PAYLOAD, (frame) =>
      this.#data(frame.type, frame.stream, frame.payload),
    );
    const log = new FrameDecoder(MAX_LOG_PAYLOAD, ({ payload }) => {
      this.records.push(JSON.parse(Buffer.from(payload).toString('utf8')));
    });
    const connect = (connect: Qemu['ports']['control'], take: (bytes: Uint8Array) => void) => {
      const buffer = Buffer.alloc(READ_BUFFER);
      const callback = (count: number) => {
        // A copy: the decoder's frames are views.
        take(Uint8Array.from(buffer.subarray(0, count)));
        this.#wake();
        return true;
      };
      return connect({ buffer, callback }).on('error', () => {});
    };
    this.control = connect(qemu.ports.control, (bytes) => control.push(bytes));
    this.data = connect(qemu.ports.data, (bytes) => data.push(bytes));
    this.log = connect(qemu.ports.log, (bytes) => log.push(bytes));
    const monitor = connect(qemu.qmp, () => {});
    // A guest that prints must not stand still.
    const console_ = new Socket({ fd: qemu.consolePipe, readable: true, writable: false });
    this.#others = [monitor, console_.on('error', () => {}).resume()];
  }

  /** Sends bytes as they are. */
  send(port: PortName, ...pieces: Uint8Array[]): void {
    for (const piece of pieces) this[port].write(piece);
  }

  /** Sends a frame on the data port. */
  frame(type: number, stream: number, payload: Uint8Array = new Uint8Array(0)): void {
    this.send('data', encodeFrame(type, stream, payload));
  }

  /** Sends bytes on a stream as its credit allows, then its end. */
  async feed(stream: number, bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      await this.until(() => (this.credits.get(stream) ?? 0) > 0, `credit for stream ${stream}`);
      const credit = this.credits.get(stream) as number;
      const piece = bytes.subarray(offset, offset + Math.min(credit, 60_000));
      this.credits.set(stream, credit - piece.length);
      this.frame(FrameType.data, stream, piece);
      offset += piece.length;
    }
    this.frame(FrameType.end, stream);
  }

  /** Sends a request, and waits for its answer. */
  async request(body: RequestBody, deadline: number = ANSWER_DEADLINE): Promise<Answer> {
    const id = ++this.#lastId;
    const answered = new Promise<Answer>((resolve) => this.#answers.set(id, resolve));
    this.send('control', messageFrame({ ...body, id }));
    return withDeadline(answered, deadline, `the guest to '${body.op}'`);
  }

  /** Starts a shell script with streams; without any its output is dropped. @returns its id. */
  async run(script: string, streams: { stdin?: number; stdout?: number } = {}): Promise<number> {
    const answer = await this.request({
      op: 'run',
      argv: ['/bin/sh', '-c', script],
      env: [],
      stdin: streams.stdin,
      stdout: streams.stdout === undefined ? 'discard' : { stream: streams.stdout },
      stderr: 'discard',
    });
    if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
    return this.#lastId;
  }

  /** Bytes of memory of the agent. @throws {Error} when it does not answer */
  async agentMemory(): Promise<number> {
    const { ok, error } = await this.request({ op: 'stats' });
    if (!ok) throw new Error(error?.message);
    return (ok.memory as { agent: number }).agent;
  }

  /** Waits for a notification that fits. */
  async event<E extends Notification['event']>(
    event: E,
    fits: (notification: Extract<Notification, { event: E }>) => boolean = () => true,
    deadline: number = START_DEADLINE,
  ): Promise<Extract<Notification, { event: E }>> {
    const find = () =>
      this.events.find(
        (each): each is Extract<Notification, { event: E }> =>
          each.event === event && fits(each as Extract<Notification, { event: E }>),
      );
    await this.until(() => find() !== undefined, `'${event}'`, deadline);
    return find() as Extract<Notification, { event: E }>;
  }

  /** Waits for what comes in to bring it about. */
  async until(done: () => boolean, what: string, deadline: number = ANSWER_DEADLINE): Promise<void> {
    const wait = async () => {
      while (!done()) await new Promise<void>((resolve) => this.#changed.push(resolve));
    };
    await withDeadline(wait(), deadline, `the guest with ${what}`);
  }

  async kill(): Promise<void> {
    this.qemu.kill();
    await this.qemu.exited;
    for (const socket of [this.control, this.data, this.log, ...this.#others]) socket.destroy();
  }

  #message(message: Record<string, unknown>): void {
    if (message.event !== undefined) {
      this.events.push(message as unknown as Notification);
      return;
    }
    this.#answers.get(message.id as number)?.(message as Answer);
    this.#answers.delete(message.id as number);
  }

  #data(type: number, stream: number, payload: Uint8Array): void {
    if (type === FrameType.end) this.ended.add(stream);
    if (type === FrameType.credit) {
      this.credits.set(stream, (this.credits.get(stream) ?? 0) + decodeCredit(payload));
    }
    if (type !== FrameType.data) return;
    const chunks = this.received.get(stream) ?? [];
    this.received.set(stream, chunks);
    chunks.push(Buffer.from(payload));
    if (this.granting) this.send('data', encodeCredit(stream, payload.length));
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const resolve of changed) resolve();
  }
}

/** A request as a frame of the control port. */
export function messageFrame(message: Request): Uint8Array {
  return encodeFrame(FrameType.message, 0, encodeMessage(message));
}

/** What the agent may take, bytes: also while it is fed with garbage. */
export const MOST_MEMORY = 8 * 1024 * 1024;

/** Asserts that the agent answers, and has not grown. */
export async function isWell(t: Test, vm: RawVm, what: string): Promise<void> {
  const memory = await vm.agentMemory();
  t.ok(memory <= MOST_MEMORY, `${what}: the agent answers, with ${Math.round(memory / 1024)} KiB`);
}
