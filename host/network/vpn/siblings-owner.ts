/** The owner's side: it listens, says which addresses are here, and switches what the siblings send. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Logger } from '../../lib/logger.ts';
import { parseIp } from '../frame/address.ts';
import { type AddressKey, keyOfAddress } from './address-key.ts';
import type { SiblingDrops, TableChange, Timers } from './siblings-face.ts';
import { SiblingLink } from './siblings-link.ts';
import { hasOwnSource } from './siblings-source.ts';
import {
  type FrameKind,
  KIND,
  MAX_SIBLINGS,
  type Message,
  messagesOfChange,
  VERSION,
  wireError,
} from './siblings-wire.ts';

/** Milliseconds for a sibling's first word. */
const HELLO_WAIT = 5000;

export interface OwnerEvents {
  onFrame(bytes: Uint8Array, offset: number, length: number): void;
  /** {@link SiblingsOwner.local} has changed. */
  onLocal(): void;
  /** A frame is queued for somebody. */
  onQueued(): void;
}

interface Sibling {
  link: SiblingLink;
  /** As it said; null before it said hello. */
  wanted: readonly string[] | null;
  granted: Map<AddressKey, string>;
  keys: Set<AddressKey>;
  forgetHello: () => void;
}

export class SiblingsOwner {
  /** The siblings' addresses. */
  readonly local = new Set<string>();
  readonly #own: ReadonlyMap<AddressKey, string>;
  readonly #events: OwnerEvents;
  readonly #logger: Logger;
  readonly #timers: Timers;
  readonly #drops: SiblingDrops;
  readonly #server: Server;
  readonly #siblings = new Set<Sibling>();
  readonly #holders = new Map<AddressKey, Sibling>();

