/**
 * The recorded traffic of the real supervisor, played through the embedded router: the supervisor's side by one peer a
 * connection, everybody else's by another. Each frame must come out as it was recorded, byte for byte, and what the real
 * router said itself must be said here too. Only its Pings are left out: they are a matter of time.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { decodePacket, encodePacket, type Packet } from '../../host/gsb/packet.ts';
import { GsbRouter } from '../../host/node/router.ts';
import { RawPeer, socketFolder } from '../lib/gsb-peer.ts';
import { noRecordings, type Recorded, readRecording, recordingNames } from '../lib/gsb-recordings.ts';
import { ManualClock } from '../lib/manual-clock.ts';

const LENGTH_BYTES = 4;

/** What passed on one of a scenario's connections. */
interface Step extends Recorded {
  connection: string;
  packet: Packet | undefined;
}

/** Scenarios and their steps; one with several connections in the order of time. */
function scenarios(): Map<string, Step[]> {
  const found = new Map<string, Step[]>();
  for (const connection of recordingNames()) {
    const name = connection.replace(/\.connection-\d+$/, '');
    const steps = readRecording(connection).map((recorded) => ({
      ...recorded,
      connection,
      packet: recorded.frame && decodePacket(recorded.frame.subarray(LENGTH_BYTES)),
    }));
    found.set(
      name,
      [...(found.get(name) ?? []), ...steps].sort((a, b) => a.t - b.t),
    );
  }
  return found;
}

class Replay {
  readonly #t: Test;
  readonly #steps: readonly Step[];
  readonly #supervisors = new Map<string, RawPeer>();
  /** Calls that the router itself refused. */
  readonly #refused: ReadonlySet<string>;
  /** Calls to the supervisor that wait for an answer. */
  readonly #open = new Set<string>();
  /** Names of everybody else. */
  readonly #served = new Set<string>();
  #compared = 0;

  constructor(t: Test, steps: readonly Step[]) {
    this.#t = t;
    this.#steps = steps;
    this.#refused = new Set(steps.flatMap(({ packet }) => (isRefusal(packet) ? [packet.requestId] : [])));
  }

  async run(): Promise<void> {
    const router = new GsbRouter({ clock: new ManualClock() });
    this.#t.teardown(() => router.close());
    const address = await router.listen({ kind: 'unix', path: join(socketFolder(this.#t), 'gsb.sock') });
    const world = await RawPeer.connect(this.#t, address);
    for (const connection of new Set(this.#steps.map((step) => step.connection))) {
      this.#supervisors.set(connection, await RawPeer.silent(this.#t, address));
    }
    for (const step of this.#steps) await this.#play(step, world);
    this.#t.ok(this.#compared >= 10, `${this.#compared} frames came out as they were recorded`);
  }

  async #play(step: Step, world: RawPeer): Promise<void> {
    const supervisor = this.#supervisors.get(step.connection) as RawPeer;
    const { packet, dir, frame } = step;
    if (!packet || !frame) {
      if (dir === 'exe-unit→router') supervisor.socket.end();
      else await supervisor.closed;
    } else if (dir === 'exe-unit→router') {
      await this.#serve(packet, world);
      supervisor.socket.write(frame);
      if (this.#passesTo(packet)) await this.#comesOut(world, packet.kind, frame);
    } else if (
      packet.kind === 'callRequest' ||
      (packet.kind === 'callReply' && !this.#refused.has(packet.requestId))
    ) {
      if (packet.kind === 'callRequest' && !packet.noReply) this.#open.add(packet.requestId);
      world.socket.write(frame);
      await this.#comesOut(supervisor, packet.kind, frame);
    } else if (packet.kind === 'hello') {
      await supervisor.next('hello');
    } else if (packet.kind !== 'ping') {
      await this.#comesOut(supervisor, packet.kind, frame);
    }
  }

  /** Services come up at any time: a name is registered when a call first found somebody there. */
  async #serve(packet: Packet, world: RawPeer): Promise<void> {
    if (packet.kind !== 'callRequest' || this.#refused.has(packet.requestId)) return;
    if (this.#served.has(packet.address)) return;
    this.#served.add(packet.address);
    await world.register(packet.address);
  }

  /** Whether what the supervisor sends goes on to somebody. */
  #passesTo(packet: Packet): boolean {
    if (packet.kind === 'callRequest') return !this.#refused.has(packet.requestId);
    if (packet.kind !== 'callReply' || !this.#open.has(packet.requestId)) return false;
    if (packet.replyType === 'full') this.#open.delete(packet.requestId);
    return true;
  }

  async #comesOut(at: RawPeer, kind: Packet['kind'], frame: Uint8Array): Promise<void> {
    const came = encodePacket(await at.next(kind));
    if (!Buffer.from(frame).equals(came))
      this.#t.same(Buffer.from(came).toString('hex'), Buffer.from(frame).toString('hex'));
    this.#compared++;
  }
}

function isRefusal(packet: Packet | undefined): packet is Extract<Packet, { kind: 'callReply' }> {
  return (
    packet?.kind === 'callReply' &&
    packet.code === 400 &&
    Buffer.from(packet.data).toString() === 'endpoint address not found'
  );
}

t.test('the recordings', { skip: noRecordings }, (t) => {
  for (const [name, steps] of scenarios()) t.test(name, (t) => new Replay(t, steps).run());
  t.end();
});
