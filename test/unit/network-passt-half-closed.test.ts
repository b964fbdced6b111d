/** The mending of half-closed connections, against a stand-in that has the faults which were measured. */
import t from 'tap';
import { silentLogger } from '../../host/lib/logger.ts';
import { Filter } from '../../host/network/outbound/filter.ts';
import { windowScale } from '../../host/network/outbound/half-closed.ts';
import { Packet } from '../../host/network/outbound/packet.ts';
import { Policy } from '../../host/network/outbound/policy.ts';
import { Refusals } from '../../host/network/outbound/refusals.ts';
import { ResolvedNames } from '../../host/network/outbound/resolved.ts';
import { ethernet, GATEWAY, GUEST, ip, read, tcp } from '../lib/outbound-frames.ts';

const SERVER = '151.101.1.69';
const PORTS = { guest: 40_000, server: 80 };
/** Where the two count from; the server's passes through zero soon. */
const START = { guest: 1000, server: 0xffff_fff0 };
const PIECE = 1000;

/** passt of 2023-03, one connection: what it does once the guest has ended. */
class OldPasst {
  /** All that it has kept of what the server sent. */
  kept = Buffer.alloc(0);
  serverEnded = false;
  forgotten = false;
  #acknowledged = 0;
  #next = 0;
  #fin = false;
  readonly #send: (frame: Buffer) => void;

  constructor(send: (frame: Buffer) => void) {
    this.#send = send;
  }

