/** CBOR in `/init`: the addon's, which the interpreter could not match. The same rules as guest/protocol/cbor.ts. */
import { native } from '../../native/native.ts';

export function encodeCbor(value: unknown): Uint8Array {
  return native().cborEncode(value);
}

/** Decodes one complete, plain value. @throws Error */
export function decodeCbor(bytes: Uint8Array): unknown {
  return native().cborDecode(bytes);
}
