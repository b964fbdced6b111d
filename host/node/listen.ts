/** A server on the address of a bus. */
import { chmodSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { formatGsbUrl } from '../gsb/address.ts';
import type { GsbAddress } from '../gsb/types.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';

/**
 * Binds `server`. A Unix socket gets permissions 0600; its folder, when there is none yet, 0700: the bus knows no
 * authentication (exe-unit.md 1.1). A socket that a dead process left is replaced.
 * @returns the address, with the port that the system chose for port 0
 * @throws {YavmError} YAVM_E_NODE_LISTEN
 */
export async function listenOn(server: Server, address: GsbAddress): Promise<GsbAddress> {
  try {
    if (address.kind === 'tcp') return await listenTcp(server, address.host, address.port);
    makeFolders(dirname(address.path), 0o700);
    await listenUnix(server, address.path);
    return address;
  } catch (error) {
    throw new YavmError('YAVM_E_NODE_LISTEN', `${formatGsbUrl(address)}: cannot listen there`, {
      cause: error,
      hint: hintFor(error, address),
    });
  }
}

/** sun_path of unix(7), without its NUL. */
const MAX_PATH = 107;

function hintFor(error: unknown, address: GsbAddress): string | undefined {
  if (hasErrno(error, 'EADDRINUSE'))
    return 'Another node (yagna, perhaps) listens there: give another address.';
  const long = address.kind === 'unix' && Buffer.byteLength(address.path) > MAX_PATH;
  return long ? `The path of a socket has ${MAX_PATH} bytes at most: give a shorter one.` : undefined;
}

async function listenTcp(server: Server, host: string, port: number): Promise<GsbAddress> {
  await bound(server, () => server.listen({ host, port }));
  const actual = server.address();
  return { kind: 'tcp', host, port: typeof actual === 'object' && actual !== null ? actual.port : port };
}

async function listenUnix(server: Server, path: string): Promise<void> {
  // bind() happens inside `listen`, so the socket is never there with wider permissions.
  const bind = () => {
    const umask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(umask);
    }
  };
  try {
    await bound(server, bind);
  } catch (error) {
    if (!hasErrno(error, 'EADDRINUSE') || (await answers(path))) throw error;
    await rm(path, { force: true });
    await bound(server, bind);
  }
  chmodSync(path, 0o600);
}

function bound(server: Server, bind: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => {
      server.off('listening', onListening);
      reject(error);
    };
    const onListening = () => {
      server.off('error', onError);
      resolve();
    };
    server.once('error', onError);
    server.once('listening', onListening);
    bind();
  });
}

/** Whether a process listens at a Unix socket. Anything but "refused" counts as yes: what is not known dead stays. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(!hasErrno(error, 'ECONNREFUSED')));
  });
}
