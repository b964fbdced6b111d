/** A fake guest behind a GuestClient, served on an attach.sock, for one test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AttachClient } from '../../host/attach/client.ts';
import type { CommandHost, RunningCommand } from '../../host/attach/port.ts';
import { type AttachServer, serveAttach } from '../../host/attach/server.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { GuestClient } from '../../host/runtime/guest-client.ts';
import type { FakeGuest } from './fake-guest.ts';
import { startSession } from './guest-session.ts';

export interface Attached {
  guest: FakeGuest;
  /** The supervisor's own client. */
  supervisor: GuestClient;
  server: AttachServer;
  path: string;
  /** Commands that clients may adopt. */
  tokens: Map<string, RunningCommand>;
  /** Another process's client; closed at the end of the test. */
  connect(): Promise<AttachClient>;
}

export async function startAttached(
  t: { teardown(fn: () => unknown): void },
  options: { outputWait?: number } = {},
): Promise<Attached> {
  const { client: supervisor, guest } = await startSession(t, options);
  const folder = mkdtempSync(join(tmpdir(), 'yavm-attach-'));
  const path = join(folder, 'attach.sock');
  const tokens = new Map<string, RunningCommand>();
  const server = await serveAttach(hostOf(supervisor, tokens), path, silentLogger);
  t.teardown(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });
  const connect = async () => {
    const client = await AttachClient.connect(path, silentLogger);
    t.teardown(() => client.close());
    return client;
  };
  return { guest, supervisor, server, path, tokens, connect };
}

/** A VM's client as what attach serves. */
export function hostOf(
  client: GuestClient,
  tokens: ReadonlyMap<string, RunningCommand> = new Map(),
): CommandHost {
  return {
    runningAs: (token) => tokens.get(token),
    run: (spec) => client.run(spec),
    stats: () => client.request({ op: 'stats' }),
    readFiles: (path, sink, options) => client.readFiles(path, sink, options),
    writeFiles: (path, source, options) => client.writeFiles(path, source, options),
  };
}
