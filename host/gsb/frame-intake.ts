/** Raw calls for names that take frames: handed over from the bytes that were read, without making anything for them. */
import { BytesCache } from './bytes-cache.ts';
import { type CallRequest, decodePacket } from './packet.ts';
import { RawCall } from './raw-call.ts';
import type { FrameHandler } from './types.ts';

/** What is known of a caller and an address. */
interface Known {
  caller: string;
  address: string;
  /** Null: the address is no such name's. */
  handler: FrameHandler | null;
  /** Of the names, when this was found out. */
  version: number;
}

export interface Names {
  /** Another number when a name came or went. */
  readonly version: number;
  /** Who takes frames for an address; null: nobody, or it takes something else. */
  frames(address: string): FrameHandler | null;
}

export class FrameIntake {
  readonly #names: Names;
  readonly #known = new BytesCache<Known>();
  readonly #call = new RawCall();
  /** Who got something in this read of the socket. */
  readonly #touched: FrameHandler[] = [];

  constructor(names: Names) {
    this.#names = names;
  }

  /**
   * Hands over what `bytes[start…end)` carries, if that is such a call.
   * @param answer Called with the request's id where an answer is wanted.
   * @returns false: it is another packet, or one that is not written in the usual way
   * @throws {YavmError} YAVM_E_GSB_FRAME
   */
  take(bytes: Uint8Array, start: number, end: number, answer: (requestId: string) => void): boolean {
    const call = this.#call;
    if (!call.find(bytes, start, end)) return false;
    const { keyStart, keyEnd } = call;
    let known = this.#known.get(bytes, keyStart, keyEnd);
    if (known === undefined || known.version !== this.#names.version) {
      known = this.#findOut(decodePacket(bytes.subarray(start, end)) as CallRequest);
      this.#known.set(bytes, keyStart, keyEnd, known);
    }
    const { handler, caller, address } = known;
    if (handler === null) return false;
    const { dataStart, dataEnd, idStart, idEnd, noReply } = call;
    this.hand(handler, bytes, dataStart, dataEnd - dataStart, caller, address);
    if (!noReply) answer(Buffer.from(bytes.subarray(idStart, idEnd)).toString('latin1'));
    return true;
  }

  hand(
    handler: FrameHandler,
    data: Uint8Array,
    offset: number,
    length: number,
    caller: string,
    address: string,
  ): void {
    if (!this.#touched.includes(handler)) this.#touched.push(handler);
    handler.frame(data, offset, length, caller, address);
  }

  /** All of one read has been handed over. */
  flush(): void {
    if (this.#touched.length === 0) return;
    for (const handler of this.#touched.splice(0)) handler.flush?.();
  }

  #findOut({ caller, address }: CallRequest): Known {
    return { caller, address, handler: this.#names.frames(address), version: this.#names.version };
  }
}
