/** What keeps passt of 2023-03 from giving up connections, against a stand-in with that program's counting of what it waits for. */
import t from 'tap';
import { silentLogger } from '../../host/lib/logger.ts';
import { Filter } from '../../host/network/outbound/filter.ts';
import { Policy } from '../../host/network/outbound/policy.ts';
import { Refusals } from '../../host/network/outbound/refusals.ts';
import { ResolvedNames } from '../../host/network/outbound/resolved.ts';
import { GATEWAY, GUEST, type Read, read, tcp } from '../lib/outbound-frames.ts';

const SERVER = '151.101.1.69';
const PORTS = { guest: 40_000, server: 80 };
/** Where the two count from; the server's passes through zero soon. */
const START = { guest: 1000, server: 0xffff_fff0 };
const STEP = 250;
const MINUTE = 60_000;

interface Fields {
  sequence: number;
  data?: Uint8Array;
  flags?: string;
}

type Send = (fields: Fields) => void;

/** passt of 2023-03, one connection: its tcp.c, as far as it waits. Numbers are signed, as their differences are. */
class OldPasst {
  kept = Buffer.alloc(0);
  reset = false;
  /** Bytes of the guest. */
  taken = 0;
  #due = true;
  #retries = 0;
  #expires: number;
  #window = 0xffff;
  #acknowledged = (START.server + 1) | 0;
  #next = this.#acknowledged;
  #ended = false;
  readonly #send: Send;

  constructor(now: number, send: Send) {
    this.#send = send;
    this.#expires = now + 10_000;
  }

