/**
 * The bus's side of a recorded scenario, played by hand to our supervisor: each recorded packet is sent when ours has
 * sent what the recorded supervisor had sent before it. The order counts, not the time.
 */
import { createServer, type Server, type Socket } from 'node:net';
import {
  type CallReply,
  encodeBody,
  encodePacket,
  type Packet,
  PacketDecoder,
} from '../../host/gsb/index.ts';
import { sleep, withDeadline } from '../../host/lib/deadline.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { streamMeaning } from './replay-meaning.ts';
import { patient } from './replay-patience.ts';
import { type CallStep, isFrame, isOutward, isReport, pairOf, type Step } from './replay-recording.ts';
import { RelayConnections, VPN_NAMES } from './replay-relay.ts';
import { answersTo, endingSignal, isReply, sizeOf } from './replay-steps.ts';

/** The program that is played to. */
export interface Supervisor {
  signal(name: NodeJS.Signals): void;
  /** A command of its runtime may end. */
  open(call: number): void;
  /** Resolves when it has exited. */
  exited: Promise<unknown>;
}

export interface ReplayOptions {
  /** Reports of usage that are waited for, a second each; others come or not. Default 0. */
  usageReports?: number;
  /** How it ends, where the recording's end is not that of ours; `itself`: it ends without being told to. */
  end?: 'SIGTERM' | 'itself';
  /** Nothing is waited for, everything is taken: ours does something else. */
  freely?: boolean;
  /** SIGSTOP before the first report, and for good before a Ping. */
  stalls?: boolean;
}

/** Milliseconds for each step. */
const DEADLINE = 60_000;
/** Milliseconds for which a supervisor stands still. */
const STALL = 2500;
const HELLO: Packet = { kind: 'hello', name: 'replay', version: '0', instanceId: new Uint8Array(16) };
const OK = encodeBody({ Ok: null });

export class ReplayRouter {
  /** What passed, as far as it has a counterpart in a recording. */
  readonly conversation: Step[] = [];
  readonly #steps: readonly Step[];
  readonly #options: ReplayOptions;
  readonly #server: Server;
  readonly #decoder = new PacketDecoder();
  /** The recorded one's calls to requestors' files, by their ids. */
  readonly #outward: ReadonlyMap<string, CallStep>;
  /** What was answered to the recorded reports, in their order. */
  readonly #answers: Record<'State' | 'Usage', (CallReply | undefined)[]>;
  readonly #registerCodes: (0 | 400 | 409)[];
  /** Pings without a Pong yet: the recording's, and those that only ask whether everything was read. */
  readonly #pings: (() => void)[] = [];
  #supervisor: Supervisor | undefined;
  #socket: Socket | undefined;
  readonly #relays = new RelayConnections((packet) => this.#note(packet));
  /** Calls that nobody could be given, by their ids: ours had given the name back. */
  readonly #undelivered = new Set<string>();
  #changed = deferred<void>();
  readonly #closed = deferred<void>();
  #gone: Promise<void> = this.#closed.promise;
  /** How far the recording was played. */
  #position = 0;
  #opened = -1;
  #stalled = false;
  #ending = false;

