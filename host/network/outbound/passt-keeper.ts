/** Watches a VM's passt: one that ends is started anew once, and then there is no way out any more. */
import type { HostNative } from '../../../native/host-face.ts';
import { sleep } from '../../lib/deadline.ts';
import { deferred } from '../../lib/deferred.ts';
import { toError, YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Passt, PasstEnd } from './passt.ts';

export interface KeeperParts {
  native: HostNative;
  logger: Logger;
  /** Starts another one. @throws {YavmError} */
  start(): Promise<Passt>;
  /** Gives the filter the new cable, which is taken over: it resets the connections of before. */
  replace(fd: number): Promise<void>;
}

/** Times that passt is started anew in a VM's life. */
const RESTARTS = 1;
/** Milliseconds between a passt's end in order and the next one. */
const ORDERLY_WAIT = 500;

export class PasstKeeper {
  readonly #parts: KeeperParts;
  readonly #failed = deferred<YavmError>();
  #passt: Passt;
  #restarts = 0;
  #closed = false;
  /** The restart under way. */
  #restarting: Promise<void> = Promise.resolve();

  /** `passt` runs; its cable is the filter's. */
  constructor(passt: Passt, parts: KeeperParts) {
    this.#parts = parts;
    this.#passt = passt;
    this.#watch(passt);
  }

  /** Resolves when there is no passt any more. */
  get failed(): Promise<YavmError> {
    return this.#failed.promise;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** Ends it, and waits for that. Before the cable is closed, else it looks like an end of its own. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#restarting;
    this.#passt.kill();
    await this.#passt.exited;
  }

  #watch(passt: Passt): void {
    passt.exited.then((end) => {
      if (!this.#closed) this.#restarting = this.#ended(end);
    });
  }

  async #ended({ error, orderly }: PasstEnd): Promise<void> {
    const { logger, start, replace } = this.#parts;
    // When the VM ends, its cable may close before we are told.
    if (orderly) await sleep(ORDERLY_WAIT);
    if (this.#closed) return;
    if (this.#restarts >= RESTARTS) return this.#fail(error);
    this.#restarts++;
    logger.warn(
      { err: error },
      "the VM's way to the internet has ended; it is started anew, and connections of before are reset",
    );
    try {
      const passt = await start();
      this.#passt = passt;
      if (this.#closed) {
        this.#parts.native.close(passt.fd);
        return;
      }
      // Watched before it is used: it may end at once.
      this.#watch(passt);
      await replace(passt.fd);
    } catch (cause) {
      this.#fail(toError(cause));
    }
  }

  #fail(cause: Error): void {
    if (this.#closed) return;
    const error = new YavmError(
      'YAVM_E_NET_PASST',
      'the VM has no way to the internet any more: passt ended, and again after it was started anew',
      { cause },
    );
    this.#parts.logger.error({ err: error, reason: cause.message }, error.message);
    this.#failed.resolve(error);
  }
}
