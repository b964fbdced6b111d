/** The supervisor's refusals, in the guest's form. */
import type { GuestErrorCode, WireError } from '../../guest/protocol/messages.ts';
import { describeError, toError } from '../lib/errors.ts';
import { GuestRequestError } from '../runtime/guest-errors.ts';

/** A request that this server refuses itself. */
export class AttachError extends Error {
  override name = 'AttachError';
  readonly code: GuestErrorCode;

  constructor(code: GuestErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** A guest's refusal is passed on as it came; what happened on this side is `internal`, with its whole text. */
export function wireErrorOf(thrown: unknown): WireError {
  const error = toError(thrown);
  if (error instanceof AttachError) return { code: error.code, message: error.message };
  if (!(error instanceof GuestRequestError)) return { code: 'internal', message: describeError(error) };
  const { code, message, errno, syscall, path } = error;
  return { code: guestCodeOf(code), message, errno, syscall, path };
}

/** `YAVM_E_GUEST_SPAWN_FAILED` → `spawn-failed`: the reverse of guestErrorCode. */
function guestCodeOf(code: string): GuestErrorCode {
  return code.replace('YAVM_E_GUEST_', '').toLowerCase().replaceAll('_', '-') as GuestErrorCode;
}
