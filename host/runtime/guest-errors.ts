/** Errors that a guest causes: refusals that it answers with, and bytes that break the protocol. */
import type { GuestErrorCode, Operation, WireError } from '../../guest/protocol/messages.ts';
import { type ErrorCode, YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';

/** What a person can do about a refusal. */
const HINTS: Partial<Record<GuestErrorCode, string>> = {
  'unknown-request': 'The agent in this initramfs is older than this ya-vm. Rebuild it: make build',
  'unknown-user': "Users are looked up in the image's own /etc/passwd; a number always works.",
  'module-failed': 'Rebuild the initramfs with that module: ya-vm initramfs build --module NAME',
};

type Words<Code extends string> = Code extends `${infer First}-${infer Rest}`
  ? `${Uppercase<First>}_${Words<Rest>}`
  : Uppercase<Code>;
/** The host's codes for the guest's. */
type HostCode = `YAVM_E_GUEST_${Words<GuestErrorCode>}`;

/** `spawn-failed` → `YAVM_E_GUEST_SPAWN_FAILED`. Does it not compile? The guest has a code without a row in host/errors. */
export function guestErrorCode(code: GuestErrorCode): ErrorCode {
  return `YAVM_E_GUEST_${code.toUpperCase().replaceAll('-', '_')}` as HostCode;
}

/** A request that the guest refused or could not carry out. errno, syscall and path tell which call failed there. */
export class GuestRequestError extends YavmError {
  override name = 'GuestRequestError';
  readonly operation: Operation;
  readonly errno?: string;
  readonly syscall?: string;
  readonly path?: string;

  constructor(operation: Operation, error: WireError) {
    super(guestErrorCode(error.code), printable(error.message), { hint: HINTS[error.code] });
    this.operation = operation;
    if (error.errno !== undefined) this.errno = error.errno;
    if (error.syscall !== undefined) this.syscall = error.syscall;
    if (error.path !== undefined) this.path = error.path;
  }
}

/** Longest text of a guest that is put into an error, characters. */
const MAX_QUOTE = 500;

/** YAVM_E_GUEST_PROTOCOL: what came on `port` is not the protocol, or a flood. The VM is ended with it. */
export function protocolError(port: string, cause: Error): YavmError {
  const message = printable(cause.message.slice(0, MAX_QUOTE));
  return new YavmError('YAVM_E_GUEST_PROTOCOL', `the guest broke the protocol on port ${port}: ${message}`, {
    cause,
  });
}
