/** Takes a file from a transfer, to a path of this host. */
import type { Flex, Gsb } from '../gsb/types.ts';
import { deferred } from '../lib/deferred.ts';
import { badMessage, mapOf, numberOf, optionalText } from './decode.ts';
import { localFileError, MAX_CHUNK, openPlace, type Place, type PlaceOptions } from './gftp-place.ts';
import { type Received, Upload } from './gftp-upload.ts';

export type { Received } from './gftp-upload.ts';

export interface ReceiveOptions extends PlaceOptions {
  /** Bytes at most; default {@link MAX_SIZE}. */
  maxSize?: number;
}

export interface FilePlace extends Place {
  /** Resolves when the file is there, under its name. Rejects when it was closed before. */
  readonly received: Promise<Received>;
}

/** Bytes of a file, unless something else is said. */
export const MAX_SIZE = 1024 ** 4;

/**
 * A file that is there is replaced, in one step, when the new one is complete and has the hash that its sender says.
 * @throws {YavmError} YAVM_E_LOCAL_FILE; as {@link openPlace}
 */
export async function receiveFile(
  gsb: Pick<Gsb, 'bind' | 'unbind' | 'call'>,
  path: string,
  { maxSize = MAX_SIZE, ...options }: ReceiveOptions = {},
): Promise<FilePlace> {
  const upload = await Upload.create(path, maxSize);
  const received = deferred<Received>();
  received.promise.catch(() => {});
  const handlers = {
    UploadChunk: async (body: Flex) => {
      const chunk = mapOf(mapOf(body, 'UploadChunk').chunk, 'chunk');
      const { content } = chunk;
      if (!(content instanceof Uint8Array) || content.length > MAX_CHUNK) {
        throw badMessage(`content is no blob of ${MAX_CHUNK} bytes at most`);
      }
      await upload.take(numberOf(chunk.offset, 'offset'), content);
      return null;
    },
    UploadFinished: async (body: Flex) => {
      const hash = optionalText(mapOf(body, 'UploadFinished').hash, 'hash') ?? null;
      received.resolve(await upload.finish(hash));
      return null;
    },
  };
  try {
    const place = await openPlace(gsb, handlers, options);
    return {
      url: place.url,
      received: received.promise,
      async close() {
        await place.close();
        await upload.drop();
        received.reject(localFileError(path, 'nothing was received'));
      },
    };
  } catch (error) {
    await upload.drop();
    throw error;
  }
}
