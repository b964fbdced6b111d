/** The embedded node, for those that use it. */
export {
  ActivityHost,
  type ActivityHostOptions,
  RunningActivity,
  type StartOptions,
  TERMINATION_TIMEOUT,
} from './activity-host.ts';
export {
  type ActivityEvent,
  type ActivityRecord,
  ActivityService,
  type ActivityServiceOptions,
} from './activity-service.ts';
export { type AgreementTerms, buildAgreement, newAgreementId } from './agreement-file.ts';
export { type Clock, systemClock } from './clock.ts';
export { costOf } from './cost.ts';
export type { Place, PlaceOptions } from './gftp-place.ts';
export { publishFile } from './gftp-publish.ts';
export { type FilePlace, type Received, type ReceiveOptions, receiveFile } from './gftp-receive.ts';
export { askNodeId, IDENTITY_ADDRESS, type Identity, identify, serveIdentity } from './identity-service.ts';
export type {
  ActivityState,
  ActivityUsage,
  CommandOutput,
  CommandResult,
  RunningCommand,
  RuntimeEvent,
  StateName,
  StatePair,
} from './messages.ts';
export { LocalNetwork } from './network.ts';
export { LOCAL_IDENTITY, LocalNode, type LocalNodeOptions } from './node.ts';
export { newBatchId, Requestor, type RequestorOptions, type ResultsOptions } from './requestor.ts';
export { GsbRouter, type RouterEvent, type RouterOptions } from './router.ts';
export { type ProcessEnd, REPORT_ADDRESS } from './supervisor-process.ts';
