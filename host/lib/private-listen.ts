/** Unix sockets that only their owner can open. */
import { chmodSync } from 'node:fs';
import type { Server } from 'node:net';

/**
 * Listens at `path` with permissions 0600. bind() happens inside `listen`, so the socket is never there with wider ones.
 * Not for worker threads: they have no umask of their own.
 * @throws what bind or listen fails with
 */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
  chmodSync(path, 0o600);
}
