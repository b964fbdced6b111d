/** Errors of the initramfs builder. The code says which input was at fault; the hint says what to change. */
import { YavmError, type YavmErrorOptions } from '../host/lib/errors.ts';

/** A tool of the host is missing, failed, or ran out of time. */
export class ToolError extends YavmError {
  override name = 'ToolError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_TOOL', message, options);
  }
}

/** The kernel package cannot be found, fetched, verified or unpacked. */
export class PackageError extends YavmError {
  override name = 'PackageError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_PACKAGE', message, options);
  }
}

/** A file is no Linux x86-64 kernel, or cannot be unpacked to one. */
export class KernelImageError extends YavmError {
  override name = 'KernelImageError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_KERNEL', message, options);
  }
}

/** The kernel was built without something that the guest needs; `symbols` names it. */
export class KernelConfigError extends YavmError {
  override name = 'KernelConfigError';
  readonly symbols: string[];
  constructor(message: string, symbols: string[], options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_CONFIG', message, options);
    this.symbols = symbols;
  }
}

/** A module is missing, or its files and their dependencies do not fit together. */
export class ModuleError extends YavmError {
  override name = 'ModuleError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_MODULE', message, options);
  }
}

/** Something to be put into the initramfs cannot be: a bad `--file`, an `/init` that could not start. */
export class ContentError extends YavmError {
  override name = 'ContentError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_CONTENT', message, options);
  }
}

/** A `--hook` that cannot be made into a script. */
export class HookError extends YavmError {
  override name = 'HookError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_HOOK', message, options);
  }
}

/** A hook that is not for the `/init` beside it. */
export class HookVersionError extends YavmError {
  override name = 'HookVersionError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_HOOK_VERSION', message, options);
  }
}

/** A finished initramfs (or its manifest) that cannot be read. */
export class ArchiveError extends YavmError {
  override name = 'ArchiveError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_INITRAMFS_ARCHIVE', message, options);
  }
}
