/** The bus, for those that use it. */
export { DEFAULT_GSB_URL, formatGsbUrl, parseGsbUrl } from './address.ts';
export { decodeBody, encodeBody, MAX_BODY } from './body.ts';
export type { TopicHandler } from './broadcasts.ts';
export { connectGsb, GsbConnection, type GsbOptions } from './connection.ts';
export { decodeFlex, type FlexLimits } from './flexbuffers/decode.ts';
export { encodeFlex } from './flexbuffers/encode.ts';
export * from './packet.ts';
export * from './types.ts';
export { flexBytes, flexList, flexMap, flexNumbers } from './values.ts';
