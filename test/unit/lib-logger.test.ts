import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import { createLogger, isLogLevel, plainLine, printable, silentLogger } from '../../host/lib/logger.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-log-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const linesOf = (file: string) => readFileSync(file, 'utf8').trimEnd().split('\n');

t.test('a log file holds JSON lines of the chosen level, readable by its owner alone', async (t) => {
  const file = join(folder, 'a.log');
  const before = Date.now();
  const log = createLogger({ level: 'info', file });
  log.debug('left out');
  log.info('first');
  log.child({ vm: 'x1' }).warn({ err: new Error('boo') }, 'second');
  t.equal(log.enabled('debug'), false);
  t.equal(log.enabled('info'), true);
  await log.close();
  log.error('after the end');
  const records = linesOf(file).map((line) => JSON.parse(line));
  t.match(records, [
    { level: 30, msg: 'first' },
    { level: 40, vm: 'x1', msg: 'second', err: { message: 'boo', stack: /boo/ } },
  ]);
  t.equal(records.length, 2);
  t.ok(records[0].time >= before && records[0].time <= Date.now());
  t.equal(statSync(file).mode & 0o777, 0o600);
});

t.test('a file that cannot be written is an error with its name', async (t) => {
  t.throws(() => createLogger({ file: join(folder, 'no/such/file') }), {
    code: 'YAVM_E_LOG_FILE',
    message: /no\/such\/file/,
  });
});

t.test('on a terminal a record is one plain line, an error with its stack', async (t) => {
  const file = join(folder, 'plain.log');
  const descriptor = openSync(file, 'w');
  createLogger({ level: 'debug', plain: true, descriptor }).debug(
    { path: '/a b', n: 3, x: undefined },
    'text',
  );
  closeSync(descriptor);
  t.same(linesOf(file), ['ya-vm debug: text path="/a b" n=3']);
  t.match(
    plainLine({ level: 'warn', message: 'm', fields: { err: new Error('e') } }),
    /^ya-vm warn: m err="e"\nError: e\n/,
  );
});

t.test('control characters of a guest do not reach the terminal', async (t) => {
  t.equal(printable('a\u001b[31mb\u0007\r\n\tc\u009b'), 'a\\x1b[31mb\\x07\\x0d\n\tc\\x9b');
  t.match(plainLine({ level: 'warn', message: 'x\u001b[2J', fields: {} }), /x\\x1b\[2J/);
});

t.test('only a log that writes loads pino', async (t) => {
  const loadsPino = (level: string) => {
    const script = `
      import Module from 'node:module';
      import { createLogger } from ${JSON.stringify(resolve('host/lib/logger.ts'))};
      const log = createLogger({ level: 'warn', file: '/dev/null' });
      log.${level}('text');
      await log.close();
      process.stdout.write(String(Object.keys(Module._cache).some((path) => path.includes('/pino/'))));
    `;
    const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
    return execFileSync(process.execPath, flags).toString();
  };
  t.equal(loadsPino('info'), 'false');
  t.equal(loadsPino('warn'), 'true');
});

t.test('levels are known by name', async (t) => {
  t.equal(isLogLevel('debug'), true);
  t.equal(isLogLevel('silent'), true);
  t.equal(isLogLevel('loud'), false);
  silentLogger.error('nothing happens');
  t.equal(silentLogger.enabled('fatal'), false);
});
