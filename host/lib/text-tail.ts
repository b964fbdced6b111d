/** The last bytes of a text that a program or a guest prints, for error messages. */
import { printable } from './logger.ts';

export class TextTail {
  readonly #limit: number;
  #bytes: Buffer = Buffer.alloc(0);

  /** Keeps at least the last `limit` bytes, at most twice as many. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  push(chunk: Uint8Array): void {
    const joined = Buffer.concat([this.#bytes, chunk]);
    this.#bytes = joined.length > 2 * this.#limit ? Buffer.from(joined.subarray(-this.#limit)) : joined;
  }

  /** Everything kept, as text. */
  get text(): string {
    return this.#bytes.toString('utf8');
  }

  /** The last `count` lines that are not empty, without control characters, each at most `width` characters. */
  lines(count: number, width: number = 200): string[] {
    return this.text
      .split(/\r\n|\n|\r/)
      .map((line) => printable(stripStyle(line)).trim().slice(0, width))
      .filter((line) => line !== '')
      .slice(-count);
  }
}

/** Without the terminal sequences that firmware prints: cursor, colours, modes. */
function stripStyle(line: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is looked for
  return line.replace(/\u001b\[[0-9;?]*[A-Za-z]|\u001bc/g, '');
}
