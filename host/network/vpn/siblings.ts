/**
 * VMs of one requestor, in one network, on one host, whose names on the bus only one can have: the owner. Who holds the lock
 * of siblings-lock.ts is the owner; the others are connected to it, and one of them follows when it goes.
 */
import type { Native } from '../../../native/face.ts';
import { loadNative } from '../../../native/load.ts';
import { hasErrno, toError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { AddressKey } from './address-key.ts';
import type {
  OpenSiblings,
  SiblingDrops,
  SiblingRole,
  Siblings,
  SiblingsEvents,
  SiblingsSetup,
  TableChange,
  Timers,
} from './siblings-face.ts';
import { type NetworkLock, type NetworkPlace, placeOf, sweep, takeNetwork } from './siblings-lock.ts';
import { SiblingsMember } from './siblings-member.ts';
import { SiblingsOwner } from './siblings-owner.ts';
import { MAX_ADDRESSES } from './siblings-wire.ts';

export interface SiblingsParts {
  native: Native;
  timers: Timers;
}

/** Milliseconds between two attempts to own the network or to reach its owner. */
export const RETRY = 100;
/** Attempts without success after which the log says so. */
const PATIENCE = 50;
/** Complaints of one kind after the first are for who looks closely. */
const MAX_SAID = 64;

const NOBODY: ReadonlySet<string> = new Set();

export const openSiblings: OpenSiblings = (setup, events, logger) =>
  openSiblingsWith(setup, events, logger, { native: loadNative(), timers: machineTimers });

/** {@link openSiblings} with the effects passed in. */
export function openSiblingsWith(
  setup: SiblingsSetup,
  events: SiblingsEvents,
  logger: Logger,
  parts: SiblingsParts,
): Siblings {
  return new Participant(setup, events, logger.child({ network: setup.networkId }), parts);
}

/** Its timers keep no process alive: the VM does. */
const machineTimers: Timers = {
  after(delay, run) {
    const timer = setTimeout(run, delay).unref();
    return () => clearTimeout(timer);
  },
};

class Participant implements Siblings {
  role: SiblingRole = 'waiting';
  readonly dropped: SiblingDrops = { room: 0, source: 0, gone: 0 };
  readonly #addresses: readonly string[];
  readonly #setup: SiblingsSetup;
  readonly #events: SiblingsEvents;
  readonly #logger: Logger;
  readonly #parts: SiblingsParts;
  readonly #said = new Set<string>();
  #decided = false;
  #closed = false;
  #swept = false;
  #attempts = 0;
  #lock: NetworkLock | null = null;
  #owner: SiblingsOwner | null = null;
  #member: SiblingsMember | null = null;
  #flushing: NodeJS.Immediate | null = null;
  #forgetRetry = () => {};

  constructor(setup: SiblingsSetup, events: SiblingsEvents, logger: Logger, parts: SiblingsParts) {
    this.#setup = setup;
    this.#addresses = setup.addresses.slice(0, MAX_ADDRESSES);
    this.#events = events;
    this.#logger = logger;
    this.#parts = parts;
    if (setup.addresses.length > MAX_ADDRESSES) {
      logger.warn(
        { most: MAX_ADDRESSES },
        'VMs of this host do not reach all addresses of this one directly',
      );
    }
    // Not now: who asked has to know us before it is told.
    queueMicrotask(() => this.#attempt());
  }

  get local(): ReadonlySet<string> {
    return this.#owner?.local ?? this.#member?.local ?? NOBODY;
  }

  /** What frames can be given to; null while this VM takes no part. */
  get #switch(): SiblingsOwner | SiblingsMember | null {
    return this.#owner ?? (this.role === 'sibling' ? this.#member : null);
  }

  has(key: AddressKey): boolean {
    return this.#switch?.has(key) ?? false;
  }

  send(key: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean {
    const sent = this.#switch?.send(key, bytes, offset, length) ?? false;
    if (sent) this.#flushSoon();
    return sent;
  }

  broadcast(bytes: Uint8Array, offset: number, length: number): void {
    this.#switch?.broadcast(bytes, offset, length);
    this.#flushSoon();
  }

  flush(): void {
    if (this.#flushing !== null) clearImmediate(this.#flushing);
    this.#flushing = null;
    (this.#owner ?? this.#member)?.flush();
  }

  change(change: TableChange): void {
    this.#owner?.change(change);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#forgetRetry();
    this.#member?.close();
    this.#disown();
    this.#member = null;
  }

  /** Owns the network if nobody does; else joins who does. */
  #attempt(): void {
    if (this.#closed) return;
    this.#forgetRetry();
    this.#attempts++;
    if (this.#attempts === PATIENCE) {
      this.#logger.warn(
        'the VM of this host that owns the network does not let this one take part; still trying',
      );
    }
    try {
      const place = placeOf(this.#setup);
      this.#sweep();
      const lock = takeNetwork(place, this.#parts.native);
      if (lock === null) this.#join(place);
      else this.#own(lock, place);
    } catch (error) {
      this.#complain(toError(error), 'cannot find other VMs of this host in the network');
      this.#become('waiting');
      this.#retry();
    }
  }

  #own(lock: NetworkLock, place: NetworkPlace): void {
    this.#lock = lock;
    const { onFrame, onLocal } = this.#eventsWhileOpen();
    const owner = new SiblingsOwner(
      this.#addresses,
      { onFrame, onLocal, onQueued: () => this.#flushSoon() },
      this.#logger,
      this.#parts.timers,
      this.dropped,
    );
    this.#owner = owner;
    const failed = (error: Error) => {
      this.#complain(error, 'other VMs of this host cannot reach this one directly');
    };
    try {
      owner.listen(place.socket, failed);
    } catch (error) {
      failed(toError(error));
    }
    this.#become('owner');
  }

  #join(place: NetworkPlace): void {
    const { onFrame, onChange, onLocal } = this.#eventsWhileOpen();
    let welcome = false;
    const member = new SiblingsMember(
      place.socket,
      this.#addresses,
      {
        onFrame,
        onChange,
        onState: () => {
          if (this.#closed) return;
          welcome = true;
          this.#attempts = 0;
          this.#tellTaken(member.granted);
          this.#become(member.granted.length > 0 ? 'sibling' : 'waiting');
          onLocal();
        },
        onEnd: (error) => {
          if (this.#closed) return;
          this.#member = null;
          // Nobody there is what a change of owners looks like.
          const usual = hasErrno(error, 'ENOENT') || hasErrno(error, 'ECONNREFUSED');
          if (error !== null && !usual)
            this.#complain(error, 'cannot take part in the network of another VM');
          this.#afterOwner(place, welcome);
          if (welcome) onLocal();
        },
      },
      this.#parts.timers,
      this.dropped,
    );
    this.#member = member;
  }

  /** The owner has ended: one of its siblings gets the lock at once, the others come again when it listens. */
  #afterOwner(place: NetworkPlace, welcome: boolean): void {
    let lock: NetworkLock | null = null;
    try {
      if (welcome) lock = takeNetwork(place, this.#parts.native);
    } catch (error) {
      this.#complain(toError(error), 'cannot take the network over');
    }
    if (lock !== null) {
      this.#own(lock, place);
      return;
    }
    this.#become('waiting');
    this.#retry();
  }

  #disown(): void {
    // In this order: closing the server removes whatever has the socket's name, and the siblings ask for the lock at once.
    this.#owner?.stopListening();
    try {
      this.#lock?.release();
    } catch (error) {
      this.#complain(toError(error), 'cannot remove the lock of the network');
    }
    this.#lock = null;
    this.#owner?.close();
    this.#owner = null;
  }

  #retry(): void {
    this.#forgetRetry = this.#parts.timers.after(RETRY, () => this.#attempt());
  }

  #become(role: SiblingRole): void {
    if (this.#closed || (this.#decided && this.role === role)) return;
    this.#decided = true;
    this.role = role;
    this.#logger.debug({ role }, 'part in the network, among the VMs of this host');
    this.#events.onRole(role);
  }

  #tellTaken(granted: readonly string[]): void {
    const taken = this.#addresses.filter((address) => !granted.includes(address));
    const text = taken.join(' ');
    if (text === '' || this.#said.has(text) || this.#said.size >= MAX_SAID) return;
    this.#said.add(text);
    this.#logger.warn(
      { addresses: taken },
      'another VM of this host has the same address in this network: frames to it go there, until it ends',
    );
  }

  /** Calls of what is under way when this is closed go nowhere. */
  #eventsWhileOpen(): Pick<SiblingsEvents, 'onFrame' | 'onChange' | 'onLocal'> {
    return {
      onFrame: (bytes, offset, length) => {
        if (!this.#closed) this.#events.onFrame(bytes, offset, length);
      },
      onChange: (change) => {
        if (!this.#closed) this.#events.onChange(change);
      },
      onLocal: () => {
        if (!this.#closed) this.#events.onLocal();
      },
    };
  }

  #flushSoon(): void {
    this.#flushing ??= setImmediate(() => this.flush());
  }

  #sweep(): void {
    if (this.#swept) return;
    this.#swept = true;
    try {
      sweep(this.#setup.folder, this.#parts.native);
    } catch (error) {
      this.#logger.debug({ err: toError(error) }, 'cannot remove what owners of networks have left');
    }
  }

  #complain(error: Error, what: string): void {
    const text = `${what}: ${error.message}`;
    const known = this.#said.has(text) || this.#said.size >= MAX_SAID;
    this.#said.add(text);
    this.#logger[known ? 'debug' : 'warn']({ err: error }, what);
  }
}
