/** URLs of a manifest's `net.inet.out`, and of `--allow`, as rules (exe-unit.md 8.7). Pure. */
import { isIP } from 'node:net';
import { YavmError } from '../../lib/errors.ts';
import { canonicalIp } from '../frame/address.ts';
import type { OutboundRule } from '../types.ts';

/** Ports of schemes that have one (IANA); the first six are those that upstream knows. `tcp` and `udp` have none. */
const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  http: 80,
  https: 443,
  ws: 80,
  wss: 443,
  ftp: 21,
  gopher: 70,
  ftps: 990,
  ssh: 22,
  sftp: 22,
  git: 9418,
  ldap: 389,
  ldaps: 636,
  imap: 143,
  imaps: 993,
  smtp: 25,
  smtps: 465,
  redis: 6379,
  rediss: 6379,
  mqtt: 1883,
  mqtts: 8883,
  amqp: 5672,
  amqps: 5671,
  mysql: 3306,
  postgres: 5432,
  postgresql: 5432,
  mongodb: 27017,
};

/** Rules of one task at most; a manifest with more is refused, so that its table stays small. */
export const MAX_RULES = 1024;
/** DNS: bytes of a name, and of a label (RFC 1035 2.3.4). */
const MAX_NAME = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** The rules of several URLs, each once. @throws {YavmError} YAVM_E_NET_RULE: names the URL */
export function parseUrlRules(urls: readonly string[]): OutboundRule[] {
  const rules = new Map<string, OutboundRule>();
  for (const url of urls) {
    const rule = parseUrlRule(url);
    rules.set(formatRule(rule), rule);
    if (rules.size > MAX_RULES) {
      throw new YavmError('YAVM_E_NET_RULE', `more than ${MAX_RULES} URLs for outbound connections`, {
        hint: 'List fewer of them, or ask for unrestricted outbound connections.',
      });
    }
  }
  return [...rules.values()];
}

/** What one URL allows: its host and port; path, query and user say nothing here. @throws {YavmError} YAVM_E_NET_RULE */
export function parseUrlRule(text: string): OutboundRule {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) throw refused(text, 'is no URL', 'Write it with a scheme: https://host.example');
  if (!URL.canParse(text)) throw refused(text, 'is no URL');
  const url = new URL(text);
  const port = url.port === '' ? DEFAULT_PORTS[scheme] : Number(url.port);
  if (port === undefined) {
    throw refused(
      text,
      `has no port, and the scheme '${scheme}' has no usual one`,
      `Add it: ${scheme}://host:port`,
    );
  }
  if (port === 0) throw refused(text, 'has port 0, which nothing can be reached at');
  return { host: hostOf(url, text), protocol: scheme === 'udp' ? 'udp' : 'tcp', port };
}

/** `tcp host:port`; one text for one rule. */
export function formatRule({ host, protocol, port }: OutboundRule): string {
  const text = 'name' in host ? host.name : host.address;
  return `${protocol} ${text.includes(':') ? `[${text}]` : text}:${port}`;
}

function hostOf(url: URL, text: string): OutboundRule['host'] {
  if (url.hostname === '') throw refused(text, 'names no host');
  // A scheme of the web has its host in ASCII, in lower case, and with addresses in one spelling; others get the same.
  const web = `http://${url.hostname}`;
  if (!URL.canParse(web)) throw refused(text, 'has a host that is neither a name nor an address');
  const host = new URL(web).hostname;
  const address = host.startsWith('[') ? host.slice(1, -1) : host;
  if (isIP(address) !== 0) return { address: canonicalIp(address) };
  const name = host.replace(/\.$/, '');
  if (name.length > MAX_NAME || !name.split('.').every((label) => LABEL.test(label))) {
    throw refused(text, 'has a host that is no name of DNS', 'Patterns are not known: list each name.');
  }
  return { name };
}

function refused(url: string, why: string, hint?: string): YavmError {
  return new YavmError('YAVM_E_NET_RULE', `outbound URL '${url.slice(0, 200)}' ${why}`, { hint });
}
