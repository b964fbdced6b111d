/** A bus, a cable and siblings for a relay under test: they note what they get, and bring what the test says. */
import {
  type Binding,
  type BindOptions,
  type CallInfo,
  type Flex,
  type FrameBus,
  type FramePusher,
  type LinkState,
  RpcError,
} from '../../host/gsb/types.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import type { FrameBatch, FrameLink } from '../../host/network/nic/frame-link.ts';
import type { AddressKey } from '../../host/network/vpn/address-key.ts';
import { keyOfAddress } from '../../host/network/vpn/address-key.ts';
import type {
  OpenSiblings,
  Siblings,
  SiblingsEvents,
  SiblingsSetup,
  TableChange,
} from '../../host/network/vpn/siblings-face.ts';

export interface Pushed {
  address: string;
  caller: string;
  frame: Uint8Array;
}

export class FakeBus implements FrameBus {
  state: LinkState = 'up';
  identity: Flex = null;
  readonly bindings = new Map<string, Binding>();
  readonly pushed: Pushed[] = [];
  flushes = 0;
  closed = false;
  /** Names that somebody else has. */
  readonly taken = new Set<string>();
  /** Pushes that are taken, from now on. */
  room = Number.POSITIVE_INFINITY;
  readonly #waiting: (() => void)[] = [];

  async bind(address: string, binding: Binding, options?: BindOptions): Promise<void> {
    while (this.taken.has(address)) {
      options?.onTaken?.();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.bindings.set(address, binding);
  }

  /** What was taken is free. */
  free(): void {
    this.taken.clear();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async unbind(address: string): Promise<void> {
    this.bindings.delete(address);
  }

  async call(): Promise<Flex> {
    return this.identity;
  }

  stream(): AsyncIterable<Flex> {
    throw new Error('no streams here');
  }

  push(): boolean {
    throw new Error('frames go by pushers');
  }

  pusher(address: string, caller: string): FramePusher {
    return {
      push: (data, offset, length) => {
        if (this.room <= 0 || this.state !== 'up') return false;
        this.room--;
        this.pushed.push({ address, caller, frame: Uint8Array.from(data.subarray(offset, offset + length)) });
        return true;
      },
    };
  }

  flushFrames(): void {
    this.flushes++;
  }

  onState(): () => void {
    return () => {};
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** A typed call of a peer: what it answers, or the error that the peer reads. */
  async callBound(
    address: string,
    body: Flex,
    caller = 'local',
  ): Promise<Flex | { kind: string; text: string }> {
    const binding = this.bindings.get(address);
    if (binding === undefined || !('unary' in binding)) throw new Error(`${address} is not bound`);
    const call: CallInfo = { caller, address, noReply: false, signal: new AbortController().signal };
    try {
      return await binding.unary(body, call);
    } catch (error) {
      if (error instanceof RpcError) return { kind: error.kind, text: error.message };
      throw error;
    }
  }

  /** Frames of peers, as one read of the socket would bring them. */
  bring(address: string, caller: string, ...frames: Uint8Array[]): void {
    const binding = this.bindings.get(address);
    if (binding === undefined || !('frames' in binding)) throw new Error(`${address} is not bound`);
    const { frame: take, flush } = binding.frames;
    for (const frame of frames) {
      // Not at the start of its memory, which is used again.
      const memory = new Uint8Array(frame.length + 20).fill(0xee);
      memory.set(frame, 10);
      take(memory, 10, frame.length, caller, address);
      memory.fill(0xdd);
    }
    flush?.();
  }

  /** Whom the pushes since the last look were for (the node's id without its zeros), and takes them. */
  get sentTo(): string[] {
    const nodes = this.pushed.splice(0).map(({ address }) => /0x0*([0-9a-f]+)\//.exec(address)?.[1] ?? '?');
    return nodes.sort();
  }
}

export class FakeLink implements FrameLink {
  onBatch: (batch: FrameBatch) => void = () => {};
  onEnd: (error: Error | null) => void = () => {};
  onRoom: () => void = () => {};
  pressed = false;
  paused = false;
  pauses = 0;
  closed = false;
  room = Number.POSITIVE_INFINITY;
  readonly sent: Uint8Array[] = [];
  readonly counters = { framesIn: 0, bytesIn: 0, framesOut: 0, bytesOut: 0, dropped: 0 };

  send(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.room <= 0) {
      this.counters.dropped++;
      return false;
    }
    this.room--;
    this.sent.push(Uint8Array.from(bytes.subarray(offset, offset + length)));
    this.counters.framesOut++;
    this.counters.bytesOut += length;
    return true;
  }

  flush(): void {}

  pause(): void {
    this.paused = true;
    this.pauses++;
  }

  resume(): void {
    this.paused = false;
  }

  close(): void {
    this.closed = true;
  }

  /** What the guest sends, in one batch. */
  bring(...frames: Uint8Array[]): void {
    const offsets = new Uint32Array(frames.length);
    const lengths = Uint32Array.from(frames, ({ length }) => length);
    let end = 3;
    for (const [index, { length }] of frames.entries()) {
      offsets[index] = end;
      end += length;
      this.counters.framesIn++;
      this.counters.bytesIn += length;
    }
    const bytes = new Uint8Array(end + 5).fill(0xaa);
    for (const [index, frame] of frames.entries()) bytes.set(frame, offsets[index]);
    this.onBatch({ bytes, count: frames.length, offsets, lengths });
    bytes.fill(0xbb);
  }
}

export class FakeSiblings implements Siblings {
  role: Siblings['role'] = 'waiting';
  local: Set<string> = new Set();
  readonly dropped = { room: 0, source: 0, gone: 0 };
  readonly setup: SiblingsSetup;
  readonly events: SiblingsEvents;
  readonly sent: { to: AddressKey | 'all'; frame: Uint8Array }[] = [];
  readonly changes: TableChange[] = [];
  room = Number.POSITIVE_INFINITY;
  closed = false;

  constructor(setup: SiblingsSetup, events: SiblingsEvents) {
    this.setup = setup;
    this.events = events;
  }

  become(role: Siblings['role']): void {
    this.role = role;
    this.events.onRole(role);
  }

  setLocal(...addresses: string[]): void {
    this.local = new Set(addresses);
    this.events.onLocal();
  }

  has(key: AddressKey): boolean {
    return [...this.local].some((address) => keyOfAddress(parseIp(address)) === key);
  }

  send(to: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.has(to)) return false;
    if (this.room <= 0) {
      this.dropped.room++;
      return false;
    }
    this.room--;
    this.sent.push({ to, frame: Uint8Array.from(bytes.subarray(offset, offset + length)) });
    return true;
  }

  broadcast(bytes: Uint8Array, offset: number, length: number): void {
    this.sent.push({ to: 'all', frame: Uint8Array.from(bytes.subarray(offset, offset + length)) });
  }

  flush(): void {}

  change(change: TableChange): void {
    this.changes.push(change);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** Opens fakes, and keeps them; `role`: what each becomes at once. */
export function fakeSiblings(role: Siblings['role']): { all: FakeSiblings[]; open: OpenSiblings } {
  const all: FakeSiblings[] = [];
  const open: OpenSiblings = (setup, events) => {
    const siblings = new FakeSiblings(setup, events);
    all.push(siblings);
    siblings.become(role);
    return siblings;
  };
  return { all, open };
}
