/** Whether the bytes of a body still move. */
import type { IncomingMessage } from 'node:http';
import { formatSize } from '../lib/size.ts';
import { HttpError } from './http-error.ts';

/** Bytes that must arrive within the time; less is as good as nothing. */
const MIN_BYTES = 16 * 1024;

/** Ends a body of which too little arrives. Time that the sink takes does not count. */
export class Watchdog {
  readonly #timer: NodeJS.Timeout;
  #paused = false;
  /** The time ran out during a pause. */
  #expired = false;
  #arrived = 0;

  constructor(body: IncomingMessage, shown: string, milliseconds: number) {
    this.#timer = setTimeout(() => {
      if (this.#paused) {
        this.#expired = true;
        return;
      }
      const text = `${shown}: the download stalls: less than ${formatSize(MIN_BYTES)} in ${milliseconds / 1000} s`;
      body.destroy(new HttpError(text, { retry: true }));
    }, milliseconds);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(bytes: number): void {
    this.#paused = false;
    this.#arrived += bytes;
    if (this.#arrived < MIN_BYTES && !this.#expired) return;
    this.#arrived = 0;
    this.#expired = false;
    this.#timer.refresh();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
