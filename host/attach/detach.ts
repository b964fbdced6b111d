/** The one message that exists on attach.sock alone: a client says that its command goes on after it left. */
import { at } from '../../guest/protocol/check.ts';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import { encodeFrame, FrameType } from '../../guest/protocol/frames.ts';
import type { Notification } from '../../guest/protocol/messages.ts';
import { requestId } from '../../guest/protocol/validate.ts';

const EVENT = 'detach';

/** `{event: 'detach', process}` as a frame. A notification: the client leaves right after it, and wants no answer. */
export function encodeDetach(process: number): Uint8Array {
  const notice = { event: EVENT, process };
  return encodeFrame(FrameType.message, 0, encodeMessage(notice as unknown as Notification));
}

/** The command that is detached; null when the message is another one. @throws {ValidationError} without a process. */
export function decodeDetach(map: Record<string, unknown>): number | null {
  return map.event === EVENT ? at('process', requestId, map.process) : null;
}
