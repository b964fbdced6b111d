/** Recorded requests on machines that are slower than the one they were recorded on. */
import { decodeBody, encodeBody, type Packet } from '../../host/gsb/index.ts';
import { FlexFloat, type FlexMap } from '../../host/gsb/types.ts';

/** Seconds for results. */
const PATIENCE = 60;

/** The request with more time, where the recorded one had enough: a busy machine takes longer. */
export function patient(packet: Packet): Packet {
  if (packet.kind !== 'callRequest' || !packet.address.endsWith('/GetExecBatchResults')) return packet;
  const body = decodeBody(packet.data) as FlexMap;
  // Less than a second was meant to pass.
  if (!(Number(body.timeout) >= 1)) return packet;
  return { ...packet, data: encodeBody({ ...body, timeout: new FlexFloat(PATIENCE) }) };
}
