import t from 'tap';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import type { Passt, PasstEnd } from '../../host/network/outbound/passt.ts';
import { PasstKeeper } from '../../host/network/outbound/passt-keeper.ts';
import { checkPorts } from '../../host/network/outbound/published-ports.ts';
import type { HostNative } from '../../native/host-face.ts';
import { fakeNative } from '../lib/fake-native.ts';
import { startServer } from '../lib/http-server.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';

/** A passt that ends when it is told to. */
function fakePasst(fd: number): Passt & { end(orderly?: boolean): void; killed: boolean } {
  const exited = deferred<PasstEnd>();
  const passt = {
    pid: fd,
    fd,
    killed: false,
    exited: exited.promise,
    end: (orderly = false) =>
      exited.resolve({ error: new YavmError('YAVM_E_NET_PASST', `passt ${fd} ended`), orderly }),
    kill() {
      passt.killed = true;
      passt.end();
    },
  };
  return passt;
}

/** A keeper of one that runs; `next`: those that are started after it. */
function keeperOf(next: (Passt | Error)[] = []) {
  const first = fakePasst(1);
  const replaced: number[] = [];
  const { logger, records } = recordingLogger();
  const { native, only } = fakeNative();
  const keeper = new PasstKeeper(first, {
    native: native as HostNative,
    logger,
    async start() {
      const passt = next.shift() ?? new Error('none is left');
      if (passt instanceof Error) throw passt;
      return passt;
    },
    async replace(fd) {
      replaced.push(fd);
    },
  });
  return { keeper, first, replaced, records, closed: () => only('close').map(([, fd]) => fd) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

t.test('it is started anew once', async (t) => {
  const second = fakePasst(2);
  const { keeper, first, replaced, records } = keeperOf([second, fakePasst(3)]);
  first.end();
  await turn();
  t.strictSame(replaced, [2]);
  t.equal(keeper.restarts, 1);
  t.match(records, [{ level: 'warn', fields: { err: { message: 'passt 1 ended' } } }]);
  second.end();
  t.match(await keeper.failed, { code: 'YAVM_E_NET_PASST', cause: { message: 'passt 2 ended' } });
  t.equal(records.at(-1)?.level, 'error');
  t.strictSame(replaced, [2], 'and not a third time');
  await keeper.close();
});

t.test('one that cannot be started anew is the end', async (t) => {
  const { keeper, first } = keeperOf([new Error('no namespaces')]);
  first.end();
  t.match(await keeper.failed, { code: 'YAVM_E_NET_PASST', cause: { message: 'no namespaces' } });
});

t.test('closed in order: nothing is said, and nothing started', async (t) => {
  const { keeper, first, replaced, records } = keeperOf([fakePasst(2)]);
  // Its cable closes with the VM's, before it is closed itself.
  first.end(true);
  await keeper.close();
  t.equal(first.killed, true);
  t.strictSame([replaced, records, keeper.restarts], [[], [], 0]);
});

t.test('closed while another one starts: that one ends, and so does its cable', async (t) => {
  const late = deferred<Passt>();
  const second = fakePasst(2);
  const { logger } = recordingLogger();
  const { native, only } = fakeNative();
  const first = fakePasst(1);
  const keeper = new PasstKeeper(first, {
    native: native as HostNative,
    logger,
    start: () => late.promise,
    replace: () => Promise.reject(new Error('the thread is gone')),
  });
  first.end();
  await turn();
  const closed = keeper.close();
  late.resolve(second);
  await closed;
  t.equal(second.killed, true);
  t.strictSame(only('close'), [['close', 2]]);
});

t.test('ports that are taken', async (t) => {
  const { origin } = await startServer(t, (_, response) => response.end());
  const hostPort = Number(new URL(origin).port);
  const port = { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort, guestPort: 80 } as const;
  await t.rejects(checkPorts([port]), {
    code: 'YAVM_E_NET_PUBLISH',
    message: new RegExp(`port ${hostPort}`),
  });
  await t.rejects(checkPorts([{ ...port, hostAddress: '192.0.2.77', hostPort: 1 }]), {
    code: 'YAVM_E_NET_PUBLISH',
  });
  await checkPorts([
    { ...port, hostPort: 0 },
    { protocol: 'udp', hostPort: 0, guestPort: 5 },
  ]);
});
