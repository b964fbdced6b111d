/** Which proxy a request takes, by the variables that curl and others read. */
import { BlockList, isIP } from 'node:net';
import { YavmError } from '../lib/errors.ts';

/**
 * The proxy for `url`: of `http_proxy` or `https_proxy` by the URL's scheme, unless `no_proxy` lists the host. Names in
 * capitals count where those in small letters are not set. Null: no proxy. May hold credentials.
 * @throws {YavmError} YAVM_E_PROXY, without the variable's value
 */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv): URL | null {
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const text = (env[name] || env[name.toUpperCase()] || '').trim();
  if (text === '' || bypasses(url, env.no_proxy || env.NO_PROXY || '')) return null;
  const proxy = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (proxy === null || proxy.hostname === '') throw proxyError(name, 'is not the address of a proxy');
  if (proxy.protocol === 'http:' || proxy.protocol === 'https:') return proxy;
  throw proxyError(name, `names a proxy of the kind ${proxy.protocol.slice(0, -1)}`);
}

function proxyError(variable: string, what: string): YavmError {
  return new YavmError('YAVM_E_PROXY', `${variable} ${what}`, {
    hint: `Set it to http://HOST:PORT or https://HOST:PORT, or unset it.`,
  });
}

/**
 * Whether `list` names the URL's host: by `*`, by its name or that of a domain above it (with or without a dot or `*.`
 * in front), by its address, or by a network `a.b.c.d/bits` around it; each with or without a port.
 */
function bypasses(url: URL, list: string): boolean {
  const host = bareHost(url).replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => entry === '*' || matches(host, port, entry));
}

function matches(host: string, port: string, entry: string): boolean {
  const [, bracketed, plain, wanted] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  // More colons than one, and no brackets: an IPv6 address or network.
  const name = bracketed ?? plain ?? entry;
  if (wanted !== undefined && wanted !== port) return false;
  if (isIP(host)) return host === name || contains(name, host);
  const domain = name.replace(/^\*?\./, '').replace(/\.$/, '');
  return domain !== '' && (host === domain || host.endsWith(`.${domain}`));
}

function contains(network: string, address: string): boolean {
  const [base = '', bits = ''] = network.split('/');
  const [kind, most] = isIP(base) === 6 ? (['ipv6', 128] as const) : (['ipv4', 32] as const);
  if (!isIP(base) || isIP(base) !== isIP(address)) return false;
  const length = bits === '' ? most : Number(bits);
  if (!/^\d*$/.test(bits) || length > most) return false;
  const list = new BlockList();
  list.addSubnet(base, length, kind);
  return list.check(address, kind);
}

/** A URL's host as name or address: IPv6 without brackets. */
export function bareHost(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1');
}
