/** Errors of the guest: a stable code for the host, and the system call that failed when there was one. */
import type { NativeError } from '../native/face.ts';
import type { GuestErrorCode, WireError } from './protocol/messages.ts';

/** What failed beneath: the fields of a native error, all optional. */
export interface SystemCause {
  errno?: string;
  syscall?: string;
  path?: string;
}

/** A refusal or failure that a request is answered with. */
export class GuestError extends Error {
  override name = 'GuestError';
  readonly code: GuestErrorCode;
  readonly errno?: string;
  readonly syscall?: string;
  readonly path?: string;

  constructor(code: GuestErrorCode, message: string, cause: SystemCause = {}) {
    super(message);
    this.code = code;
    this.errno = cause.errno;
    this.syscall = cause.syscall;
    this.path = cause.path;
  }
}

/** Whether `error` came from a system call of the addon. */
export function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && typeof (error as Partial<NativeError>).syscall === 'string';
}

/** Whether `error` is a system error with this errno name. */
export function hasErrno(error: unknown, name: string): boolean {
  return isNativeError(error) && error.code === name;
}

/** Wraps a failed system call: `message` says what was being done, the cause's own text follows. */
export function fromNative(code: GuestErrorCode, message: string, error: unknown): GuestError {
  if (error instanceof GuestError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (!isNativeError(error)) return new GuestError(code, `${message}: ${text}`);
  return new GuestError(code, `${message}: ${text}`, {
    errno: error.code,
    syscall: error.syscall,
    path: error.path,
  });
}

/** The form that crosses the port. Errors that nobody classified become `internal`. */
export function toWire(error: unknown): WireError {
  const known = error instanceof GuestError ? error : fromNative('internal', 'unexpected failure', error);
  const wire: WireError = { code: known.code, message: known.message };
  if (known.errno !== undefined) wire.errno = known.errno;
  if (known.syscall !== undefined) wire.syscall = known.syscall;
  if (known.path !== undefined) wire.path = known.path;
  return wire;
}
