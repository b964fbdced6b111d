/** Why a publisher, or the way to it, failed (exe-unit.md 6.5). */
import { flexMap } from '../gsb/index.ts';
import { type Flex, RemoteError, RpcError } from '../gsb/types.ts';
import { isYavmError, YavmError, type YavmErrorOptions } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';

/** Characters of a publisher's words that are quoted. */
const MAX_WORDS = 500;

/** The requestor's side answers what it may not, or refuses. Another attempt would meet the same. */
export function gftpError(shown: string, what: string, options?: YavmErrorOptions): YavmError {
  return new YavmError('YAVM_E_GFTP', `GFTP error: ${shown}: ${what}`, options);
}

/**
 * What a call threw, as an error of ours. Those of the bus keep their codes, by which it is known whether they pass; what is
 * no error of the bus, a signal's reason above all, stays as it is.
 */
export function callError(error: unknown, shown: string): unknown {
  if (error instanceof RemoteError) return gftpError(shown, wordsOf(error.error), { cause: error });
  if (error instanceof RpcError) {
    return gftpError(shown, `${error.kind}: ${quote(error.message)}`, { cause: error });
  }
  if (!isYavmError(error) || !error.code.startsWith('YAVM_E_GSB_')) return error;
  return new YavmError(error.code, `GSB error: ${quote(error.message)}`, { cause: error });
}

/** What each variant of upstream's error is about. */
const VARIANTS: Readonly<Record<string, string>> = {
  ReadError: 'the file cannot be read there',
  WriteError: 'the file cannot be written there',
  IntegrityError: 'what arrived there has another hash',
  InternalError: 'it failed there',
};

/** A variant with words is a map of one entry, one without is a text. */
function wordsOf(error: Flex): string {
  const [[variant, words] = [error, undefined]] = Object.entries(flexMap(error) ?? {});
  const meaning = typeof variant === 'string' && Object.hasOwn(VARIANTS, variant) ? VARIANTS[variant] : null;
  if (meaning === null || meaning === undefined) return 'it failed there, with an error that is not known';
  return `${meaning} (${variant})${typeof words === 'string' && words !== '' ? `: ${quote(words)}` : ''}`;
}

function quote(words: string): string {
  const text = words.length > MAX_WORDS ? `${words.slice(0, MAX_WORDS)}…` : words;
  return printable(text).replace(/[\n\t]+/g, ' ');
}
