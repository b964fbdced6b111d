/** A sibling's side: one connection to the owner, through which all that is local goes. */
import { connect, type Socket } from 'node:net';
import { parseIp } from '../frame/address.ts';
import { type AddressKey, keyOfAddress } from './address-key.ts';
import type { SiblingDrops, TableChange, Timers } from './siblings-face.ts';
import { SiblingLink } from './siblings-link.ts';
import { KIND, type Message, VERSION, wireError } from './siblings-wire.ts';

/** Milliseconds from connecting to the owner's answer. */
const WELCOME_WAIT = 2000;
/** What one read takes. Bytes. */
const READ = 256 * 1024;

export interface MemberEvents {
  onFrame(bytes: Uint8Array, offset: number, length: number): void;
  onChange(change: TableChange): void;
  /** The owner said who is here; the first time means that this VM takes part. */
  onState(): void;
  /** The owner, or the way to it, is gone. Called once, unless `close` was. */
  onEnd(error: Error | null): void;
}

export class SiblingsMember {
  /** Addresses of the other VMs here. */
  readonly local = new Set<string>();
  /** Own ones that are not another's already. */
  granted: readonly string[] = [];
  readonly #keys = new Set<AddressKey>();
  readonly #events: MemberEvents;
  readonly #link: SiblingLink;
  readonly #forgetWelcome: () => void;
  #refusal: Error | null = null;

  constructor(
    path: string,
    addresses: readonly string[],
    events: MemberEvents,
    timers: Timers,
    drops: SiblingDrops,
  ) {
    this.#events = events;
    const buffer = Buffer.allocUnsafeSlow(READ);
    const socket: Socket = connect({
      path,
      onread: {
        buffer,
        callback: (count) => {
          this.#link.receive(buffer, count);
          return true;
        },
      },
    });
    socket.unref();
    this.#link = new SiblingLink(
      socket,
      {
        onFrame: (kind, _, bytes, offset, length) => {
          if (kind !== KIND.frame) throw wireError('a frame that is not for this VM');
          this.#events.onFrame(bytes, offset, length);
        },
        onMessage: (message) => this.#hear(message),
      },
      drops,
      (error) => {
        this.#forgetWelcome();
        this.#events.onEnd(error ?? this.#refusal);
      },
    );
    this.#forgetWelcome = timers.after(WELCOME_WAIT, () =>
      this.#link.fail(wireError('the one that owns the network says nothing')),
    );
    this.#link.message({ type: 'hello', version: VERSION, addresses });
  }

  has(key: AddressKey): boolean {
    return this.#keys.has(key);
  }

  send(key: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.#keys.has(key)) return false;
    const kind = typeof key === 'number' ? KIND.toIpv4 : KIND.toIpv6;
    return this.#link.frame(kind, key, bytes, offset, length);
  }

  broadcast(bytes: Uint8Array, offset: number, length: number): void {
    this.#link.frame(KIND.toAll, 0, bytes, offset, length);
  }

  flush(): void {
    this.#link.flush();
  }

  close(): void {
    this.#forgetWelcome();
    this.#link.close();
  }

  #hear(message: Message): void {
    if (message.type === 'hello') throw wireError('the one that owns the network says hello');
    if (message.type === 'change') this.#events.onChange(message.change);
    else if (message.type === 'refused') this.#refusal = wireError(message.reason);
    else this.#update(message.here, message.granted);
  }

  #update(here: readonly string[], granted: readonly string[]): void {
    this.#forgetWelcome();
    this.granted = granted;
    const own = new Set(granted);
    this.local.clear();
    this.#keys.clear();
    for (const address of here) {
      if (own.has(address)) continue;
      this.local.add(address);
      this.#keys.add(keyOfAddress(parseIp(address)));
    }
    this.#events.onState();
  }
}
