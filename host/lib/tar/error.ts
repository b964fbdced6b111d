/** What is wrong with a tar, and where. It has no code: who reads one says what cannot be used. */
export class TarError extends Error {
  override name = 'TarError';
  readonly reason: string;
  /** In the archive, bytes. */
  readonly offset: number;

  constructor(reason: string, offset: number) {
    super(`${reason} at offset ${offset}`);
    this.reason = reason;
    this.offset = offset;
  }
}
