/** Connected UNIX sockets without the addon: a server on a path of its own, for one connection each. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type OnReadOpts, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SocketPair {
  /** Makes the near end; to be called once. */
  connect(onread: OnReadOpts): Socket;
  /** The far end, once the near one is made. */
  peer: Promise<Socket>;
}

export async function socketPair(): Promise<SocketPair> {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-pair-'));
  const path = join(folder, 's');
  const server = createServer({ allowHalfOpen: false });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const peer = new Promise<Socket>((resolve) => {
    server.once('connection', (socket) => {
      server.close();
      rmSync(folder, { recursive: true, force: true });
      socket.on('error', () => {});
      resolve(socket);
    });
  });
  server.unref();
  return { connect: (onread) => connect({ path, onread }), peer };
}