  frame(frame: Uint8Array): void {
    const { flags, acknowledgement, sequence } = read(frame);
    if (this.forgotten) return;
    if (flags.includes('F') && !this.#fin) {
      this.#fin = true;
      this.#acknowledged = this.#next = acknowledgement;
      this.#out({ acknowledgement: sequence + 1 });
      return;
    }
    if (((acknowledgement - this.#acknowledged) | 0) > 0) this.#acknowledged = acknowledgement;
    if (this.serverEnded && this.#acknowledged === this.#next) {
      this.forgotten = true;
      return;
    }
    if (((this.#next - this.#acknowledged) | 0) < 0) this.#next = this.#acknowledged;
    this.flush();
  }

  /** What the server sends. */
  receive(bytes: Buffer): void {
    this.kept = Buffer.concat([this.kept, bytes]);
    this.flush();
  }

  /** All that it has not sent, as it counts. */
  flush(): void {
    for (;;) {
      const data = this.kept.subarray((this.#next - this.#acknowledged) | 0).subarray(0, PIECE);
      if (data.length === 0) return;
      const sequence = this.#next;
      this.#next = (this.#next + data.length) >>> 0;
      this.#out({ sequence, data });
    }
  }

  #out(fields: { sequence?: number; acknowledgement?: number; data?: Uint8Array }): void {
    const address = { from: SERVER, to: GUEST.ipv4 };
    const ports = { from: PORTS.server, to: PORTS.guest, flags: 'A' };
    const numbers = { sequence: this.#next, acknowledgement: START.guest + 2 };
    const outer = { from: GATEWAY.mac, to: GUEST.mac };
    this.#send(tcp(address, { ...ports, ...numbers, ...fields }, outer));
  }
}

/** A guest that has ended its side, a filter, and such a passt; frames travel when `settle` says so. */
class Scene {
  now = 1_000_000;
  readonly got: Buffer[] = [];
  ended = false;
  reset = false;
  readonly passt: OldPasst;
  readonly #filter: Filter;
  #next = (START.server + 1) >>> 0;
  readonly #toPasst: Buffer[] = [];
  readonly #fromPasst: Buffer[] = [];

  constructor() {
    const own = { isOwn: () => false, isNear: () => false };
    const policy = { unrestricted: true, rules: [] };
    this.passt = new OldPasst((frame) => this.#fromPasst.push(frame));
    this.#filter = new Filter(
      { policy, published: [], ipv6: false, dns: { ipv4: GATEWAY.ipv4, ipv6: null }, mendsOldPasst: true },
      {
        policy: new Policy(policy, own, (names) => new ResolvedNames(names)),
        refusals: new Refusals(silentLogger),
        emit: (side, bytes, length) => {
          const frame = Buffer.from(bytes.subarray(0, length));
          if (side === 'upstream') this.#toPasst.push(frame);
          else this.#toGuest(frame);
        },
      },
    );
    this.#guest({ flags: 'S', sequence: START.guest });
    const address = { from: SERVER, to: GUEST.ipv4 };
    const numbers = { sequence: START.server, acknowledgement: START.guest + 1, flags: 'SA' };
    const answer = tcp(
      address,
      { from: PORTS.server, to: PORTS.guest, ...numbers },
      { from: GATEWAY.mac, to: GUEST.mac },
    );
    this.#filter.ingress(answer, 0, answer.length, this.now);
    this.#toPasst.length = 0;
    this.#guest({ flags: 'FA', sequence: START.guest + 1 });
    this.settle();
  }

  get text(): string {
    return Buffer.concat(this.got).toString('latin1');
  }

  /** Lets frames travel until there are none. */
  settle(): void {
    for (let rounds = 0; this.#toPasst.length + this.#fromPasst.length > 0; rounds++) {
      if (rounds > 10_000) throw new Error('it never ends');
      const out = this.#toPasst.shift();
      if (out) this.passt.frame(out);
      const back = this.#fromPasst.shift();
      if (back && this.#filter.ingress(back, 0, back.length, this.now)) this.#toGuest(back);
    }
  }

  pass(milliseconds: number): void {
    for (let left = milliseconds; left > 0; left -= 250) {
      this.now += 250;
      this.#filter.tick(this.now);
      this.settle();
    }
  }

  #guest(fields: { flags: string; sequence: number }): void {
    const acknowledgement = fields.flags.includes('A') ? this.#next : 0;
    const frame = tcp({ to: SERVER }, { from: PORTS.guest, to: PORTS.server, acknowledgement, ...fields });
    if (this.#filter.egress(frame, 0, frame.length, this.now)) this.#toPasst.push(frame);
  }

  /** As a guest's TCP: what it waits for is taken, everything is acknowledged. */
  #toGuest(frame: Buffer): void {
    const { flags, sequence, data, sound } = read(frame);
    if (!sound) throw new Error('a wrong checksum');
    if (flags.includes('R')) {
      this.reset = true;
      return;
    }
    const ahead = (this.#next - sequence) | 0;
    if (data.length > 0 && ahead >= 0 && ahead < data.length) {
      const fresh = data.subarray(ahead);
      this.got.push(Buffer.from(fresh));
      this.#next = (this.#next + fresh.length) >>> 0;
    }
    if (flags.includes('F') && sequence === this.#next) {
      this.ended = true;
      this.#next = (this.#next + 1) >>> 0;
    }
    if (data.length > 0 || flags.includes('F')) this.#guest({ flags: 'A', sequence: START.guest + 2 });
  }
}

t.test('an answer, and the end with it', async (t) => {
  const scene = new Scene();
  scene.passt.receive(Buffer.from('the answer'));
  scene.passt.serverEnded = true;
  scene.settle();
  t.equal(scene.text, 'the answer');
  t.equal(scene.ended, false, 'passt has not said so');
  scene.pass(5000);
  t.equal(scene.ended, true);
  t.equal(scene.text, 'the answer');
  t.equal(scene.passt.forgotten, true);
});

t.test('an answer in parts, with time between them', async (t) => {
  const scene = new Scene();
  let whole = '';
  for (let part = 0; part < 12; part++) {
    const text = `part ${part} `.repeat(1 + 97 * part);
    whole += text;
    scene.passt.receive(Buffer.from(text));
    scene.settle();
    scene.pass(part % 3 === 0 ? 0 : 700 * part);
    t.equal(scene.text === whole, true, `${whole.length} bytes, each once`);
    t.equal(scene.ended, false, 'the server is there');
  }
  scene.passt.serverEnded = true;
  scene.pass(10_000);
  t.equal(scene.ended, true);
  t.equal(scene.text === whole, true);
});

t.test('more than one window: the connection is reset', async (t) => {
  const scene = new Scene();
  scene.passt.receive(Buffer.alloc((1 << 20) + PIECE, 'x'));
  scene.settle();
  scene.pass(2000);
  t.equal(scene.reset, true);
  t.equal(scene.ended, false, 'it does not look like all');
});

t.test("the scale of a guest's windows", async (t) => {
  const scaleOf = (...options: number[]) => {
    const words = Buffer.from(options);
    const segment = Buffer.concat([tcp({ to: SERVER }, { to: 80 }).subarray(34), words]);
    segment[12] = ((20 + words.length) / 4) << 4;
    const frame = ethernet(ip(segment, { to: SERVER, protocol: 6 }));
    const packet = new Packet();
    packet.read(frame, 0, frame.length);
    return windowScale(packet);
  };
  t.equal(scaleOf(), 0);
  t.equal(scaleOf(2, 4, 5, 180, 1, 3, 3, 7), 7);
  t.equal(scaleOf(3, 3, 200, 0), 14, 'no more than TCP has');
  t.equal(scaleOf(1, 1, 1, 3), 0, 'cut off');
  t.equal(scaleOf(2, 0, 0, 0), 0, 'a length that would stand still');
});
