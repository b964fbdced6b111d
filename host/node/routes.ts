/** Who answers for which address (exe-unit.md 1.5), and who wants to hear of which topic (1.9). Pure tables. */

/** Longest name that is taken, and longest address that is looked up, bytes or so: a look-up tries each of its slashes. */
export const MAX_NAME = 4096;

/** Names and their owners. Each name has one. */
export class Routes<Owner> {
  readonly #owners = new Map<string, Owner>();

  get names(): Iterable<string> {
    return this.#owners.keys();
  }

  /** @returns false when somebody has the name already, the same owner or another */
  register(name: string, owner: Owner): boolean {
    if (this.#owners.has(name)) return false;
    this.#owners.set(name, owner);
    return true;
  }

  /** @returns false when the name is not this owner's */
  unregister(name: string, owner: Owner): boolean {
    return this.#owners.get(name) === owner && this.#owners.delete(name);
  }

  /** The owner of the longest name that `address` is, or lies below: for `/a/b/c` that is `/a/b/c`, `/a/b` or `/a`. */
  find(address: string): Owner | undefined {
    if (address.length > MAX_NAME) return undefined;
    for (let end = address.length; end > 0; end = address.lastIndexOf('/', end - 1)) {
      const owner = this.#owners.get(address.slice(0, end));
      if (owner !== undefined) return owner;
    }
    return undefined;
  }
}

/** Topics and their subscribers. */
export class Topics<Subscriber> {
  readonly #subscribers = new Map<string, Set<Subscriber>>();

  /** Once is enough; twice changes nothing. */
  subscribe(topic: string, subscriber: Subscriber): void {
    const subscribers = this.#subscribers.get(topic);
    if (subscribers) subscribers.add(subscriber);
    else this.#subscribers.set(topic, new Set([subscriber]));
  }

  /** @returns false when it had not subscribed */
  unsubscribe(topic: string, subscriber: Subscriber): boolean {
    const subscribers = this.#subscribers.get(topic);
    if (!subscribers?.delete(subscriber)) return false;
    if (subscribers.size === 0) this.#subscribers.delete(topic);
    return true;
  }

  of(topic: string): Iterable<Subscriber> {
    return this.#subscribers.get(topic) ?? [];
  }
}
