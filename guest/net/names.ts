/** /etc/hosts and /etc/resolv.conf of the task. Generated whole, as in Docker: what an image brings describes its build. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import { makeDirectories } from '../lib/beneath.ts';
import { replaceTextFile } from '../lib/replace-file.ts';
import { formatAddress, parseAddress } from './address.ts';

/** The lines that every system has. */
const STANDARD_HOSTS = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
];
/** Debian's address for a machine's own name when no link has one: the name must always resolve (sudo, Java). */
const OWN_ADDRESS = '127.0.1.1';
/** Longest DNS name (RFC 1035), characters. */
const MAX_NAME = 253;

/**
 * Text of /etc/hosts. `own`: the VM's name, on the address of its first link where it has one.
 * @throws {GuestError} bad-request
 */
export function hostsText(own: string, ownAddress: string | null, hosts: Record<string, string>): string {
  const lines = [...STANDARD_HOSTS, `${ownAddress ?? OWN_ADDRESS}\t${checkName(own)}`];
  for (const [name, address] of Object.entries(hosts)) {
    lines.push(`${formatAddress(parseAddress(address))}\t${checkName(name)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Text of /etc/resolv.conf. Resolvers use the first three servers. @throws {GuestError} bad-request */
export function resolverText(nameservers: string[], searchDomains: string[]): string {
  const lines = nameservers.map((server) => `nameserver ${formatAddress(parseAddress(server))}`);
  if (searchDomains.length > 0) lines.unshift(`search ${searchDomains.map(checkName).join(' ')}`);
  return `${lines.join('\n')}\n`;
}

/**
 * Writes a file of the root's /etc in one step. A link of that name (Ubuntu's resolv.conf points into /run) is replaced:
 * nothing runs in this VM that would fill its target. @throws {GuestError} file-failed
 */
export function writeEtcFile(native: Native, rootFd: number, name: string, text: string): void {
  try {
    const etc = makeDirectories(native, rootFd, 'etc', 0o755);
    try {
      replaceTextFile(native, etc, name, text);
    } finally {
      native.close(etc);
    }
  } catch (error) {
    throw fromNative('file-failed', `cannot write /etc/${name}`, error);
  }
}

/** A name that cannot break out of its line. Underscores occur in practice. */
function checkName(name: string): string {
  if (name.length <= MAX_NAME && /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?$/.test(name)) return name;
  throw new GuestError('bad-request', `'${name.slice(0, 100)}' is no host name`);
}
