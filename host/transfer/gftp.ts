/** Files of requestors over the bus, for those that transfer them. */
export { gftpDestination } from './gftp-destination.ts';
export type { GftpBus, GftpOptions } from './gftp-peer.ts';
export { type GftpSourceOptions, gftpSource } from './gftp-source.ts';
