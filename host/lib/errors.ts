/** The host's errors: each has a stable code that scripts and documentation can rely on, and often a hint on what to do. */
// The type alone: the texts of the table are loaded by `ya-vm explain`, and never by the start of a program.
import type { ErrorCode } from '../errors/table.ts';

/**
 * The codes of the table in host/errors. Does a new one not compile? Give it a row in the file of its section there,
 * then write docs/troubleshooting.md anew: `build/node.sh build/docs.ts`.
 */
export type { ErrorCode };

/** Longest code that is taken from another program. */
const MAX_CODE_CHARACTERS = 64;

/**
 * A code that another process or thread sent. It may be of another version of ya-vm, and not in our table: it is shown
 * all the same. Null: no code.
 */
export function receivedCode(text: unknown): ErrorCode | null {
  if (typeof text !== 'string' || text.length > MAX_CODE_CHARACTERS) return null;
  return /^YAVM_E_[A-Z0-9_]+$/.test(text) ? (text as ErrorCode) : null;
}

export interface YavmErrorOptions {
  /** What made this happen; kept in the chain that {@link describeError} prints. */
  cause?: unknown;
  /** What the reader can do about it: one sentence, or the exact command. */
  hint?: string;
}

/**
 * An error that ya-vm foresaw. `message` says what failed and on what; `hint` says what to do.
 * @example throw new YavmError('YAVM_E_IMAGE', `${path}: not a squashfs image`, { cause, hint: 'Build one with …' });
 */
export class YavmError extends Error {
  override name = 'YavmError';
  readonly code: ErrorCode;
  readonly hint?: string;

  constructor(code: ErrorCode, message: string, options: YavmErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.hint !== undefined) this.hint = options.hint;
  }
}

/** True for an error of ours, and, when `code` is given, only for one with that code. */
export function isYavmError(error: unknown, code?: ErrorCode): error is YavmError {
  return error instanceof YavmError && (code === undefined || error.code === code);
}

/** True when a system call failed with `errno` (`'ENOENT'`). Node puts the name in `code`; the addon does the same. */
export function hasErrno(error: unknown, errno: string): error is NodeJS.ErrnoException {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === errno;
}

/** True when a write found no room: the disk is full, or the user's quota is used up. */
export function isDiskFull(error: unknown): boolean {
  return hasErrno(error, 'ENOSPC') || hasErrno(error, 'EDQUOT');
}

/** True when the error only says that an AbortSignal fired. */
export function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

/** Any thrown value as an Error, so that it can be a cause. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Causes printed at most: a chain that loops, or one that a peer made long, ends here. */
const MAX_CAUSES = 8;

/** The first error of ours in the chain of causes, the outermost first. */
export function findYavmError(error: unknown): YavmError | undefined {
  return chainOf(error).find((link): link is YavmError => link instanceof YavmError);
}

/**
 * What a person reads: the message, its causes (a cause that only repeats what was said is left out), the code, and
 * the hint on a line of its own.
 *
 * ```
 * image.gvmi: cannot be read: EACCES: permission denied, open 'image.gvmi' (YAVM_E_IMAGE)
 *   hint: chmod a+r image.gvmi
 * ```
 */
export function describeError(error: unknown): string {
  const chain = chainOf(error);
  let text = '';
  for (const link of chain) {
    const message = messageOf(link);
    if (text === '') text = message;
    else if (message !== '' && !text.includes(message)) text += `: ${message}`;
  }
  const ours = findYavmError(error);
  // At the end of the first line: evidence such as a console's last lines may follow.
  if (ours) text = text.replace(/$/m, () => ` (${ours.code})`);
  const hint = chain.find(
    (link): link is YavmError => link instanceof YavmError && link.hint !== undefined,
  )?.hint;
  return hint === undefined ? text : `${text}\n  hint: ${hint.replaceAll('\n', '\n        ')}`;
}

function chainOf(error: unknown): unknown[] {
  const chain: unknown[] = [];
  let link = error;
  while (link !== undefined && link !== null && chain.length < MAX_CAUSES && !chain.includes(link)) {
    chain.push(link);
    link = link instanceof Error ? link.cause : undefined;
  }
  return chain.length > 0 ? chain : [error];
}

function messageOf(link: unknown): string {
  if (!(link instanceof Error)) return String(link);
  if (link instanceof AggregateError && link.message === '') return link.errors.map(messageOf).join('; ');
  return link.message || link.name;
}
