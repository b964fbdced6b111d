/** Both ends of a cable for tests: links, or a link and the bare descriptor of its other end. */
import { makeCable } from '../../host/network/nic/cable.ts';
import { DatagramLink } from '../../host/network/nic/datagram-link.ts';
import type { FrameLink } from '../../host/network/nic/frame-link.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import { StreamLink } from '../../host/network/nic/stream-link.ts';
import type { LinkKind } from '../../host/network/types.ts';
import { loadNative } from '../../native/load.ts';
import type { Owner } from './vm.ts';

export const native = loadNative();

/** Frames that came, copied; and how the link ended. */
export class Arrivals {
  readonly frames: Uint8Array[] = [];
  /** Frames by batch. */
  readonly batches: number[] = [];
  rooms = 0;
  end: Error | null | undefined;
  #changed: (() => void)[] = [];

  constructor(link: FrameLink) {
    link.onBatch = ({ bytes, count, offsets, lengths }) => {
      for (let index = 0; index < count; index++) {
        const offset = offsets[index] as number;
        this.frames.push(bytes.slice(offset, offset + (lengths[index] as number)));
      }
      this.batches.push(count);
      this.#wake();
    };
    link.onEnd = (error) => {
      if (this.end !== undefined) throw new Error('a link ended twice');
      this.end = error;
      this.#wake();
    };
    link.onRoom = () => {
      this.rooms++;
      this.#wake();
    };
  }

  /** Waits until something holds that only what happens at the link can change. */
  async until(holds: (arrivals: this) => boolean, milliseconds = 60_000): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!holds(this)) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${this.frames.length} frames came, the end is ${this.end}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#changed.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  count(frames: number): Promise<void> {
    return this.until(() => this.frames.length >= frames);
  }

  #wake(): void {
    for (const resolve of this.#changed.splice(0)) resolve();
  }
}

export interface LinkPair {
  near: FrameLink;
  far: FrameLink;
  arrivals: { near: Arrivals; far: Arrivals };
}

/** Two links joined by a cable; closed when the test ends. */
export function linkPair(t: Owner, kind: LinkKind): LinkPair {
  const { near: end, backend } = makeCable(native, kind);
  const [near, far] = [openFrameLink(native, end), openFrameLink(native, backend)];
  for (const link of [near, far]) t.teardown(() => link.close());
  return { near, far, arrivals: { near: new Arrivals(near), far: new Arrivals(far) } };
}

/** A stream link, and a descriptor of its other end, which is the caller's to close. */
export function bareStream(t: Owner, kind: 'unix' | 'tcp' = 'unix') {
  const { near, backend } = makeCable(native, kind);
  const link = new StreamLink(native, near.fd);
  t.teardown(() => link.close());
  return { link, arrivals: new Arrivals(link), far: backend.fd };
}

export function bareDatagrams(t: Owner, kind: 'udp' | 'unix-datagram') {
  const { near, backend } = makeCable(native, kind);
  const link = new DatagramLink(native, near.fd);
  t.teardown(() => link.close());
  return { link, arrivals: new Arrivals(link), far: backend.fd };
}

/** A frame of bytes that depend on its number. */
export function frame(length: number, number = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = index * 13 + number * 7 + length;
  return bytes;
}

/** Frames as a stream has them. */
export function framed(...frames: Uint8Array[]): Uint8Array {
  const pieces = frames.map((one) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(one.length);
    return [length, one];
  });
  return Buffer.concat(pieces.flat());
}

/** A turn of the event loop, with what is ready in it. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