  constructor(
    addresses: readonly string[],
    events: OwnerEvents,
    logger: Logger,
    timers: Timers,
    drops: SiblingDrops,
  ) {
    this.#own = new Map(addresses.map((address) => [keyOfAddress(parseIp(address)), address]));
    this.#events = events;
    this.#logger = logger;
    this.#timers = timers;
    this.#drops = drops;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_SIBLINGS;
    this.#server.on('drop', () =>
      logger.warn(
        { siblings: MAX_SIBLINGS },
        'too many VMs of this host in one network: one more was refused',
      ),
    );
    // What keeps the process alive is its VM.
    this.#server.unref();
  }

  /** Who holds the lock may replace the socket. `failed` is called when it cannot be listened at: nobody else comes then. */
  listen(path: string, failed: (error: Error) => void): void {
    rmSync(path, { force: true });
    this.#server.on('error', failed);
    this.#server.listen(path, () => {
      try {
        // Nobody else enters the folder, so it does not matter that this comes after bind().
        chmodSync(path, 0o600);
      } catch (error) {
        failed(error as Error);
      }
    });
  }

  has(key: AddressKey): boolean {
    return this.#holders.has(key);
  }

  send(key: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean {
    const holder = this.#holders.get(key);
    return holder !== undefined && this.#deliver(holder, bytes, offset, length);
  }

  broadcast(bytes: Uint8Array, offset: number, length: number): void {
    this.#toAllBut(null, bytes, offset, length);
  }

  flush(): void {
    for (const { link } of this.#siblings) link.flush();
  }

  change(change: TableChange): void {
    const messages = messagesOfChange(change);
    for (const { link, wanted } of this.#siblings) {
      if (wanted !== null) for (const message of messages) link.message(message);
    }
  }

  /** Lets nobody in any more, and removes the socket. */
  stopListening(): void {
    this.#server.close();
  }

  /** Ends all connections. */
  close(): void {
    for (const sibling of this.#siblings) {
      sibling.forgetHello();
      sibling.link.close();
    }
    this.#siblings.clear();
    this.#holders.clear();
  }

  #accept(socket: Socket): void {
    const sibling: Sibling = {
      link: new SiblingLink(
        socket,
        {
          onFrame: (kind, to, bytes, offset, length) =>
            this.#switch(sibling, kind, to, bytes, offset, length),
          onMessage: (message) => this.#hear(sibling, message),
        },
        this.#drops,
        (error) => this.#leave(sibling, error),
      ),
      wanted: null,
      granted: new Map(),
      keys: new Set(),
      forgetHello: this.#timers.after(HELLO_WAIT, () => sibling.link.fail(wireError('it says nothing'))),
    };
    socket.on('data', (bytes) => sibling.link.receive(bytes, bytes.length));
    socket.unref();
    this.#siblings.add(sibling);
  }

  #hear(sibling: Sibling, message: Message): void {
    if (message.type !== 'hello') throw wireError(`a sibling does not say '${message.type}'`);
    if (sibling.wanted !== null) throw wireError('a second hello');
    sibling.forgetHello();
    if (message.version !== VERSION) {
      this.#logger.warn(
        { theirs: message.version, ours: VERSION },
        'a VM of another version of ya-vm is in the same network: they cannot share it',
      );
      sibling.link.message({
        type: 'refused',
        reason: `the owner has version ${VERSION}, this VM ${message.version}`,
      });
      this.#forget(sibling);
      sibling.link.close();
      return;
    }
    sibling.wanted = message.addresses;
    this.#assign();
  }

  #leave(sibling: Sibling, error: Error | null): void {
    if (!this.#siblings.has(sibling)) return;
    if (error !== null) this.#logger.warn({ err: error }, 'ended the connection of a VM of this host');
    this.#forget(sibling);
    if (sibling.wanted !== null) this.#assign();
  }

  #forget(sibling: Sibling): void {
    sibling.forgetHello();
    this.#siblings.delete(sibling);
    for (const key of sibling.keys) this.#holders.delete(key);
  }

  /** Gives every address to the first who wants it, and tells all what there is now. */
  #assign(): void {
    for (const sibling of this.#siblings) {
      for (const address of sibling.wanted ?? []) {
        const key = keyOfAddress(parseIp(address));
        if (this.#own.has(key) || this.#holders.has(key)) continue;
        this.#holders.set(key, sibling);
        sibling.keys.add(key);
        sibling.granted.set(key, address);
      }
    }
    this.local.clear();
    for (const { granted } of this.#siblings) for (const address of granted.values()) this.local.add(address);
    const here = [...this.#own.values(), ...this.local];
    for (const { link, wanted, granted } of this.#siblings) {
      if (wanted !== null) link.message({ type: 'state', here, granted: [...granted.values()] });
    }
    this.#events.onLocal();
  }

  #switch(
    from: Sibling,
    kind: FrameKind,
    to: AddressKey | null,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    if (from.wanted === null || kind === KIND.frame) throw wireError('a frame that it may not send');
    if (!hasOwnSource(from.keys, bytes, offset, length)) {
      this.#drops.source++;
    } else if (kind === KIND.toAll) {
      this.#toAllBut(from, bytes, offset, length);
      this.#events.onFrame(bytes, offset, length);
    } else if (to !== null && this.#own.has(to)) {
      this.#events.onFrame(bytes, offset, length);
    } else {
      const holder = to === null ? undefined : this.#holders.get(to);
      if (holder === undefined || holder === from) this.#drops.gone++;
      else this.#deliver(holder, bytes, offset, length);
    }
  }

  #toAllBut(from: Sibling | null, bytes: Uint8Array, offset: number, length: number): void {
    for (const sibling of this.#siblings) {
      if (sibling !== from && sibling.keys.size > 0) this.#deliver(sibling, bytes, offset, length);
    }
  }

  #deliver({ link }: Sibling, bytes: Uint8Array, offset: number, length: number): boolean {
    this.#events.onQueued();
    return link.frame(KIND.frame, 0, bytes, offset, length);
  }
}
