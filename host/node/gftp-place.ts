/** A file of this side on the bus, `/public/gftp/<token>`, for others to read or to write (exe-unit.md 6.5). */
import { randomBytes } from 'node:crypto';
import { AnswerError, type Flex, type Gsb } from '../gsb/types.ts';
import { YavmError } from '../lib/errors.ts';
import { askNodeId } from './identity-service.ts';

/** Bytes of a chunk that is given or taken at most; exe-units use 40,960. */
export const MAX_CHUNK = 1024 * 1024;

export interface PlaceOptions {
  /** Of the node that the bus belongs to; default: the bus is asked. */
  nodeId?: string;
}

export interface Place {
  /** `gftp://<node>/<token>`: for `from` or `to` of a transfer. Whoever knows it can use it. */
  readonly url: string;
  close(): Promise<void>;
}

type Handler = (body: Flex) => Promise<Flex> | Flex;

/** Answers messages, by their names, until it is closed. @throws as {@link Gsb.bind} and {@link askNodeId} */
export async function openPlace(
  gsb: Pick<Gsb, 'bind' | 'unbind' | 'call'>,
  handlers: Readonly<Record<string, Handler>>,
  { nodeId }: PlaceOptions,
): Promise<Place> {
  const node = nodeId ?? (await askNodeId(gsb));
  // Upstream's is the file's hash, which must be calculated first, and can be guessed by who has the file.
  const token = randomBytes(32).toString('hex');
  const address = `/public/gftp/${token}`;
  const unary = async (body: Flex, call: { address: string }): Promise<Flex> => {
    const message = call.address.slice(address.length + 1);
    const handler = Object.hasOwn(handlers, message) ? handlers[message] : undefined;
    if (handler === undefined) throw gftpAnswer('InternalError', `${message} has no place here`);
    return await handler(body);
  };
  await gsb.bind(address, { unary });
  return { url: `gftp://${node}/${token}`, close: () => gsb.unbind(address) };
}

/** Characters of a text that a caller gets. */
const MAX_WORDS = 500;

/** An answer of upstream's kind of errors. */
export function gftpAnswer(
  variant: 'ReadError' | 'WriteError' | 'IntegrityError' | 'InternalError',
  words: string,
): AnswerError {
  return new AnswerError(variant === 'IntegrityError' ? variant : { [variant]: words.slice(0, MAX_WORDS) });
}

/** A file of this host that a script names cannot be used. */
export function localFileError(path: string, what: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_LOCAL_FILE', `${path}: ${what}`, cause === undefined ? {} : { cause });
}
