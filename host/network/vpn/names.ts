/** A network's names on the bus, for whoever owns them: tried until they are free (exe-unit.md 8.2). */
import type { Binding, Gsb } from '../../gsb/types.ts';
import { withDeadline } from '../../lib/deadline.ts';
import { deferred } from '../../lib/deferred.ts';
import { isYavmError, toError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';

/** Milliseconds between two attempts: when another VM of this host ends, the next one takes over at once. */
const RETRY = 200;
/** Milliseconds for giving the names back; a bus that does not answer sees the connection end. */
const RELEASE_WAIT = 500;

/** Names under a network's; what each does. */
export type NetworkBindings = Readonly<Record<'VpnControl' | 'VpnPacket' | 'raw', Binding>>;

export class NetworkNames {
  readonly #bus: Gsb;
  readonly #networkId: string;
  readonly #bindings: NetworkBindings;
  readonly #logger: Logger;
  readonly #tried = deferred<void>();
  /** Names that are to be ours. */
  #wanted = false;
  #bound = 0;
  #complained = false;

  constructor(bus: Gsb, networkId: string, bindings: NetworkBindings, logger: Logger) {
    this.#bus = bus;
    this.#networkId = networkId;
    this.#bindings = bindings;
    this.#logger = logger;
  }

  /** All of them are ours. */
  get held(): boolean {
    return this.#wanted && this.#bound === this.#names.length;
  }

  /** Resolves when all are ours, or one is known to be somebody else's. */
  get tried(): Promise<void> {
    return this.#tried.promise;
  }

  get #names(): [address: string, binding: Binding][] {
    const addressOf = (name: string) => `/public/vpn/${this.#networkId}/${name}`;
    return Object.entries(this.#bindings).map(([name, binding]) => [addressOf(name), binding]);
  }

  /** Begins to bind; what fails is logged. */
  hold(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#complained = false;
    for (const [address, binding] of this.#names) void this.#bind(address, binding);
  }

  async #bind(address: string, binding: Binding): Promise<void> {
    try {
      await this.#bus.bind(address, binding, { retry: RETRY, onTaken: () => this.#complain() });
      this.#bound++;
      if (!this.held) return;
      this.#tried.resolve();
      if (this.#complained) this.#logger.warn('the network’s names on the bus are free: frames come now');
    } catch (error) {
      // It was given up, or the bus was: who did that says so.
      if (isYavmError(error, 'YAVM_E_GSB_CLOSED')) return;
      this.#tried.resolve();
      this.#logger.error({ err: toError(error), address }, 'a name of the VPN cannot be had');
    }
  }

  #complain(): void {
    this.#tried.resolve();
    if (this.#complained) return;
    this.#complained = true;
    const text = 'another activity has the network’s names on the bus: no frames come until it ends';
    this.#logger.warn(text);
  }

  /** Gives them back. */
  async release(): Promise<void> {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#bound = 0;
    const released = Promise.all(this.#names.map(([address]) => this.#bus.unbind(address)));
    await withDeadline(released, RELEASE_WAIT, 'the bus').catch(() => {});
  }
}
