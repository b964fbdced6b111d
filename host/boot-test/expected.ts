/** Texts that a stream must have, each anywhere in it: looked for as the bytes pass, so that the stream need not be kept. */

export class ExpectedTexts {
  readonly #waiting: Map<string, Buffer>;
  /** The end of what passed: a text may lie across two pieces. */
  #carry = Buffer.alloc(0);
  readonly #longest: number;

  constructor(texts: readonly string[]) {
    this.#waiting = new Map(texts.map((text) => [text, Buffer.from(text)]));
    this.#longest = Math.max(1, ...[...this.#waiting.values()].map(({ length }) => length));
  }

  push(piece: Uint8Array): void {
    if (this.#waiting.size === 0) return;
    const joined = Buffer.concat([this.#carry, piece]);
    for (const [text, bytes] of this.#waiting) if (joined.includes(bytes)) this.#waiting.delete(text);
    this.#carry = Buffer.from(joined.subarray(Math.max(0, joined.length - this.#longest + 1)));
  }

  /** Those that did not come yet, in their order. */
  get missing(): string[] {
    return [...this.#waiting.keys()];
  }
}
