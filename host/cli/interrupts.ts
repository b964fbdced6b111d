/** Signals to ya-vm itself: the first goes to the command, the second (or a grace) ends the VM. */
import { signalExit, signalNumber } from './exit.ts';

/** Those that mean "end"; all others keep their default. */
const HANDLED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
export type HandledSignal = (typeof HANDLED)[number];

/** Where signals come from: `process`, or a test's emitter. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
}

/**
 * After a signal that a service manager sends, the command has this long to end, milliseconds (docker stop's time).
 * Not after SIGINT and SIGQUIT: a person sends those, programs like interpreters live on after them, and the person
 * can send another.
 */
export const GRACE = 10_000;
const WITH_GRACE: readonly HandledSignal[] = ['SIGTERM', 'SIGHUP'];

export interface InterruptTarget {
  /** Passes a signal to the command. */
  forward(signal: number): void;
}

/**
 * Catches signals from construction to {@link close}. `abort` fires when the VM is to end at once: on the first signal
 * while no command is attached, later on the second one or after the grace.
 */
export class Interrupts {
  readonly #source: SignalSource;
  readonly #grace: number;
  readonly #abort = new AbortController();
  readonly #listeners = new Map<HandledSignal, () => void>();
  #target: InterruptTarget | null = null;
  #first: HandledSignal | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: SignalSource = process, grace: number = GRACE) {
    this.#source = source;
    this.#grace = grace;
    for (const signal of HANDLED) {
      const listener = () => this.#on(signal);
      this.#listeners.set(signal, listener);
      source.on(signal, listener);
    }
  }

  /** Fires when the VM is to be killed; the reason is an {@link Interrupted}. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now on the first signal goes to the command. */
  attach(target: InterruptTarget): void {
    this.#target = target;
  }

  /** Gives signals back their default: the next one ends ya-vm, and the VM with it. */
  close(): void {
    clearTimeout(this.#timer);
    for (const [signal, listener] of this.#listeners) this.#source.off(signal, listener);
    this.#listeners.clear();
  }

  #on(signal: HandledSignal): void {
    if (this.#target && this.#first === null) {
      this.#first = signal;
      this.#target.forward(signalNumber(signal));
      if (WITH_GRACE.includes(signal)) this.#timer = setTimeout(() => this.#end(signal), this.#grace);
    } else {
      this.#end(signal);
    }
  }

  #end(signal: HandledSignal): void {
    clearTimeout(this.#timer);
    this.#abort.abort(new Interrupted(signal));
  }
}

/** The VM was ended because of a signal to ya-vm. */
export class Interrupted extends Error {
  override name = 'Interrupted';
  readonly signal: HandledSignal;

  constructor(signal: HandledSignal) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }

  get exitCode(): number {
    return signalExit(this.signal);
  }
}
