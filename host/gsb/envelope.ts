/** What calls are answered with: `{"Ok": value}` or `{"Err": error}`, or a code and a text. Facts: exe-unit.md 1.6 and 2.5. */
import { YavmError } from '../lib/errors.ts';
import { decodeBody } from './body.ts';
import type { CallReply } from './packet.ts';
import { type Flex, RemoteError, RpcError, type RpcErrorKind } from './types.ts';
import { flexMap } from './values.ts';

/** Of a text that a peer gets or gave; the rest is cut. */
const MAX_TEXT = 4096;

const RPC_ERRORS: readonly RpcErrorKind[] = [
  'service',
  'activity',
  'badRequest',
  'usageLimitExceeded',
  'notFound',
  'forbidden',
  'timeout',
];

/** `{"Err": …}` as upstream's RpcMessageError; `timeout` is a variant without a text. */
export function errorEnvelope(error: RpcError): Flex {
  return { Err: error.kind === 'timeout' ? 'timeout' : { [error.kind]: error.message } };
}

/** Text of a 500: what failed, and our code. */
export function failureText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof YavmError ? ` (${error.code})` : '';
  return message.slice(0, MAX_TEXT) + code;
}

/**
 * What the `Ok` of a reply holds.
 * @throws {RpcError} its `Err`; {@link YavmError} YAVM_E_GSB_NO_ENDPOINT, _SERVICE, _REMOTE, _BODY
 */
export function openReply(address: string, reply: CallReply): Flex {
  if (reply.code !== 0) throw refusal(address, reply);
  if (reply.data.length === 0) {
    throw new YavmError('YAVM_E_GSB_BODY', `${address}: empty response from remote service`);
  }
  const envelope = flexMap(decodeBody(reply.data));
  if (envelope?.Ok !== undefined) return envelope.Ok;
  if (envelope?.Err === undefined) throw new YavmError('YAVM_E_GSB_BODY', `${address}: neither Ok nor Err`);
  throw remoteError(address, envelope.Err);
}

function refusal(address: string, { code, data }: CallReply): YavmError {
  const text = Buffer.from(data).toString('utf8').slice(0, MAX_TEXT);
  return new YavmError(code === 400 ? 'YAVM_E_GSB_NO_ENDPOINT' : 'YAVM_E_GSB_SERVICE', `${address}: ${text}`);
}

function remoteError(address: string, error: Flex): RpcError | RemoteError {
  if (error === 'timeout') return new RpcError('timeout');
  const [[kind, text] = []] = Object.entries(flexMap(error) ?? {});
  const known = RPC_ERRORS.find((name) => name === kind);
  if (known !== undefined && typeof text === 'string') return new RpcError(known, text);
  const shown = JSON.stringify(error, (_, value) => (typeof value === 'bigint' ? `${value}` : value));
  return new RemoteError(`${address}: ${shown.slice(0, MAX_TEXT)}`, error);
}
