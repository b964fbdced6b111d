/**
 * What goes over network.sock: JSON, a line each way for each request. Both sides check what they get; a line has a bound,
 * so that neither can make the other's memory grow.
 */
import {
  at,
  type Check,
  dictionary,
  integer,
  list,
  matching,
  number,
  object,
  oneOf,
  optional,
  tagged,
  text,
  word,
} from '../../guest/protocol/check.ts';
import type { WireError } from '../lib/wire-error.ts';
import type {
  NetworkStats,
  NicCounters,
  OutboundStats,
  PeerStats,
  PingReply,
  Refusal,
  VpnStats,
} from './types.ts';

/** Longest line, bytes: a request names a file at most; a reply has every peer of every network. */
export const MAX_LINE = { request: 16 * 1024, reply: 32 * 1024 ** 2 } as const;
/** Milliseconds that a ping may wait. */
export const MAX_PING = 60_000;

export type ControlRequest = { id: number } & (
  | { op: 'stats' }
  | { op: 'ping'; address: string; milliseconds: number }
  | { op: 'capture'; file: string | null }
);

/** Results by request. */
export interface ControlResult {
  stats: NetworkStats;
  ping: PingReply;
  capture: Record<never, never>;
}

export type ControlReply = { id: number } & ({ ok: unknown } | { error: WireError });

// ---------------------------------------------------------------- requests

const id = integer(1);
const op = <T extends string>(name: T) => oneOf(name);
/** Node's longest for a path. */
const MAX_PATH = 4096;
const file = matching(/^\/[^\0]*$/, MAX_PATH, 'an absolute path');

export const checkRequest: Check<ControlRequest> = tagged<ControlRequest>('op', {
  stats: object({ id, op: op('stats') }),
  ping: object({ id, op: op('ping'), address: word(64, 1), milliseconds: integer(1, MAX_PING) }),
  capture: object({ id, op: op('capture'), file: orNull(file) }),
});

// ---------------------------------------------------------------- replies

const count = integer(0);
const name = text(512);
const counters = { framesIn: count, bytesIn: count, framesOut: count, bytesOut: count };
const nic = object<NicCounters>(counters);
const dropped = dictionary(name, count, 256);

const peer = object<PeerStats>({
  ...counters,
  address: name,
  nodeId: name,
  kind: oneOf('self', 'node', 'learned', 'local'),
  lastSeen: orNull(number(0, Number.MAX_SAFE_INTEGER)),
});

const vpn = object<VpnStats>({
  nic,
  dropped,
  networks: list(
    object({
      id: name,
      range: name,
      role: oneOf('owner', 'sibling', 'waiting'),
      peers: list(peer, 65_536),
      dropped,
    }),
    64,
  ),
});

const refusal = object<Refusal>({ destination: name, name: optional(name), reason: name, count } as {
  [K in keyof Refusal]-?: Check<Refusal[K]>;
});

const outbound = object<OutboundStats>({
  nic,
  upstream: oneOf('passt', 'qemu'),
  flows: count,
  resolved: count,
  refusals: list(refusal, 65_536),
  dropped,
  restarts: count,
});

/** By request: what its result must be. */
export const RESULTS: { [Op in keyof ControlResult]: Check<ControlResult[Op]> } = {
  stats: object<NetworkStats>({ vpn: orNull(vpn), outbound: orNull(outbound) }),
  ping: object<PingReply>({ milliseconds: number(0, 1e9) }),
  capture: object({}),
};

/** Causes that are looked at. */
const MAX_CAUSES = 8;

function wireError(depth: number): Check<WireError> {
  const cause = depth === 0 ? ignored : optional(wireError(depth - 1));
  return object<WireError>({
    code: shortText,
    message: text(64 * 1024),
    hint: optional(text(64 * 1024)),
    errno: shortText,
    syscall: shortText,
    cause,
  } as { [K in keyof WireError]-?: Check<WireError[K]> });
}

/** Node's own errors have numbers in some of these places; they are left out. */
function shortText(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= 200 ? value : undefined;
}

const checkError = wireError(MAX_CAUSES);

/** A reply's head; its result is checked by who knows what was asked. */
export function checkReply(value: unknown): ControlReply {
  const { id: number_, ok, error } = at('reply', object({ id, ok: anything, error: anything }), value);
  return error === undefined ? { id: number_, ok } : { id: number_, error: at('error', checkError, error) };
}

function orNull<T>(check: Check<T>): Check<T | null> {
  return (value) => (value === null ? null : check(value));
}

function anything(value: unknown): unknown {
  return value;
}

function ignored(): undefined {
  return undefined;
}

// ---------------------------------------------------------------- lines

/** Bytes of a connection as lines. */
export class Lines {
  readonly #longest: number;
  readonly #onLine: (value: unknown) => void;
  #parts: Uint8Array[] = [];
  #size = 0;

  /** `longest`: bytes of a line. `onLine` gets what its JSON says. */
  constructor(longest: number, onLine: (value: unknown) => void) {
    this.#longest = longest;
    this.#onLine = onLine;
  }

  /** @throws {Error} for a line that is too long or no JSON; and what `onLine` throws */
  push(chunk: Uint8Array): void {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, end));
      const line = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#size = 0;
      from = end + 1;
      this.#onLine(JSON.parse(line));
    }
    this.#keep(chunk.subarray(from));
  }

  #keep(part: Uint8Array): void {
    this.#size += part.length;
    if (this.#size > this.#longest) throw new Error(`a line of more than ${this.#longest} bytes`);
    if (part.length > 0) this.#parts.push(part);
  }
}

const NEWLINE = 10;

export function encodeLine(value: ControlRequest | ControlReply): string {
  return `${JSON.stringify(value)}\n`;
}
