/**
 * Where a network of the supervisor begins: `--vpn-endpoint`, `--inet-endpoint`. QEMU gets an open socket, and the supervisor
 * the address at which to find it. Spec: runtime-vm.md 7.1.
 */
import { isIPv4 } from 'node:net';
import type { HostNative } from '../../native/host-face.ts';
import { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import { ETHERNET_HEADER, type NicBackend } from '../network/types.ts';
import type { Endpoint, NetworkInterface } from './messages.ts';

const KINDS = ['udp', 'tcp-connect', 'tcp-listen'] as const;

/** `udp://127.0.0.1:35389`, taken apart. */
export interface EndpointUrl {
  kind: (typeof KINDS)[number];
  /** IPv4, dotted. */
  address: string;
  /** Of the supervisor; with `tcp-listen` it means nothing. */
  port: number;
}

/** An endpoint with its socket open. */
export interface OpenEndpoint {
  /** For QEMU; to be taken over. */
  nic: NicBackend;
  /** What the supervisor is told. */
  answer: Endpoint;
}

/** By the network that it is for. */
export type Endpoints<Each> = Readonly<Partial<Record<NetworkInterface, Each>>>;

/** Of each direction of a UDP socket, bytes: as much as the supervisor's own has. The kernel may give less. */
const BUFFER = 2 * 1024 * 1024;
/** The supervisor has its end open before it starts us; it gives its own connects as long, milliseconds. */
const CONNECT_DEADLINE = 2000;
const CONNECT_POLL = 5;
const LOOPBACK = '127.0.0.1';
const HINT = `Write one of udp://${LOOPBACK}:PORT, tcp-connect://ADDRESS:PORT, tcp-listen://${LOOPBACK}:0.`;

/** @throws {YavmError} YAVM_E_USAGE, with what is wrong */
export function parseEndpoint(text: string): EndpointUrl {
  const wrong = (why: string) =>
    new YavmError('YAVM_E_USAGE', `'${text.slice(0, 100)}': ${why}`, { hint: HINT });
  const [, scheme, place = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? [];
  if (scheme === undefined) throw wrong('no endpoint');
  // As upstream's runtime since 0.5.
  if (scheme === 'unix') throw wrong('Unix sockets are not supported');
  const kind = KINDS.find((each) => each === scheme);
  if (!kind) throw wrong(`endpoints of kind '${scheme}' are not supported`);
  const [, address = '', digits = ''] = /^([^:]*):(\d{1,5})$/.exec(place) ?? [];
  if (!isIPv4(address)) throw wrong('no IPv4 address and port behind the //');
  const port = Number(digits);
  if (port > 0xffff) throw wrong(`no port: ${digits}`);
  if (port === 0 && kind !== 'tcp-listen') throw wrong('port 0 is nobody');
  // Ours is bound there, so that nothing outside this host reaches it.
  if (kind !== 'tcp-connect' && !address.startsWith('127.')) {
    throw wrong(`only this host's loopback, 127.0.0.0/8, can be reached by ${kind}`);
  }
  return { kind, address, port };
}

export function formatEndpoint({ kind, address, port }: EndpointUrl): string {
  return `${kind}://${address}:${port}`;
}

/**
 * Opens the socket of our side. With UDP it is connected, so that only the supervisor's datagrams arrive: upstream's takes
 * those of every process of the host.
 * @throws {YavmError} YAVM_E_NET_ENDPOINT; the signal's reason
 */
export async function openEndpoint(
  url: EndpointUrl,
  native: HostNative,
  signal?: AbortSignal,
): Promise<OpenEndpoint> {
  try {
    switch (url.kind) {
      case 'udp': {
        const [fd, port] = native.udpConnect(url.address, url.port, BUFFER);
        // QEMU takes an empty datagram for the end of the cable, and what is sent here is decided by peers of the VPN.
        native.dropShort(fd, ETHERNET_HEADER);
        return {
          nic: { kind: 'datagram', fd },
          answer: { kind: 'udp-datagram', address: `${LOOPBACK}:${port}` },
        };
      }
      case 'tcp-connect': {
        const fd = await connect(url, native, signal);
        return {
          nic: { kind: 'stream', fd },
          answer: { kind: 'tcp-stream', address: `${url.address}:${url.port}` },
        };
      }
      case 'tcp-listen': {
        const [fd, port] = native.tcpListen();
        return {
          nic: { kind: 'stream-listener', fd },
          answer: { kind: 'tcp-stream', address: `${LOOPBACK}:${port}` },
        };
      }
    }
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new YavmError('YAVM_E_NET_ENDPOINT', `${formatEndpoint(url)}: cannot be opened`, {
      cause,
      hint: 'The supervisor opens its end before it starts the runtime: its log may say why there is none.',
    });
  }
}

/** All of them, or none. @throws what {@link openEndpoint} throws */
export async function openEndpoints(
  urls: Endpoints<EndpointUrl>,
  native: HostNative,
  signal?: AbortSignal,
): Promise<Endpoints<OpenEndpoint>> {
  const open: Partial<Record<NetworkInterface, OpenEndpoint>> = {};
  try {
    for (const name of ['vpn', 'inet'] as const) {
      const url = urls[name];
      if (url) open[name] = await openEndpoint(url, native, signal);
    }
    return open;
  } catch (error) {
    for (const { nic } of Object.values(open)) native.close(nic.fd);
    throw error;
  }
}

/** Waits until the connection stands: QEMU would start with one that is refused, and its NIC would be dead. */
async function connect(url: EndpointUrl, native: HostNative, signal?: AbortSignal): Promise<number> {
  const fd = native.tcpConnect(url.address, url.port);
  const nothing = new Uint8Array(0);
  try {
    const began = performance.now();
    // Of a socket that is connecting, sending nothing asks how that goes: no room yet, done, or why not.
    while (native.sendBytes(fd, nothing, 0, 0) < 0) {
      if (performance.now() - began > CONNECT_DEADLINE) {
        throw new Error(`nobody answers within ${CONNECT_DEADLINE / 1000} s`);
      }
      await sleep(CONNECT_POLL, signal);
      signal?.throwIfAborted();
    }
    return fd;
  } catch (error) {
    native.close(fd);
    throw error;
  }
}