  constructor(steps: readonly Step[], options: ReplayOptions = {}) {
    this.#steps = steps;
    this.#options = options;
    const outward = steps.flatMap(({ packet }) => (isOutward(packet) ? [packet] : []));
    this.#outward = new Map(outward.map((call) => [call.requestId, call]));
    this.#answers = { State: answersTo(steps, 'State'), Usage: answersTo(steps, 'Usage') };
    this.#registerCodes = steps.flatMap(({ packet }) =>
      packet?.kind === 'registerReply' ? [packet.code] : [],
    );
    this.#server = createServer((socket) => this.#connected(socket));
  }

  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(path, resolve));
  }

  close(): void {
    this.#socket?.destroy();
    this.#server.close();
  }

  /** Plays it to its end. @throws when something does not come: what */
  async play(supervisor: Supervisor): Promise<void> {
    this.#supervisor = supervisor;
    // What it sent last can come after its exit.
    const gone = supervisor.exited.then(() =>
      this.#socket === undefined ? undefined : this.#closed.promise,
    );
    this.#gone = gone;
    if (!this.#options.freely) {
      for (const step of this.#steps) {
        await this.#play(step);
        this.#position++;
        if (this.#ending && step.packet === undefined) break;
      }
    }
    await withDeadline(gone, DEADLINE, 'the exit');
  }

  /** Packets of ours that `filter` takes. */
  sent<Kind extends Packet>(filter: (packet: Packet) => packet is Kind): Kind[] {
    return this.conversation.flatMap(({ from, packet }) =>
      from === 'exe-unit' && packet && filter(packet) ? [packet] : [],
    );
  }

  // ---------------------------------------------------------------- the recorded steps

  async #play({ from, packet }: Step): Promise<void> {
    if (packet === undefined) return this.#end(from === 'exe-unit' ? 'SIGKILL' : undefined);
    if (from === 'router') return this.#say(packet);
    await this.#openCommands();
    if (isReport(packet, 'Usage')) return this.#awaitUsage(packet);
    if (isReport(packet, 'State') && pairOf(packet)[1] === 'Terminated') await this.#end(undefined);
    await this.#until(() => this.#hasCome(packet), `a ${packet.kind}, step ${this.#position}`);
  }

  async #say(packet: Packet): Promise<void> {
    if (packet.kind === 'registerReply' && this.#isForRelay(packet)) return;
    if (packet.kind === 'callRequest' && packet.address.startsWith(VPN_NAMES)) return this.#callRelay(packet);
    if (packet.kind === 'callReply') {
      return this.#outward.has(packet.requestId) ? this.#answerOutward(packet) : this.#answerReport(packet);
    }
    if (packet.kind === 'ping') {
      if (this.#options.stalls) this.#stall();
      this.#pings.push(() => this.#log('exe-unit', { kind: 'pong' }));
    }
    this.#send(patient(packet));
  }

  /** Relays' names are answered by who takes their connections. */
  #isForRelay(reply: Packet): boolean {
    const of = (kind: Packet['kind']) =>
      this.#steps.flatMap(({ packet }) => (packet?.kind === kind ? [packet] : []));
    const request = of('registerRequest')[of('registerReply').indexOf(reply)];
    return request?.kind === 'registerRequest' && request.serviceId.startsWith(VPN_NAMES);
  }

  #callRelay(packet: CallStep): void {
    this.conversation.push({ from: 'router', packet });
    if (!this.#relays.call(packet)) this.#undelivered.add(packet.requestId);
  }

  /** The states; usage is answered when it comes. */
  async #answerReport(recorded: CallReply): Promise<void> {
    const number = this.#answers.State.indexOf(recorded);
    if (number < 0) return;
    await this.#until(() => this.#reports('State').length > number, `state ${number}`);
    this.#reply(this.#reports('State')[number], recorded);
  }

  /** As many calls of ours as of the recorded one's, to each address: the answer is for the last of them. */
  async #answerOutward(recorded: CallReply): Promise<void> {
    const { address } = this.#outward.get(recorded.requestId) as CallStep;
    const alike = [...this.#outward.values()].filter((call) => call.address === address);
    const number = alike.findIndex(({ requestId }) => requestId === recorded.requestId);
    await this.#until(() => this.#callsTo(address).length > number, `call ${number} of ${address}`);
    this.#reply(this.#callsTo(address)[number], recorded);
  }

  #callsTo(address: string): CallStep[] {
    return this.sent((packet): packet is CallStep => isOutward(packet) && packet.address === address);
  }

  async #awaitUsage(recorded: CallStep): Promise<void> {
    const { usageReports = 0, stalls } = this.#options;
    const number =
      this.#recorded()
        .filter((packet) => isReport(packet, 'Usage'))
        .indexOf(recorded) + 1;
    if (number > usageReports || this.#ending) return;
    if (stalls) {
      this.#supervisor?.signal('SIGSTOP');
      await sleep(STALL);
      this.#supervisor?.signal('SIGCONT');
    }
    await this.#until(() => this.#reports('Usage').length >= number, `usage ${number}`);
  }

  /** Lets those commands end that the recorded runtime ended before the next packet of the router. */
  async #openCommands(): Promise<void> {
    const next = this.#steps.findIndex(
      ({ from, packet }, index) => index > this.#position && from === 'router' && this.#isPlayed(packet),
    );
    let during: [string, string | null] | undefined;
    let call = -1;
    let last = this.#opened;
    for (const { from, packet } of this.#steps.slice(0, next < 0 ? undefined : next)) {
      if (from !== 'exe-unit' || !isReport(packet, 'State')) continue;
      const [state, pending] = pairOf(packet);
      if (pending === 'Terminated') continue;
      if (pending !== null) {
        during = [state, pending];
        call++;
      } else if (during?.[1] === state) {
        last = call;
        during = undefined;
      }
    }
    if (last === this.#opened) return;
    // What was asked before they end, is asked before they end.
    await this.#synchronize();
    while (this.#opened < last) this.#supervisor?.open(++this.#opened);
  }

  /** Ends ours, the way the recorded one was ended; once. */
  async #end(otherwise: 'SIGKILL' | undefined): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    const recorded = endingSignal(this.#steps);
    const how = this.#options.end ?? recorded ?? otherwise ?? 'itself';
    if (how === 'itself') return;
    if (!this.#stalled) await this.#synchronize();
    const { usageReports = 0 } = this.#options;
    // It goes on where upstream ended.
    if (this.#options.end === 'SIGTERM' && usageReports > 0) {
      await this.#until(() => this.#reports('Usage').length > usageReports, 'one more report of usage');
    }
    this.#supervisor?.signal(how);
    if (this.#stalled) this.#supervisor?.signal('SIGCONT');
  }

  #stall(): void {
    this.#stalled = true;
    this.#supervisor?.signal('SIGSTOP');
  }

  /** Resolves when ours has read everything: it takes packets in their order, and answers a Ping at once. */
  async #synchronize(): Promise<void> {
    const { promise, resolve } = deferred<void>();
    this.#pings.push(resolve);
    this.#send({ kind: 'ping' }, false);
    await withDeadline(promise, DEADLINE, 'a pong');
  }

  /** Not those that come with time alone. */
  #isPlayed(packet: Packet | undefined): boolean {
    if (packet?.kind !== 'callReply') return packet?.kind === 'callRequest';
    return this.#answers.State.includes(packet) || this.#outward.has(packet.requestId);
  }

  // ---------------------------------------------------------------- what is waited for

  /** As many of its kind as the recording had by now. */
  #hasCome(packet: Packet): boolean {
    const alike = (other: Packet): other is Packet => {
      for (const kind of [isOutward, isFrame]) {
        if (kind(packet)) return kind(other) && other.address === packet.address;
      }
      return isReport(packet, 'State') ? isReport(other, 'State') : other.kind === packet.kind;
    };
    if (packet.kind !== 'callReply') {
      return this.sent(alike).length >= this.#recorded().filter(alike).length;
    }
    if (this.#undelivered.has(packet.requestId)) return true;
    const ours = this.sent(isReply).filter(({ requestId }) => requestId === packet.requestId);
    if (packet.replyType === 'full') return ours.some(({ replyType }) => replyType === 'full');
    // What a stream still tells of an activity that is ending is compared, not waited for.
    if (this.#ending) return true;
    const theirs = this.#recorded().filter(isReply);
    const heard = streamMeaning(ours);
    const told = streamMeaning(theirs.filter(({ requestId }) => requestId === packet.requestId));
    return Object.entries(told).every(([key, value]) => {
      const [index, kind = ''] = key.split(' ');
      if (kind === 'finished') return heard[key] !== undefined;
      // Only programs print: what upstream's runtimes say at a deploy is theirs.
      const isProgram = JSON.stringify(told[`${index} started`] ?? null).includes('"run"');
      if (!isProgram || !/^std(out|err)$/.test(kind)) return true;
      return sizeOf(heard[key]) >= sizeOf(value);
    });
  }

  /** What the recorded supervisor had sent, this step's included. */
  #recorded(): Packet[] {
    return this.#steps
      .slice(0, this.#position + 1)
      .flatMap(({ from, packet }) => (from === 'exe-unit' && packet ? [packet] : []));
  }

  #reports(what: 'State' | 'Usage'): CallStep[] {
    return this.sent((packet): packet is CallStep => isReport(packet, what));
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    while (!done()) {
      const gone = this.#gone.then(() => {
        if (!done()) throw new Error(`it exited before ${what}`);
      });
      await withDeadline(Promise.race([this.#changed.promise, gone]), DEADLINE, what);
    }
  }

  // ---------------------------------------------------------------- the connection

  #connected(socket: Socket): void {
    if (this.#socket !== undefined) {
      this.#relays.accept(socket);
      return;
    }
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('close', () => this.#closed.resolve());
    if (this.#options.freely) this.#send(HELLO, false);
    socket.on('data', (bytes) => {
      for (const packet of this.#decoder.push(bytes)) this.#take(packet);
    });
  }

  /** What a relay has sent. */
  #note(packet: Packet): void {
    this.#log('exe-unit', packet);
    if (isOutward(packet)) this.#takeOutward(packet);
    this.#tell();
  }

  #take(packet: Packet): void {
    if (packet.kind === 'pong') this.#pings.shift()?.();
    else this.#log('exe-unit', packet);
    if (packet.kind === 'unregisterRequest') this.#send({ kind: 'unregisterReply', code: 0 }, false);
    if (packet.kind === 'registerRequest') this.#takeName();
    if (isReport(packet, 'Usage')) this.#takeUsage(packet);
    if (isReport(packet, 'State')) this.#takeState(packet);
    if (isOutward(packet)) this.#takeOutward(packet);
    this.#tell();
  }

  #tell(): void {
    const changed = this.#changed;
    this.#changed = deferred();
    changed.resolve();
  }

  /** Names beyond the recorded ones are answered as those were. */
  #takeName(): void {
    const names = this.sent((packet): packet is Packet => packet.kind === 'registerRequest').length;
    const last = this.#registerCodes.at(-1) ?? 0;
    if (names > this.#registerCodes.length || this.#options.freely) {
      this.#send({ kind: 'registerReply', code: last, message: '' }, false);
    }
  }

  #takeState(request: CallStep): void {
    const isRecorded = this.#reports('State').length <= this.#answers.State.length;
    if (!isRecorded || this.#options.freely) this.#reply(request, undefined);
  }

  /** One that the recorded supervisor did not make is answered as the last one that it made to that address. */
  #takeOutward(request: CallStep): void {
    const recorded = [...this.#outward.values()].filter(({ address }) => address === request.address);
    if (this.#callsTo(request.address).length <= recorded.length) return;
    const last = recorded.at(-1)?.requestId;
    const answer = this.#steps.find(
      ({ from, packet }) => from === 'router' && packet?.kind === 'callReply' && packet.requestId === last,
    );
    this.#reply(request, answer?.packet as CallReply | undefined);
  }

  #takeUsage(request: CallStep): void {
    const { Usage: recorded } = this.#answers;
    const answer = recorded[this.#reports('Usage').length - 1] ?? recorded.at(-1);
    if (recorded.length === 0 || answer !== undefined) this.#reply(request, answer);
  }

  #reply(request: CallStep | undefined, recorded: CallReply | undefined): void {
    if (request === undefined) return;
    const { requestId } = request;
    const reply: CallReply = {
      ...{ kind: 'callReply', code: 0, replyType: 'full', data: OK },
      ...recorded,
      requestId,
    };
    if (this.#relays.reply(reply)) this.#log('router', reply);
    else this.#send(reply);
  }

  #send(packet: Packet, logged = true): void {
    if (logged) this.#log('router', packet);
    this.#socket?.write(encodePacket(packet));
  }

  #log(from: Step['from'], packet: Packet): void {
    this.conversation.push({ from, packet });
  }
}
