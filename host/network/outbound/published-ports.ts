/** Whether the ports to be published are free. passt is content when it gets a port for one family of two. */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { YavmError } from '../../lib/errors.ts';
import type { PublishedPort } from '../types.ts';

/** Milliseconds are not counted here: binding is one system call. @throws {YavmError} YAVM_E_NET_PUBLISH for the first that is not free */
export async function checkPorts(ports: readonly PublishedPort[]): Promise<void> {
  for (const port of ports) {
    try {
      await (port.protocol === 'tcp' ? bindTcp(port) : bindUdp(port));
    } catch (cause) {
      const { protocol, hostAddress, hostPort } = port;
      const where = hostAddress === undefined ? `${hostPort}` : `${hostAddress} port ${hostPort}`;
      throw new YavmError('YAVM_E_NET_PUBLISH', `${protocol} ${where} of this host cannot be published`, {
        cause,
        hint: `Which program has it: ss -lnp '( sport = :${hostPort} )'; a port below 1024 needs sysctl net.ipv4.ip_unprivileged_port_start.`,
      });
    }
  }
}

function bindTcp({ hostAddress, hostPort }: PublishedPort): Promise<void> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: hostPort, host: hostAddress, exclusive: true }, () =>
      server.close(() => resolve()),
    );
  });
}

function bindUdp({ hostAddress, hostPort }: PublishedPort): Promise<void> {
  const socket = createSocket(hostAddress?.includes(':') === false ? 'udp4' : 'udp6');
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => {
      socket.close();
      reject(error);
    });
    socket.bind({ port: hostPort, address: hostAddress, exclusive: true }, () =>
      socket.close(() => resolve()),
    );
  });
}
