/**
 * Flow control of an event stream, for a subscriber that asks for it: the bus has none, and ends a stream whose reader is
 * slow. `ya-vm run` is one: its own reader may be a person with a pager. The subscriber names a window, and says from
 * time to time how much it has taken; the spool holds what comes meanwhile, and then the command waits.
 */
import type { Flex, FlexMap } from '../gsb/types.ts';

/** Bytes under way at most, whatever a subscriber asks for. */
const MAX_WINDOW = 16 * 1024 * 1024;

export class Pace {
  readonly #window: number;
  #sent = 0;
  #taken = 0;
  #wake = () => {};

  constructor(window: number) {
    this.#window = Math.min(window, MAX_WINDOW);
  }

  /** `total`: bytes of output that the subscriber has taken since its begin. */
  taken(total: number): void {
    this.#taken = Math.max(this.#taken, Math.min(total, this.#sent));
    this.#wake();
  }

  /** The events, those with output each once there is room for it. */
  async *follow(events: AsyncIterable<Flex>, signal: AbortSignal): AsyncGenerator<Flex, void, undefined> {
    const stop = () => this.#wake();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const event of events) {
        const bytes = outputBytes(event);
        while (bytes > 0 && this.#sent - this.#taken >= this.#window && !signal.aborted) await this.#change();
        this.#sent += bytes;
        yield event;
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #change(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Bytes of output in an event; 0 for one that carries none. */
export function outputBytes(event: Flex): number {
  const { stdout, stderr } = ((event as FlexMap).kind ?? {}) as FlexMap;
  const output = stdout ?? stderr;
  if (typeof output === 'string') return Buffer.byteLength(output);
  return output instanceof Uint8Array ? output.length : 0;
}
