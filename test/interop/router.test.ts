/**
 * The suite of the embedded router against the real one: `make interop` builds it (crate ya-sb-router) and names it in
 * YAVM_REAL_ROUTER.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { formatGsbUrl } from '../../host/gsb/address.ts';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { sleep, withDeadline } from '../../host/lib/deadline.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { type RouterTimes, routerSuite } from '../lib/router-suite.ts';

const program = process.env.YAVM_REAL_ROUTER;
const skip = program === undefined && 'no real router: make interop builds one where cargo is';

t.test('the real router over a Unix socket', { skip }, (t) => {
  routerSuite(t, (t, times) => start(t, { kind: 'unix', path: join(socketFolder(t), 'gsb.sock') }, times));
  t.end();
});

t.test('the real router over TCP', { skip }, (t) => {
  routerSuite(t, async (t, times) =>
    start(t, { kind: 'tcp', host: '127.0.0.1', port: await freePort() }, times),
  );
  t.end();
});

/** Starts it, and waits until it takes connections. */
async function start(t: Test, address: GsbAddress, times: RouterTimes = {}): Promise<GsbAddress> {
  const options = [
    ['--ping-interval', times.pingInterval],
    ['--ping-timeout', times.pingTimeout],
    ['--forward-timeout', times.stalledAfter],
  ].flatMap(([option, time]) => (time === undefined ? [] : [String(option), `${time}ms`]));
  const child = spawn(program as string, ['-l', formatGsbUrl(address), '--log-level', 'error', ...options], {
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await withDeadline(listening(address), 10_000, 'the real router');
  return address;
}

/** It says nothing when it is ready, so it is tried. */
async function listening(address: GsbAddress): Promise<void> {
  for (;;) {
    const socket = connect(address.kind === 'unix' ? { path: address.path } : address);
    const up = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (up) return;
    await sleep(20);
  }
}

/** A port that was free a moment ago: the router cannot say which one it got. */
async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('the system gave no port');
  return address.port;
}
