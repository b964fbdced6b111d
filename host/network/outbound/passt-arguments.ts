/** passt's command line, and what its own help says of the program that is installed. Pure. */
import { INET, type PublishedPort } from '../types.ts';

/** What is known of an installed passt. Debian 12's says "unknown version", so its options are what counts. */
export interface PasstProgram {
  path: string;
  /** As it says; null: it does not. */
  version: string | null;
  /** Long options of its help, without dashes. */
  options: ReadonlySet<string>;
}

export interface PasstOptions {
  /** The cable's end, as passt knows it. */
  fd: number;
  mtu: number;
  publish: readonly PublishedPort[];
  /** Where the guest asks for names; null: its family has no resolver. */
  dns: { ipv4: string | null; ipv6: string | null };
  /** Whether the guest has IPv6. */
  ipv6: boolean;
}

/** Without one of these there is no safe way to run it: the cable, the host's loopback, names. */
const NEEDED = ['fd', 'no-map-gw', 'dns-forward', 'address', 'gateway', 'mac-addr', 'mtu'];
/** Given where there is such an option. `stderr`: newer ones write there anyway. */
const OPTIONAL = ['quiet', 'stderr', 'no-dhcp', 'no-dhcpv6', 'no-ra'];

/** What its `--help` and `--version` print, on whichever stream, and between complaints about a missing syslog. */
export function parsePasst(path: string, help: string, version: string): PasstProgram {
  const options = new Set(
    [...help.matchAll(/(?<=^|[\s,])--([a-z][a-z0-9-]*)/gm)].map(([, name]) => name as string),
  );
  const [, said] = /^passt (?!unknown)(\S+)/m.exec(version) ?? [];
  return { path, version: said ?? null, options };
}

/** Options that this passt lacks; none: it can be used. */
export function missingOptions({ options }: PasstProgram): string[] {
  return NEEDED.filter((name) => !options.has(name)).map((name) => `--${name}`);
}

/**
 * Whether questions by TCP are forwarded, too, and not only those by UDP. Its help does not say so; those that do
 * (2024-07 and later) got this option a month later.
 */
export function forwardsTcpDns({ options }: PasstProgram): boolean {
  return options.has('map-host-loopback');
}

/** Whether it is of before 2024-08, and has the faults that are known of Debian 12's (2023-03). */
export function isOld(program: PasstProgram): boolean {
  return !forwardsTcpDns(program);
}

/**
 * Words after the program's name. Addresses are those of the table INET, so that nothing of the host's shows in the guest;
 * the gateway's address does not lead to the host's loopback, as it would by default.
 */
export function passtArguments(program: PasstProgram, options: PasstOptions): string[] {
  const { fd, mtu, publish, dns, ipv6 } = options;
  const resolvers = [dns.ipv4, ipv6 ? dns.ipv6 : null].filter((address) => address !== null);
  return [
    ...['--foreground', '--one-off', '--fd', `${fd}`],
    ...OPTIONAL.filter((name) => program.options.has(name)).map((name) => `--${name}`),
    '--no-map-gw',
    ...resolvers.flatMap((address) => ['--dns-forward', address]),
    ...['--address', INET.guest, '--netmask', `${INET.prefix}`, '--gateway', INET.gateway],
    ...(ipv6 ? ['--address', INET.guest6, '--gateway', INET.gateway6] : []),
    ...['--mac-addr', INET.gatewayMac, '--mtu', `${mtu}`],
    ...publish.flatMap((port) => [port.protocol === 'tcp' ? '--tcp-ports' : '--udp-ports', portWord(port)]),
  ];
}

/** `127.0.0.1/8080:80`; without an address all of the host's. */
function portWord({ hostAddress, hostPort, guestPort }: PublishedPort): string {
  return `${hostAddress === undefined ? '' : `${hostAddress}/`}${hostPort}:${guestPort}`;
}
