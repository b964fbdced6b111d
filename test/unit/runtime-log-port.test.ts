import t from 'tap';
import { GuestLog, parseRecord } from '../../host/runtime/log-port.ts';
import { recordingLogger } from '../lib/guest-session.ts';

const bytes = (record: object | string) =>
  new TextEncoder().encode(typeof record === 'string' ? record : JSON.stringify(record));

t.test('records are passed on by level, with their fields', async (t) => {
  const { logger, records } = recordingLogger();
  const log = new GuestLog(logger);
  log.receive(bytes({ level: 30, time: 1, msg: 'up', module: 'ext4', size: 5 }));
  log.receive(bytes({ level: 45, msg: 'between' }));
  log.receive(bytes({ level: 10, msg: 'fine' }));
  t.match(records, [
    { level: 'info', text: 'guest: up', fields: { module: 'ext4', size: 5 } },
    { level: 'warn', text: 'guest: between' },
    { level: 'trace', text: 'guest: fine' },
  ]);
  t.notOk('time' in (records[0]?.fields ?? {}));
});

t.test('control characters and lengths do not get through', async (t) => {
  const record = parseRecord(JSON.stringify({ msg: `\u001b[2J${'x'.repeat(9000)}`, a: { b: '\u0007' } }));
  t.match(record?.message, /^\\x1b\[2Jx+…$/);
  t.ok((record?.message.length ?? 0) < 4200);
  t.equal(record?.fields.a, '{"b":"\\u0007"}');
  const many = parseRecord(
    JSON.stringify(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k${i}`, i]))),
  );
  t.equal(Object.keys(many?.fields ?? {}).length, 16);
});

t.test('what is no record is quoted as a warning', async (t) => {
  const { logger, records } = recordingLogger();
  const log = new GuestLog(logger);
  for (const text of ['not json \u001b', '[1]', 'null', '"text"']) log.receive(bytes(text));
  t.strictSame(
    records.map(({ level, text }) => `${level} ${text}`),
    ['warn guest: not json \\x1b', 'warn guest: [1]', 'warn guest: null', 'warn guest: "text"'],
  );
});

t.test('the last words of an agent are kept', async (t) => {
  const log = new GuestLog(recordingLogger().logger);
  t.equal(log.lastWords, null);
  log.receive(bytes({ level: 60, msg: 'TypeError: x', stack: '    at init.ts:3' }));
  t.match(log.lastWords, /TypeError: x\n {4}at init/);
});

t.test('a flood is cut, counted, and slows its sender', async (t) => {
  const { logger, records } = recordingLogger();
  let now = 0;
  const log = new GuestLog(logger, () => now);
  let pauses = 0;
  for (let count = 0; count < 50_000; count++)
    pauses += log.receive(bytes({ level: 30, msg: 'spam' })) > 0 ? 1 : 0;
  t.equal(records.length, 1000, 'one burst');
  t.ok(pauses > 1000, 'the port is to be paused');
  now += 5000;
  t.equal(log.receive(bytes({ level: 30, msg: 'later' })), 0);
  t.match(records.at(-2), { level: 'warn', fields: { dropped: 49_000 } });
  t.match(records.at(-1), { text: 'guest: later' });
});
