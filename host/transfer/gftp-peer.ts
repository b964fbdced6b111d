/** The messages that a file of a requestor's is read and written with (exe-unit.md 6.5). */
import { flexMap } from '../gsb/index.ts';
import type { Flex, Gsb } from '../gsb/types.ts';
import type { GftpAddress } from './gftp-address.ts';
import { callError, gftpError } from './gftp-error.ts';

/** All that gftp needs of the bus. */
export type GftpBus = Pick<Gsb, 'call'>;

/** Bytes of a chunk; only the last one is shorter. What every publisher expects. */
export const CHUNK = 40_960;
/**
 * Chunks that are asked for ahead of the first one that has not come. Upstream has eight; a publisher answers each for
 * itself, and over a long way twice as many are twice as fast: 16 chunks a round trip.
 */
export const READ_AHEAD = 16;
/** Chunks that are sent ahead of the first one that is not answered: as upstream, receivers know no more. */
export const SENT_AHEAD = 8;
/** Milliseconds for each call. Upstream has none: a requestor that vanished held a transfer for ever. */
const DEADLINE = 60_000;

export interface GftpOptions {
  /** Milliseconds for each call; default a minute. Replaced by tests. */
  deadline?: number;
}

/** One file on a requestor's side. Errors of every method: YAVM_E_GFTP, the bus's, the signal's reason. */
export class GftpPeer {
  readonly shown: string;
  readonly #service: string;
  readonly #bus: GftpBus;
  readonly #deadline: number;

  constructor({ service, shown }: GftpAddress, bus: GftpBus, { deadline = DEADLINE }: GftpOptions = {}) {
    this.#service = service;
    this.shown = shown;
    this.#bus = bus;
    this.#deadline = deadline;
  }

  /** The published file's size, bytes; at most `most`. */
  async size(most: number, signal: AbortSignal): Promise<number> {
    const size = flexMap(await this.#call('GetMetadata', null, signal))?.fileSize;
    // Beyond 2^53 it is a bigint.
    if (typeof size === 'bigint') throw this.#error(`a file of ${size} bytes is too large`);
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
      throw this.#error("the answer to GetMetadata has no file's size");
    }
    if (size > most) throw this.#error(`a file of ${size} bytes is too large: the limit is ${most}`);
    return size;
  }

  /** Exactly `length` bytes from `offset` on: fewer are only there at the file's end, which is known. */
  async chunk(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    const answer = flexMap(await this.#call('GetChunk', { offset, size: CHUNK }, signal));
    const content = answer?.content;
    // Upstream takes nothing but a blob either.
    if (!(content instanceof Uint8Array)) throw this.#error(`the answer for the bytes at ${offset} has none`);
    if (answer?.offset !== offset) throw this.#error(`other bytes came than those at ${offset}`);
    if (content.length !== length) {
      throw this.#error(`${content.length} bytes came for the ${length} at ${offset}`);
    }
    return content;
  }

  /** Sends a chunk; `content` is the caller's again as soon as this has returned. */
  async upload(offset: number, content: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#call('UploadChunk', { chunk: { offset, content } }, signal);
  }

  /** Everything was sent; `hash` is the SHA3-256 of it, lower-case hex. */
  async finish(hash: string, signal: AbortSignal): Promise<void> {
    await this.#call('UploadFinished', { hash }, signal);
  }

  async #call(message: string, body: Flex, signal: AbortSignal): Promise<Flex> {
    try {
      return await this.#bus.call(`${this.#service}/${message}`, body, { deadline: this.#deadline, signal });
    } catch (error) {
      throw callError(error, this.shown);
    }
  }

  #error(what: string): Error {
    return gftpError(this.shown, what);
  }
}
