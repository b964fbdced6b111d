/** How a template's state is written and read, against a monitor that is none. */
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import t from 'tap';
import { Qmp } from '../../host/runtime/qmp.ts';
import { loadState, saveState } from '../../host/runtime/template/monitor.ts';
import { FakeMonitor } from '../lib/fake-qemu.ts';
import { socketPair } from '../lib/socket-pairs.ts';

const DEADLINE = { deadline: 60_000 };
const SHORT = { deadline: 50 };

async function monitored(t: { teardown(fn: () => void): void }) {
  const pair = await socketPair();
  const qmp = new Qmp(pair.connect);
  const monitor = new FakeMonitor(await pair.peer);
  t.teardown(() => {
    qmp.close();
    monitor.close();
  });
  monitor.greet();
  await qmp.negotiate(10_000);
  monitor.commands.length = 0;
  return { qmp, monitor };
}

/** Statuses that `query-migrate` tells, one after the other; the last stays. */
function tells(monitor: FakeMonitor, ...statuses: object[]): void {
  monitor.returns = (command) =>
    command !== 'query-migrate' ? undefined : statuses.length > 1 ? statuses.shift() : statuses[0];
}

/** QEMU's part of a migration: connects and writes. @returns the socket's path */
function writes(monitor: FakeMonitor, ...pieces: string[]): { socket: string } {
  const seen = { socket: '' };
  monitor.onCommand = (command, { uri }) => {
    if (command !== 'migrate') return;
    seen.socket = String(uri).replace(/^unix:/, '');
    const socket = connect(seen.socket);
    for (const piece of pieces) socket.write(piece);
    socket.end();
  };
  return seen;
}

t.test('a state is written whole, to a file of the user alone, and its socket goes', async (t) => {
  const { qmp, monitor } = await monitored(t);
  const seen = writes(monitor, 'first ', 'second');
  tells(monitor, {}, { status: 'setup' }, { status: 'active' }, { status: 'completed' });
  const path = join(t.testdir(), 'state');
  await saveState(qmp, path, DEADLINE);
  t.equal(readFileSync(path, 'utf8'), 'first second');
  t.strictSame(monitor.commands.slice(0, 2), ['migrate-set-capabilities', 'migrate']);
  t.not(seen.socket, '');
  t.notOk(existsSync(dirname(seen.socket)));
});

t.test('what goes wrong has a name, and leaves no socket', async (t) => {
  const stories: [string, object, { code: string; message?: RegExp }][] = [
    [
      'it fails',
      { status: 'failed', 'error-desc': 'no \u001b way' },
      { code: 'YAVM_E_TEMPLATE', message: /way/ },
    ],
    ['it is given up', { status: 'cancelled' }, { code: 'YAVM_E_TEMPLATE', message: /cancelled/ }],
    ['it does not end', { status: 'active' }, { code: 'YAVM_E_TIMEOUT' }],
  ];
  for (const [what, status, error] of stories) {
    const { qmp, monitor } = await monitored(t);
    const seen = writes(monitor, 'half');
    tells(monitor, status);
    await t.rejects(saveState(qmp, join(t.testdir(), 'state'), SHORT), error);
    t.notOk(existsSync(dirname(seen.socket)), what);
  }
  const { qmp, monitor } = await monitored(t);
  monitor.refuse = true;
  await t.rejects(saveState(qmp, join(t.testdir(), 'state'), DEADLINE), { code: 'YAVM_E_QMP' });
});

t.test('nobody connects, though it is said to be over: the wait has an end', async (t) => {
  const { qmp, monitor } = await monitored(t);
  tells(monitor, { status: 'completed' });
  await t.rejects(saveState(qmp, join(t.testdir(), 'state'), SHORT), { code: 'YAVM_E_TIMEOUT' });
});

t.test('a signal ends it', async (t) => {
  const { qmp, monitor } = await monitored(t);
  writes(monitor, 'half');
  tells(monitor, { status: 'active' });
  const given = new AbortController();
  const saving = saveState(qmp, join(t.testdir(), 'state'), { ...DEADLINE, signal: given.signal });
  given.abort(new Error('enough'));
  await t.rejects(saving, { message: 'enough' });
});

t.test('a state is read from a descriptor, and the machine goes on by itself', async (t) => {
  const { qmp, monitor } = await monitored(t);
  const uris: unknown[] = [];
  monitor.onCommand = (command, { uri }) => {
    if (command === 'migrate-incoming') uris.push(uri);
  };
  await loadState(qmp, 7, DEADLINE);
  t.strictSame(uris, ['fd:7']);
  t.strictSame(monitor.commands.slice(-3), [
    'migrate-set-capabilities',
    'migrate-set-parameters',
    'migrate-incoming',
  ]);
});

t.test('a descriptor that QEMU does not take', async (t) => {
  const { qmp, monitor } = await monitored(t);
  monitor.refuse = true;
  await t.rejects(loadState(qmp, 7, DEADLINE), { code: 'YAVM_E_QMP' });
});