  /** Frames that it reads at once. */
  read(frames: readonly Read[], now: number): void {
    let most = this.#acknowledged;
    let window = this.#window;
    let again = false;
    for (const { flags, acknowledgement, data, window: said, sound } of frames) {
      if (!sound) throw new Error('a wrong checksum');
      this.taken += data.length;
      if (!flags.includes('A')) continue;
      if (this.#ended) this.#believe(acknowledgement | 0, now);
      if (((acknowledgement - most) | 0) >= 0) {
        again =
          data.length === 0 && !flags.includes('F') && (acknowledgement | 0) === most && said === window;
        most = acknowledgement | 0;
        window = said;
      }
      if (flags.includes('F')) this.#ended = true;
    }
    if (!this.#ended) {
      this.#window = window;
      const bytes = (most - this.#acknowledged) | 0;
      // Only what is there can be taken out.
      if (bytes === 0 || this.kept.length > 0) {
        this.kept = this.kept.subarray(bytes);
        this.#believe(most, now);
      }
      if (again) {
        this.#acknowledged = this.#next = most;
        this.#look(now);
      }
    }
    // A frame wakes what has stalled.
    if (frames.length > 0 && this.kept.length > 0) this.#look(now);
  }

  receive(bytes: Buffer, now: number): void {
    this.kept = Buffer.concat([this.kept, bytes]);
    this.#look(now);
  }

  tick(now: number): void {
    if (this.reset || !this.#due || now < this.#expires) return;
    if (this.#retries === 7) {
      this.reset = true;
      this.#send({ sequence: this.#next, flags: 'RA' });
      return;
    }
    this.#retries++;
    this.#next = this.#acknowledged;
    this.#look(now);
    this.#expires = now + 2000;
  }

  #believe(number: number, now: number): void {
    if (((number - this.#acknowledged) | 0) <= 0) return;
    if (number === this.#next) this.#due = false;
    else this.#wait(now);
    this.#retries = 0;
    this.#acknowledged = number;
  }

  #look(now: number): void {
    if (((this.#next - this.#acknowledged) | 0) < 0) this.#next = this.#acknowledged;
    const sent = (this.#next - this.#acknowledged) | 0;
    const data = this.kept.subarray(sent).subarray(0, Math.max(0, this.#window - sent));
    if (data.length === 0 && sent < this.#window) return;
    if (data.length > 0) this.#send({ sequence: this.#next, data });
    this.#next = (this.#next + data.length) | 0;
    this.#wait(now);
  }

  #wait(now: number): void {
    this.#due = true;
    this.#expires = now + 2000;
  }
}

interface SceneOptions {
  mends?: boolean;
  /** Steps that the guest takes to answer. */
  delay?: number;
}

/** A guest with an open connection, a filter and such a passt. In each step passt reads all that there is at once. */
class Scene {
  now = 1_000_000;
  window = 0xffff;
  got = '';
  reset = false;
  readonly passt: OldPasst;
  readonly filter: Filter;
  readonly #delay: number;
  #steps = 0;
  #sent = START.guest + 1;
  #next = (START.server + 1) >>> 0;
  readonly #toPasst: Read[] = [];
  readonly #fromPasst: Buffer[] = [];
  readonly #later: { step: number; sequence: number }[] = [];

  constructor({ mends = true, delay = 0 }: SceneOptions = {}) {
    this.#delay = delay;
    const policy = { unrestricted: true, rules: [] };
    const own = { isOwn: () => false, isNear: () => false };
    const dns = { ipv4: GATEWAY.ipv4, ipv6: null };
    this.filter = new Filter(
      { policy, published: [], ipv6: false, dns, mendsOldPasst: mends },
      {
        policy: new Policy(policy, own, (names) => new ResolvedNames(names)),
        refusals: new Refusals(silentLogger),
        emit: (side, bytes, length) => {
          const frame = Buffer.from(bytes.subarray(0, length));
          if (side === 'upstream') this.#toPasst.push(read(frame));
          else this.#toGuest(frame);
        },
      },
    );
    this.passt = new OldPasst(this.now, (fields) => this.#fromPasst.push(this.#frame(fields)));
    this.say('S', START.guest);
    const answer = this.#frame({ sequence: START.server, flags: 'SA' });
    this.filter.ingress(answer, 0, answer.length, this.now);
    this.#toPasst.length = 0;
    this.say('A');
  }

  /** A segment of the guest; whether it went out. */
  say(flags: string, sequence = this.#sent, data: Uint8Array = Buffer.alloc(0)): boolean {
    const acknowledgement = flags.includes('A') ? this.#next : 0;
    const ports = { from: PORTS.guest, to: PORTS.server };
    const frame = tcp(
      { to: SERVER },
      { ...ports, acknowledgement, flags, sequence, data, window: this.window },
    );
    const passes = this.filter.egress(frame, 0, frame.length, this.now);
    if (passes) this.#toPasst.push(read(frame));
    return passes;
  }

  upload(bytes: number): void {
    const sequence = this.#sent;
    this.#sent += bytes;
    this.say('A', sequence, Buffer.alloc(bytes));
  }

  pass(milliseconds: number, each: () => void = () => {}): void {
    for (let left = milliseconds; left > 0; left -= STEP) {
      this.now += STEP;
      this.#steps++;
      if (this.filter.busy) this.filter.tick(this.now);
      each();
      while (this.#later[0] && this.#later[0].step <= this.#steps)
        this.say('A', this.#later.shift()?.sequence);
      this.passt.read(this.#toPasst.splice(0), this.now);
      this.passt.tick(this.now);
      for (const frame of this.#fromPasst.splice(0)) {
        if (this.filter.ingress(frame, 0, frame.length, this.now)) this.#toGuest(frame);
      }
    }
  }

  #frame(fields: Fields): Buffer {
    const address = { from: SERVER, to: GUEST.ipv4 };
    const ports = { from: PORTS.server, to: PORTS.guest, flags: 'A', acknowledgement: START.guest + 1 };
    const sequence = fields.sequence >>> 0;
    return tcp(address, { ...ports, ...fields, sequence }, { from: GATEWAY.mac, to: GUEST.mac });
  }

  /** As a guest's TCP: what it waits for is taken, everything is acknowledged. */
  #toGuest(frame: Buffer): void {
    const { flags, sequence, data, sound } = read(frame);
    if (!sound) throw new Error('a wrong checksum');
    if (flags.includes('R')) this.reset = true;
    const ahead = (this.#next - sequence) | 0;
    if (data.length === 0) return;
    if (ahead >= 0 && ahead < data.length) {
      this.got += data.subarray(ahead).toString('latin1');
      this.#next = (sequence + data.length) >>> 0;
    }
    this.#later.push({ step: this.#steps + 1 + this.#delay, sequence: this.#sent });
  }
}

t.test('without the filter, passt gives up', async (t) => {
  const scene = new Scene({ mends: false });
  scene.pass(23_500);
  t.equal(scene.reset, false);
  scene.pass(1000);
  t.equal(scene.reset, true);
});

t.test('a server that says nothing for long', async (t) => {
  const scene = new Scene();
  scene.pass(10 * MINUTE);
  t.equal(scene.reset, false);
  t.equal(scene.filter.busy, true);
  scene.passt.receive(Buffer.from('answer'), scene.now);
  scene.pass(1000);
  t.equal(scene.got, 'answer', 'at once');
  scene.passt.receive(Buffer.from(', more'), scene.now);
  scene.pass(2000);
  t.equal(scene.filter.busy, false, 'that was it');
  scene.pass(10 * MINUTE);
  t.equal(scene.reset, false);
});

t.test('a server that answers at once is not looked after', async (t) => {
  const scene = new Scene();
  scene.passt.receive(Buffer.from('answer'), scene.now);
  scene.pass(1000);
  t.equal(scene.filter.busy, false);
  t.equal(scene.got, 'answer');
});

t.test('an upload', async (t) => {
  const scene = new Scene();
  scene.pass(2 * MINUTE, () => {
    for (let count = 0; count < 3; count++) scene.upload(1001);
  });
  t.equal(scene.reset, false);
  t.equal(scene.passt.taken, (2 * MINUTE * 3 * 1001) / STEP, 'all of it is there');
});

t.test('bytes at any moment, and silence after them', async (t) => {
  for (const delay of [0, 1, 3]) {
    for (let at = 3000; at <= 7000; at += STEP) {
      const scene = new Scene({ delay });
      scene.pass(at);
      scene.passt.receive(Buffer.from('answer'), scene.now);
      scene.pass(2 * MINUTE);
      t.equal(scene.reset, false, `${at} ms, guest late by ${delay}`);
      t.equal(scene.got, 'answer');
    }
  }
});

t.test('a guest that takes nothing for long', async (t) => {
  for (const mends of [false, true]) {
    const scene = new Scene({ mends });
    scene.passt.receive(Buffer.from('first'), scene.now);
    scene.pass(2000);
    scene.window = 0;
    scene.say('A');
    scene.pass(STEP);
    scene.passt.receive(Buffer.from(', and more'), scene.now);
    scene.pass(MINUTE);
    t.equal(scene.reset, !mends);
    if (!mends) continue;
    t.equal(scene.got, 'first');
    scene.window = 0xffff;
    scene.say('A');
    scene.pass(MINUTE);
    t.equal(scene.got, 'first, and more');
    t.equal(scene.reset, false);
    for (let piece = 0; piece < 2; piece++) {
      scene.passt.receive(Buffer.from('.'), scene.now);
      scene.pass(1000);
    }
    t.equal(scene.filter.busy, false);
  }
});

t.test('a guest that has ended its side, and a server that thinks', async (t) => {
  for (const before of [1000, 4500]) {
    const scene = new Scene();
    scene.pass(before);
    scene.say('FA');
    scene.pass(5 * MINUTE);
    t.equal(scene.reset, false);
    scene.passt.receive(Buffer.from('answer'), scene.now);
    scene.pass(1000);
    t.equal(scene.got, 'answer');
  }
  for (let at = 4000; at <= 6000; at += STEP) {
    const scene = new Scene();
    scene.say('FA');
    scene.pass(at);
    scene.passt.receive(Buffer.from('answer'), scene.now);
    scene.pass(1000);
    scene.passt.receive(Buffer.from(', more'), scene.now);
    scene.pass(1000);
    t.equal(scene.got, 'answer, more', `after ${at} ms, each byte once`);
  }
});

t.test('the first segment, once more', async (t) => {
  const filterOf = (mends: boolean) => new Scene({ mends });
  t.equal(filterOf(true).say('S', START.guest), false, 'passt would reset the connection');
  t.equal(filterOf(false).say('S', START.guest), true);
});
