import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { GsbRouter } from '../../host/node/router.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { type RouterTimes, routerSuite } from '../lib/router-suite.ts';

async function start(t: Test, address: GsbAddress, times?: RouterTimes): Promise<GsbAddress> {
  const router = new GsbRouter(times);
  t.teardown(() => router.close());
  return await router.listen(address);
}

t.test('the embedded router over a Unix socket', (t) => {
  routerSuite(t, (t, times) =>
    start(t, { kind: 'unix', path: join(socketFolder(t), 'bus/gsb.sock') }, times),
  );
  t.end();
});

t.test('the embedded router over TCP', (t) => {
  routerSuite(t, (t, times) => start(t, { kind: 'tcp', host: '127.0.0.1', port: 0 }, times));
  t.end();
});
