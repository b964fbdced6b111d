/** Messages ↔ bytes: CBOR, then the validators. Used by both sides; `#cbor` is cbor-x, and in `/init` the addon. */
import { decodeCbor, encodeCbor } from '#cbor';
import { asMap, at, ValidationError } from './check.ts';
import type { GuestErrorCode, Notification, Operation, Reply, Request } from './messages.ts';
import { notifications, requestId, requests, wireError } from './validate.ts';

/** A payload that is no request this guest can carry out. */
export class RequestError extends Error {
  override name = 'RequestError';
  readonly code: Extract<GuestErrorCode, 'bad-request' | 'unknown-request'>;
  /** The request's id, when at least that could be read: it is answered then. */
  readonly id?: number;

  constructor(code: RequestError['code'], message: string, id?: number) {
    super(message);
    this.code = code;
    if (id !== undefined) this.id = id;
  }
}

/** Encodes any message as the payload of a control frame. */
export function encodeMessage(message: Request | Reply | Notification): Uint8Array {
  return encodeCbor(message);
}

/** Decodes a map, nothing more. @throws {CborError | ValidationError} when it is none. */
export function decodeMap(payload: Uint8Array): Record<string, unknown> {
  return asMap(decodeCbor(payload));
}

/** The guest's side: a request, checked field by field. @throws {RequestError} with the code to answer with. */
export function decodeRequest(payload: Uint8Array): Request {
  let id: number | undefined;
  try {
    const map = decodeMap(payload);
    id = at('id', requestId, map.id);
    const { op } = map;
    if (typeof op !== 'string') throw new ValidationError('not text', 'op');
    if (!Object.keys(requests).includes(op)) {
      throw new RequestError('unknown-request', `unknown request '${op.slice(0, 64)}'`, id);
    }
    return { ...requests[op as Operation](map), id };
  } catch (error) {
    if (error instanceof RequestError) throw error;
    throw new RequestError('bad-request', error instanceof Error ? error.message : String(error), id);
  }
}

/** An event that this host does not know: a newer guest may send some. */
export interface UnknownEvent {
  unknown: string;
}

/**
 * The host's side: a reply (whose `ok` is checked by `replies` once its request is known) or a notification.
 * @throws {CborError | ValidationError} when it is neither.
 */
export function decodeGuestMessage(payload: Uint8Array): Reply | Notification | UnknownEvent {
  const map = decodeMap(payload);
  if (map.event === undefined) {
    const id = at('id', requestId, map.id);
    if (map.error !== undefined) return { id, error: at('error', wireError, map.error) };
    if (map.ok === undefined) throw new ValidationError("has none of 'event', 'ok' and 'error'");
    return { id, ok: map.ok };
  }
  const { event } = map;
  if (typeof event !== 'string') throw new ValidationError('not text', 'event');
  if (!Object.keys(notifications).includes(event)) return { unknown: event.slice(0, 64) };
  return notifications[event as Notification['event']](map);
}
