/** Files of requestors: `gftp://<node>/<hash>`, and the names that they have on the bus (exe-unit.md 6.5). */
import { isNodeId } from '../gsb/node-id.ts';
import { YavmError } from '../lib/errors.ts';

/** Where a file that is published, or the place for one that is received, is reached. */
export interface GftpAddress {
  /** On the bus; a slash and the message's name follow. */
  service: string;
  /** The URL, for messages and logs: it holds nothing secret. */
  shown: string;
}

/** Of a published file its hash, of a place for an upload any token. One part of an address, whatever it is made of. */
const HASH = /^[^/\s]{1,256}$/;

/** @throws {YavmError} YAVM_E_URL */
export function parseGftpUrl(url: URL): GftpAddress {
  const node = url.host.toLowerCase();
  const hash = url.pathname.slice(1);
  if (url.protocol !== 'gftp:') throw urlError('not a gftp URL');
  if (!isNodeId(node)) throw urlError('a gftp URL names a node: 0x and 40 hexadecimal digits');
  if (url.username !== '' || url.password !== '') throw urlError('a gftp URL has no user');
  if (!HASH.test(hash)) throw urlError("a gftp URL's path is one hash or token");
  return { service: `/transfer/net/${node}/gftp/${hash}`, shown: `gftp://${node}/${hash}` };
}

function urlError(reason: string): YavmError {
  return new YavmError('YAVM_E_URL', `Invalid url: ${reason}`);
}
