/** What the parts of the GSB client, and those that use it, say to each other. Facts: the spec's exe-unit.md, sections 1 and 2. */
import { YavmError } from '../lib/errors.ts';

/**
 * A value as FlexBuffers carry it. Numbers without a fraction are integers (unsigned from 0 on), others floats; a
 * {@link FlexFloat} or Float64Array is always floats, a {@link FlexInt} always signed, a {@link FlexUInts} a vector of
 * unsigned bytes, a Uint8Array a blob. Integers beyond 2^53 are bigints. Entries that are undefined are left out: an
 * absent optional field.
 */
export type Flex =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Float64Array
  | FlexFloat
  | FlexInt
  | FlexUInts
  | readonly Flex[]
  | FlexMap;

export interface FlexMap {
  readonly [key: string]: Flex | undefined;
}

/** A float, also when it has no fraction. */
export class FlexFloat {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** A signed integer, also from 0 on, where byte identity with a Rust peer's signed field is wanted; only ever written. */
export class FlexInt {
  readonly value: number | bigint;
  constructor(value: number | bigint) {
    this.value = value;
  }
}

/** Bytes that a Rust peer takes as a `Vec<u8>` without serde_bytes: a vector of unsigned integers, not a blob. */
export class FlexUInts {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** Where a bus is. */
export type GsbAddress = { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number };

export interface CallOptions {
  /** For the whole call, milliseconds. The bus promises no answer at all (1.6), so there is no default. */
  deadline: number;
  signal?: AbortSignal;
  /** Default `local`. */
  caller?: string;
}

/** A call that came in. */
export interface CallInfo {
  /** `local`, or a node id; not authenticated by the network. */
  caller: string;
  /** Full address, message id included. */
  address: string;
  noReply: boolean;
  /** Fires when the connection is lost or closed: nobody waits for the answer any more. */
  signal: AbortSignal;
  /** Resolves when the socket has taken what was sent before, or is gone: for who makes large answers. */
  room?(): Promise<void>;
}

/**
 * Answers one call: what it returns is sent as `{"Ok": value}`; an {@link RpcError} or {@link AnswerError} as
 * `{"Err": …}`; other errors as 500.
 */
export type UnaryHandler = (body: Flex, call: CallInfo) => Promise<Flex> | Flex;

/** Answers with items, each sent as `{"Ok": item}` once the socket took the one before; an error ends it with 500. */
export type StreamHandler = (body: Flex, call: CallInfo) => AsyncIterable<Flex>;

/** Bytes as they are: no FlexBuffers, no compression. Answered with what it returns, or nothing. */
export type RawHandler = (data: Uint8Array, call: CallInfo) => Uint8Array | undefined;

/**
 * Takes frames: raw calls by the ten thousand a second, most of them without an answer (one that wants one gets an empty
 * one). No object is made for a call: `data` is where the bytes lie, until it returns; `caller` and `address` are the same
 * strings as long as they do not change. Must not throw.
 */
export interface FrameHandler {
  frame(data: Uint8Array, offset: number, length: number, caller: string, address: string): void;
  /** All that one read of the socket brought has been handed over. */
  flush?(): void;
}

export type Binding =
  | { unary: UnaryHandler }
  | { stream: StreamHandler }
  | { raw: RawHandler }
  | { frames: FrameHandler };

/** Raw calls without answers to one address; what does not change from call to call is encoded once. */
export interface FramePusher {
  /**
   * Copies `length` bytes at `offset`; they go out with the connection's next `flushFrames`. False: dropped, because there is no
   * connection, or the socket is congested.
   */
  push(data: Uint8Array, offset: number, length: number): boolean;
}

/** Variants of upstream's RpcMessageError (2.5). */
export type RpcErrorKind =
  | 'service'
  | 'activity'
  | 'badRequest'
  | 'usageLimitExceeded'
  | 'notFound'
  | 'forbidden'
  | 'timeout';

/** An error that a caller gets as a value: `{"Err": {"badRequest": text}}`, or `{"Err": "timeout"}`. */
export class RpcError extends Error {
  override name = 'RpcError';
  readonly kind: RpcErrorKind;
  constructor(kind: RpcErrorKind, text: string = kind) {
    super(text);
    this.kind = kind;
  }
}

/** Another `Err` of a peer's, as it came: its service has a kind of errors of its own. */
export class RemoteError extends YavmError {
  override name = 'RemoteError';
  readonly error: Flex;
  constructor(message: string, error: Flex) {
    super('YAVM_E_GSB_REMOTE', message);
    this.error = error;
  }
}

/** What a handler throws to answer with such an error: `{"Err": error}`. */
export class AnswerError extends Error {
  override name = 'AnswerError';
  readonly error: Flex;
  constructor(error: Flex) {
    super('an error for the caller');
    this.error = error;
  }
}

/** For a name that somebody else may have for a while, as siblings do when one ends and the next takes over. */
export interface BindOptions {
  /** Milliseconds after which a name that is taken is tried again, for ever: nothing else waits for such a name. */
  retry: number;
  /** Called each time that it is. */
  onTaken?(): void;
}

/** `up`: connected, every binding registered. `down`: lost, trying again. `closed`: for good. */
export type LinkState = 'up' | 'down' | 'closed';

/** A connection to the bus that survives the bus's restart; implemented by connection.ts. */
export interface Gsb {
  readonly state: LinkState;
  /** Registers an address; kept over reconnects. Resolves when the bus took it. @throws {YavmError} YAVM_E_GSB_TAKEN (409), YAVM_E_GSB_CLOSED */
  bind(address: string, binding: Binding, options?: BindOptions): Promise<void>;
  unbind(address: string): Promise<void>;
  /**
   * A typed call; resolves with what the peer's `Ok` holds.
   * @throws {RpcError} the peer's `Err`, when it is one of those; {@link YavmError} YAVM_E_GSB_TIMEOUT, _CLOSED (the
   * connection was or got lost), _NO_ENDPOINT (400), _SERVICE (500), _BODY (undecodable); {@link RemoteError} _REMOTE
   * (another `Err`)
   */
  call(address: string, body: Flex, options: CallOptions): Promise<Flex>;
  /** A streaming call; its items. Errors as `call`. It is made when the first item is asked for; leaving forgets the rest. */
  stream(address: string, body: Flex, options: CallOptions): AsyncIterable<Flex>;
  /** A raw call without answer. Dropped while the connection is down. False: the socket is congested, it was dropped. */
  push(address: string, data: Uint8Array, caller: string): boolean;
  /** Called at every change; returns how to stop. `error` says why it went down or was closed. */
  onState(listener: (state: LinkState, error?: YavmError) => void): () => void;
  /** Orderly end: open calls and streams of peers get 500, names are unregistered, then the socket closes. */
  close(): Promise<void>;
}

/** A connection that carries frames; {@link GsbConnection} is one. */
export interface FrameBus extends Gsb {
  /** Works over reconnects; needs no end. */
  pusher(address: string, caller: string): FramePusher;
  /** Writes what pushers have collected, in one piece. Comes by itself at the end of the event loop's turn. */
  flushFrames(): void;
}
