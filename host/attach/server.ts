/**
 * attach.sock: other processes of this user run commands in a VM, through the process that supervises it.
 *
 * It speaks the guest's messages and frames, on one socket. A client numbers its requests and streams as it likes: each
 * has its own name space, so clients cannot touch each other's commands, and only the requests of the table in
 * client-session.ts exist for them.
 */
import { createServer, type Server } from 'node:net';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { listenPrivately } from '../lib/private-listen.ts';
import { ClientSession } from './client-session.ts';
import type { CommandHost } from './port.ts';

/** Clients at a time; more are closed at once. Each costs at most a few MB when it misbehaves. */
const MAX_CLIENTS = 16;

export interface AttachServer {
  /** Ends all clients (their commands are killed) and removes the socket. */
  close(): Promise<void>;
}

/**
 * Listens at `path` with permissions 0600.
 * @throws {YavmError} YAVM_E_ATTACH_LISTEN
 */
export async function serveAttach(host: CommandHost, path: string, log: Logger): Promise<AttachServer> {
  const sessions = new Set<ClientSession>();
  const server = createServer((socket) => {
    if (sessions.size >= MAX_CLIENTS) {
      log.warn({ clients: sessions.size }, 'attach: too many clients, one more was refused');
      socket.destroy();
      return;
    }
    const session = new ClientSession(host, socket, log, () => sessions.delete(session));
    sessions.add(session);
  });
  await listen(server, path);
  // Its clients keep a supervisor alive only as long as its own command does.
  server.unref();
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      await closed;
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  try {
    await listenPrivately(server, path);
  } catch (error) {
    throw new YavmError('YAVM_E_ATTACH_LISTEN', `${path}: cannot listen for other processes`, {
      cause: error,
    });
  }
}
