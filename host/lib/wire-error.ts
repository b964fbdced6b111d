/** Errors that cross to another process or thread: what their readers look at, with what made them happen. */
import { receivedCode, toError, YavmError } from './errors.ts';

export interface WireError {
  code?: string;
  message: string;
  hint?: string;
  errno?: string;
  syscall?: string;
  cause?: WireError;
}

/** Causes that are kept. */
const MAX_CAUSES = 8;

export function errorToWire(thrown: unknown, depth: number = 0): WireError {
  const { message, ...rest } = toError(thrown);
  const { code, hint, errno, syscall, cause } = {
    ...rest,
    cause: toError(thrown).cause,
  } as Partial<WireError>;
  const error: WireError = { code, message, hint, errno, syscall };
  if (cause !== undefined && depth < MAX_CAUSES) error.cause = errorToWire(cause, depth + 1);
  return error;
}

/** The error that it was, as far as its readers look at it. */
export function errorFromWire({ code, message, hint, errno, syscall, cause }: WireError): Error {
  const made = cause === undefined ? undefined : errorFromWire(cause);
  const ours = receivedCode(code);
  const error = ours
    ? new YavmError(ours, message, { hint, cause: made })
    : Object.assign(new Error(message, { cause: made }), { code });
  return Object.assign(error, { errno, syscall });
}
