/** What the rest of the host needs of the runtime. */

export { findProgram } from '../lib/programs.ts';
export { kvmObstacle, kvmVerdict, type ProbeOptions } from './accelerator.ts';
export { Command } from './command.ts';
export { GuestClient, type RunOptions, type WriteFilesOptions } from './guest-client.ts';
export { GuestRequestError } from './guest-errors.ts';
export type { InputStream } from './input-stream.ts';
export { cleanUp } from './janitor.ts';
export { OutputStream, type Sink } from './output-stream.ts';
export type { KvmVerdict } from './start-cache.ts';
export { StartCache } from './start-cache.ts';
export { type StartOptions, startVm } from './start-vm.ts';
export type * from './types.ts';
export { Vm } from './vm.ts';
export type { VmEnd } from './vm-end.ts';
