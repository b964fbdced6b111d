/** A request's failure on the wire. */

/** Why a request failed. `code` is stable; errno, call and path are there when a system call failed. */
export interface WireError {
  code: GuestErrorCode;
  message: string;
  errno?: string;
  syscall?: string;
  path?: string;
}

/** Stable codes of the guest's refusals. The host maps them to YAVM_E_GUEST_… errors. */
export type GuestErrorCode =
  | 'bad-request'
  | 'unknown-request'
  | 'not-configured'
  | 'already-configured'
  | 'unknown-process'
  | 'spawn-failed'
  | 'unknown-user'
  | 'mount-failed'
  | 'module-failed'
  | 'disk-missing'
  | 'network-failed'
  | 'gpu-failed'
  | 'hook-failed'
  | 'hook-version'
  | 'file-failed'
  | 'bad-archive'
  | 'shutting-down'
  | 'internal';
