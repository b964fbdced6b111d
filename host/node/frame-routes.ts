/**
 * The short way of calls that want no answer, most of which are frames: where they go is looked up by the bytes of caller
 * and address, and only these are written anew, where they change.
 */
import { BytesCache } from '../gsb/bytes-cache.ts';
import { copyBytes } from '../gsb/copy-bytes.ts';
import { MAX_BATCH } from '../gsb/frame-batch.ts';
import { type CallRequest, decodePacket } from '../gsb/packet.ts';
import { LENGTH_BYTES, type PacketCutter } from '../gsb/packet-cutter.ts';
import { callSize, RawCall, TAG, textField, writeCallHead } from '../gsb/raw-call.ts';
import type { Peer } from './peer.ts';

/** A call, who gets it, and whether it may get lost on the way. */
export interface Arrival {
  to: Peer | undefined;
  packet: CallRequest;
  lossy: boolean;
}

/** Bytes of a packet that goes this way at most: a batch holds some. */
const MAX_SIZE = MAX_BATCH / 2;

interface Route {
  to: Peer | undefined;
  /** Caller and address as the owner gets them; null: as they came. */
  fields: Uint8Array | null;
  lossy: boolean;
  /** Of the names, when it was found. */
  version: number;
}

export interface Arrivals {
  /** Another number when any name in the network came or went. */
  readonly version: number;
  arrival(request: CallRequest): Arrival;
}

export class FrameRoutes {
  readonly #arrivals: Arrivals;
  readonly #known = new BytesCache<Route>();
  readonly #call = new RawCall();
  /** Who got something since the last flush. */
  readonly #touched: Peer[] = [];

  constructor(arrivals: Arrivals) {
    this.#arrivals = arrivals;
  }

  /**
   * Sends the packet on, if it is such a call, and its destination takes it, or it may get lost.
   * @returns false: it must go the usual way @throws {YavmError} YAVM_E_GSB_FRAME
   */
  forward({ bytes, start, end }: PacketCutter): boolean {
    const call = this.#call;
    if (end - start > MAX_SIZE || !call.find(bytes, start, end) || !call.noReply) return false;
    const { keyStart, keyEnd } = call;
    let route = this.#known.get(bytes, keyStart, keyEnd);
    if (route === undefined || route.version !== this.#arrivals.version) {
      route = this.#find(decodePacket(bytes.subarray(start, end)) as CallRequest);
      this.#known.set(bytes, keyStart, keyEnd, route);
    }
    const { to, fields, lossy } = route;
    if (to === undefined) return true;
    const wasTaken =
      fields === null
        ? send(to, lossy, bytes, start - LENGTH_BYTES, end, null)
        : send(to, lossy, bytes, keyEnd, end, fields);
    if (wasTaken && !this.#touched.includes(to)) this.#touched.push(to);
    return wasTaken || lossy;
  }

  /** What was sent on is written. */
  flush(): void {
    if (this.#touched.length === 0) return;
    for (const peer of this.#touched.splice(0)) peer.frames.flush();
  }

  #find(request: CallRequest): Route {
    const { to, packet, lossy } = this.#arrivals.arrival(request);
    const isSame = packet.address === request.address && packet.caller === request.caller;
    const fields = [textField(TAG.caller, packet.caller), textField(TAG.address, packet.address)];
    return { to, fields: isSame ? null : Buffer.concat(fields), lossy, version: this.#arrivals.version };
  }
}

/** `bytes[start…end)`, behind a head and `fields` where these are new. False: it was not taken. */
function send(
  to: Peer,
  lossy: boolean,
  bytes: Uint8Array,
  start: number,
  end: number,
  fields: Uint8Array | null,
): boolean {
  if (!to.takesFrames(lossy)) return false;
  const length = end - start + (fields?.length ?? 0);
  const size = fields === null ? length : callSize(length);
  let at = to.frames.reserve(size);
  if (at < 0) return false;
  const { buffer } = to.frames;
  if (fields !== null) {
    at = writeCallHead(length, buffer, at);
    copyBytes(fields, 0, fields.length, buffer, at);
    at += fields.length;
  }
  copyBytes(bytes, start, end, buffer, at);
  to.frames.commit(size);
  return true;
}
