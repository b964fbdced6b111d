/**
 * Our names on the bus: registered anew on each connection. Replies carry no id and are matched in order; a name that is
 * taken is tried again, since after a reconnect it may still belong to our own dead connection (exe-unit.md 1.5, 1.10).
 */
import { withDeadline } from '../lib/deadline.ts';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import { closedError, type Link } from './link.ts';
import type { Packet } from './packet.ts';
import type { Binding, BindOptions } from './types.ts';

/** Milliseconds after which a name that was taken is tried again. */
const RETRY_AFTER = 1000;
/** Attempts for a name that was never ours. One that was is tried until its owner gives up. */
const FIRST_ATTEMPTS = 3;
/** Milliseconds in which the bus answers; it may be busy with other peers, but not for ever. */
const REPLY_WAIT = 10_000;
/** The same when the connection is to end anyway. */
const LAST_REPLY_WAIT = 300;

interface Name {
  address: string;
  binding: Binding;
  /** Somebody else may have it; the connection is complete without it. */
  shared: BindOptions | undefined;
  attempts: number;
  registered: boolean;
  /** It was registered once, on this connection or an earlier one. */
  ours: boolean;
  done: Deferred<void>;
}

type Reply = Extract<Packet, { kind: 'registerReply' | 'unregisterReply' }>;

export class Registrations {
  readonly #names = new Map<string, Name>();
  readonly #onChange: () => void;
  #link: Link | undefined;
  #version = 0;
  /** In the order of the requests on this connection. */
  #registering: Name[] = [];
  #unregistering: Deferred<void>[] = [];
  readonly #retries = new Set<NodeJS.Timeout>();
  #watch: NodeJS.Timeout | undefined;

  /** @param onChange Called when {@link complete} may have changed. */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Every name is registered on the connection. */
  get complete(): boolean {
    const done = ({ registered, shared }: Name) => registered || shared !== undefined;
    return this.#link !== undefined && [...this.#names.values()].every(done);
  }

  /** A name that another connection has, when there is one. */
  get taken(): string | undefined {
    const refused = ({ registered, shared, attempts }: Name) => !registered && !shared && attempts > 1;
    return [...this.#names.values()].find(refused)?.address;
  }

  /** Another number when a name came or went. */
  get version(): number {
    return this.#version;
  }

  find(address: string): Binding | undefined {
    return this.#names.get(address)?.binding;
  }

  add(address: string, binding: Binding, shared?: BindOptions): Promise<void> {
    if (this.#names.has(address)) return Promise.reject(takenError(address));
    const name: Name = {
      address,
      binding,
      shared,
      attempts: 0,
      registered: false,
      ours: false,
      done: deferred(),
    };
    this.#names.set(address, name);
    this.#version++;
    this.#register(name);
    return name.done.promise;
  }

  async remove(address: string): Promise<void> {
    const name = this.#names.get(address);
    if (name === undefined) return;
    this.#names.delete(address);
    this.#version++;
    name.done.reject(closedError(new Error('the name was given up')));
    this.#onChange();
    await this.#unregister(name);
  }

  /** Registers every name on a new connection. */
  connected(link: Link): void {
    this.#link = link;
    for (const name of this.#names.values()) this.#register(name);
  }

  /** Forgets what was under way on the connection that was lost. */
  lost(): void {
    this.#link = undefined;
    for (const name of this.#names.values()) {
      name.registered = false;
      name.attempts = 0;
    }
    for (const done of this.#unregistering) done.resolve();
    this.#registering = [];
    this.#unregistering = [];
    for (const timer of this.#retries) clearTimeout(timer);
    this.#retries.clear();
    this.#look();
  }

  /** Unregisters every name; waits for the bus only a moment. Whoever waits for a registration learns why. */
  async end(reason: YavmError): Promise<void> {
    const names = [...this.#names.values()];
    this.#names.clear();
    this.#version++;
    for (const { done } of names) done.reject(reason);
    const answered = Promise.all(names.map((name) => this.#unregister(name)));
    await withDeadline(answered, LAST_REPLY_WAIT, 'the bus').catch(() => {});
  }

  /** @throws {YavmError} YAVM_E_GSB_FRAME for a reply that nothing was asked for */
  receive(reply: Reply): void {
    if (reply.kind === 'unregisterReply') {
      // 404 as well: the name is not registered any more.
      const done = this.#unregistering.shift();
      if (done === undefined) throw unaskedError(reply.kind);
      done.resolve();
    } else {
      const name = this.#registering.shift();
      if (name === undefined) throw unaskedError(reply.kind);
      this.#registered(name, reply.code);
    }
    this.#look();
  }

  #registered(name: Name, code: 0 | 400 | 409): void {
    if (this.#names.get(name.address) !== name) return;
    if (code === 0) {
      name.registered = true;
      name.ours = true;
      name.done.resolve();
    } else if (code === 400 || (!name.shared && !name.ours && name.attempts >= FIRST_ATTEMPTS)) {
      this.#names.delete(name.address);
      this.#version++;
      name.done.reject(code === 409 ? takenError(name.address) : refusedError(name.address));
    } else {
      const timer = setTimeout(() => {
        this.#retries.delete(timer);
        if (this.#names.get(name.address) === name) this.#register(name);
      }, name.shared?.retry ?? RETRY_AFTER);
      this.#retries.add(timer);
      name.shared?.onTaken?.();
      return;
    }
    this.#onChange();
  }

  #register(name: Name): void {
    if (this.#link === undefined) return;
    name.attempts++;
    this.#registering.push(name);
    this.#link.send({ kind: 'registerRequest', serviceId: name.address });
    this.#look();
  }

  async #unregister(name: Name): Promise<void> {
    if (this.#link === undefined) return;
    const done = deferred<void>();
    this.#unregistering.push(done);
    this.#link.send({ kind: 'unregisterRequest', serviceId: name.address });
    this.#look();
    await done.promise;
  }

  /** Watches that replies come: the one that was asked for first has all the time there is. */
  #look(): void {
    clearTimeout(this.#watch);
    this.#watch = undefined;
    const link = this.#link;
    if (link === undefined || this.#registering.length + this.#unregistering.length === 0) return;
    this.#watch = setTimeout(() => link.fail(silentError()), REPLY_WAIT);
  }
}

export function takenError(address: string): YavmError {
  return new YavmError('YAVM_E_GSB_TAKEN', `${address}: another program on the bus has this name`);
}

function refusedError(address: string): YavmError {
  return new YavmError('YAVM_E_GSB_REFUSED', `${address}: the bus does not take this name`);
}

function unaskedError(kind: string): YavmError {
  return new YavmError('YAVM_E_GSB_FRAME', `the bus sent a ${kind} that nothing had asked for`);
}

function silentError(): YavmError {
  return closedError(new Error(`the bus has not answered a registration within ${REPLY_WAIT / 1000} s`));
}
