import t from 'tap';
import { Qmp } from '../../host/runtime/qmp.ts';
import { FakeMonitor } from '../lib/fake-qemu.ts';
import { Random } from '../lib/random.ts';
import { socketPair } from '../lib/socket-pairs.ts';

async function connect(t: { teardown(fn: () => void): void }): Promise<{ qmp: Qmp; monitor: FakeMonitor }> {
  const pair = await socketPair();
  const qmp = new Qmp(pair.connect);
  const monitor = new FakeMonitor(await pair.peer);
  t.teardown(() => {
    qmp.close();
    monitor.close();
  });
  return { qmp, monitor };
}

t.test('greeting, commands, events', async (t) => {
  const { qmp, monitor } = await connect(t);
  monitor.greet();
  t.equal(await qmp.negotiate(1000), '7.2.22');
  monitor.event('SHUTDOWN', { guest: true, reason: 'guest-reset' });
  t.match(await qmp.execute('query-chardev'), [{}, { label: 'console' }]);
  t.strictSame(monitor.commands, ['qmp_capabilities', 'query-chardev']);
  t.match(qmp.events, [{ event: 'SHUTDOWN', data: { reason: 'guest-reset' } }]);
});

t.test('refusals and silence are errors with names', async (t) => {
  const { qmp, monitor } = await connect(t);
  await t.rejects(qmp.negotiate(20), { code: 'YAVM_E_TIMEOUT' });
  monitor.refuse = true;
  await t.rejects(qmp.execute('quit'), { code: 'YAVM_E_QMP', message: /refuses 'quit': not \\x1b today/ });
  monitor.close();
  await qmp.closed;
  await t.rejects(qmp.execute('quit'), { code: 'YAVM_E_QMP', message: /closed/ });
});

t.test('a pending command fails when QEMU goes', async (t) => {
  const { qmp, monitor } = await connect(t);
  monitor.onCommand = () => monitor.close();
  monitor.refuse = true;
  await t.rejects(qmp.execute('quit'), { code: 'YAVM_E_QMP' });
});

t.test('whatever comes: no crash, and no memory beyond a line', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const lines = [
    '{"return": {}, "id": 99}',
    '[1]',
    'null',
    '{"event": 5}',
    '{"QMP": 1}',
    '{"id": "x"}',
    '{}',
    'x{',
  ];
  for (let round = 0; round < 100; round++) {
    const { qmp, monitor } = await connect({ teardown: () => {} });
    monitor.send(`${random.pick(lines)}\n`);
    monitor.send(Buffer.from(random.bytes(50)).toString('latin1'));
    monitor.send('\n]\n');
    await qmp.closed;
    monitor.close();
  }
  const { qmp, monitor } = await connect(t);
  monitor.send('x'.repeat(2 * 1024 * 1024));
  await t.rejects(qmp.negotiate(5000), { code: 'YAVM_E_QMP', message: /a line of more than/ });
  const many = await connect(t);
  for (let count = 0; count < 500; count++) many.monitor.event('RTC_CHANGE', { count });
  many.monitor.greet();
  await many.qmp.negotiate(1000);
  t.equal(many.qmp.events.length, 100);
  t.match(many.qmp.events.at(-1), { data: { count: 499 } });
});
