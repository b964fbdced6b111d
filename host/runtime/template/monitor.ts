/** QEMU's migration commands: how a template's state is written, and how it is read. */
import { chownSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { sleep, withDeadline } from '../../lib/deadline.ts';
import { deferred } from '../../lib/deferred.ts';
import { YavmError } from '../../lib/errors.ts';
import { listenPrivately } from '../../lib/private-listen.ts';
import { qemuUser } from '../privileges.ts';
import type { Qmp } from '../qmp.ts';
import { makeSocketFolder, removeSocketFolder, SOCKET_NOTE } from './socket-folder.ts';

/** Memory that lies in a shared file stays there, and is not part of the state. */
const CAPABILITIES = [{ capability: 'x-ignore-shared', state: true }];
/** A state has 0.3 to 0.6 MB; bytes. */
export const MAX_STATE = 64 * 1024 * 1024;
/** Milliseconds between two looks at how far it is. */
const POLL = 2;

export interface MonitorOptions {
  /** Milliseconds in all. */
  deadline: number;
  signal?: AbortSignal;
}

/**
 * Writes the state of a machine to a new file at `path`, and stops it for good. It is to run: what goes on from its state
 * then does so by itself. `exec:` is denied by the sandbox and `fd:` takes only descriptors that came through the monitor,
 * so it goes through a socket, which has a name until QEMU has connected.
 * @throws {YavmError} YAVM_E_TEMPLATE, YAVM_E_QMP, YAVM_E_TIMEOUT; what writing fails with
 */
export async function saveState(
  monitor: Qmp,
  path: string,
  { deadline, signal }: MonitorOptions,
): Promise<void> {
  // QEMU's user must reach it, which may not enter the folder of the template.
  const note = join(dirname(path), SOCKET_NOTE);
  const server = createServer();
  const file = await open(path, 'wx', 0o600);
  try {
    const folder = makeSocketFolder(note);
    const socketPath = join(folder, 'state');
    await listenPrivately(server, socketPath);
    const user = qemuUser();
    if (user !== null) for (const each of [folder, socketPath]) chownSync(each, user.uid, user.gid);
    const written = writeWhatComes(server, file);
    written.catch(() => {});
    await monitor.execute('migrate-set-capabilities', { capabilities: CAPABILITIES });
    await monitor.execute('migrate', { uri: `unix:${socketPath}` });
    await migrated(monitor, { deadline, signal });
    await withDeadline(written, deadline, 'the end of the state', { signal });
    await file.datasync();
  } finally {
    server.close();
    await file.close();
    removeSocketFolder(note);
  }
}

/** Resolves when the first who connects has closed. */
async function writeWhatComes(server: Server, file: FileHandle): Promise<void> {
  const { promise, resolve, reject } = deferred<Socket>();
  server.once('connection', resolve);
  server.once('error', reject);
  const socket = await promise;
  server.close();
  let size = 0;
  for await (const piece of socket as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > MAX_STATE) throw new YavmError('YAVM_E_TEMPLATE', `a state of more than ${MAX_STATE} bytes`);
    await file.write(piece);
  }
}

/**
 * Has a machine that was started with `-incoming defer` read its state, and go on from there: it ran when that was saved.
 * Resolves when it has begun. A state that it cannot read ends QEMU.
 * @param fd QEMU's number of the open file
 * @throws {YavmError} YAVM_E_QMP, YAVM_E_TIMEOUT
 */
export async function loadState(monitor: Qmp, fd: number, { deadline }: MonitorOptions): Promise<void> {
  // All at once: they are carried out one after the other, and each answer would cost a way back and forth.
  await Promise.all([
    monitor.execute('migrate-set-capabilities', { capabilities: CAPABILITIES }, deadline),
    // Else QEMU tells the networks where its NICs are now (RARP), as after a real migration: peers would hear of a VM that
    // has said nothing.
    monitor.execute('migrate-set-parameters', { 'announce-rounds': 0 }, deadline),
    monitor.execute('migrate-incoming', { uri: `fd:${fd}` }, deadline),
  ]);
}

/** Waits until it is over. */
async function migrated(monitor: Qmp, { deadline, signal }: MonitorOptions): Promise<void> {
  const end = performance.now() + deadline;
  for (;;) {
    const { status, 'error-desc': why } = (await monitor.execute('query-migrate')) as Record<string, unknown>;
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') {
      throw new YavmError('YAVM_E_TEMPLATE', `QEMU's state: ${String(why ?? status)}`);
    }
    if (performance.now() > end)
      throw new YavmError('YAVM_E_TIMEOUT', `no end of QEMU's migration within ${deadline} ms`);
    await sleep(POLL, signal);
  }
}
