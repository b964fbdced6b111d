import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { CommandRow } from '../../host/cli/commands.ts';
import { COMMANDS } from '../../host/cli/commands.ts';
import { addActivityOptions, addSupervisorOptions } from '../../host/cli/exe-unit-options.ts';
import { nameFirst, wantedCommand } from '../../host/cli/leading.ts';
import { runProgram } from '../../host/cli/program.ts';
import { withDotEnv } from '../../host/exe-unit/environment.ts';
import { levelOf, openLog, tee } from '../../host/exe-unit/log.ts';
import { type ExeUnitOptions, readExeUnitOptions } from '../../host/exe-unit/options.ts';
import { Redactor, redacted } from '../../host/exe-unit/redact.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { testContext } from '../lib/cli.ts';
import { keepingLogger } from '../lib/supervisor-log.ts';
import type { Owner } from '../lib/vm.ts';

function folder(t: Owner): string {
  const path = mkdtempSync(join(tmpdir(), 'yavm-exe-unit-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const FILES = ['-a', 'agreement.json', '-w', 'work', '-c', 'cache'];
const ACTIVITY = ['service-bus', 'a1', '/local/activity'];

/** Parses a command line with the real table's rows, whose commands only tell what they got. */
async function parse(words: string[], env: Record<string, string> = {}) {
  const seen: ExeUnitOptions[] = [];
  const row = COMMANDS.find(({ name }) => name === 'service-bus') as CommandRow;
  const table: CommandRow[] = COMMANDS.map((each) =>
    each.name !== 'service-bus'
      ? each
      : {
          ...row,
          load: async () => ({
            define(command, act) {
              command.argument('<activity-id>').argument('<report-url>');
              addActivityOptions(command);
              addSupervisorOptions(command);
              act(command, async (context, options, [activityId, reportUrl]) => {
                seen.push(readExeUnitOptions({ ...options, activityId, reportUrl }, context.env));
                return 0;
              });
            },
          }),
        },
  );
  const context = { ...testContext(), env };
  const code = await runProgram(words, context, table);
  return { code, options: seen[0], err: context.err(), out: context.out() };
}

t.test('the command line of a provider', async (t) => {
  const { code, options, out } = await parse([
    ...['--cap-handoff', ...ACTIVITY, '-c', '/data/cache', '-w', '/data/work', '-a', '/data/agreement.json'],
    ...['--requestor-pub-key', '02ab'],
  ]);
  t.equal(code, 0);
  t.equal(out, '');
  t.same(options, {
    activityId: 'a1',
    reportUrl: '/local/activity',
    agreement: '/data/agreement.json',
    workFolder: '/data/work',
    cacheFolder: '/data/cache',
    limitsWatched: false,
    accel: 'kvm',
    gpu: {},
    warnings: [],
  });
});

t.test('every option of the exe-unit stands before or after the subcommand', async (t) => {
  const options: [string[], Partial<ExeUnitOptions>][] = [
    [['-b', '/usr/bin/vm'], { warnings: ['-b /usr/bin/vm: not executed, ya-vm is its own runtime'] }],
    [['--binary=/usr/bin/vm'], { warnings: ['-b /usr/bin/vm: not executed, ya-vm is its own runtime'] }],
    [
      ['-r', '--gpu', '-r', 'service-bus'],
      { warnings: ['-r: 2 arguments for another runtime have no effect'] },
    ],
    [
      ['-r', '--pci-device=01:00.0', '--runtime-arg', 'x'],
      {
        gpu: { gpu: { kind: 'pci', slots: ['0000:01:00.0'] } },
        warnings: ['-r: 1 arguments for another runtime have no effect'],
      },
    ],
    [['--runtime-arg', 'x'], { warnings: ['-r: 1 arguments for another runtime have no effect'] }],
    [['--cap-handoff'], { limitsWatched: false }],
    [['--runtime-managed-hardware'], { limitsWatched: false }],
    [['--runtime-managed-image'], { limitsWatched: true }],
    [['--sec-key', 'from-file'], { limitsWatched: true }],
    [['--requestor-pub-key', '02ab'], { limitsWatched: true }],
    [['--accel', 'tcg'], { accel: 'tcg' }],
    [['--log-level', 'debug'], { accel: 'kvm' }],
  ];
  for (const [words, expected] of options) {
    for (const line of [
      [...words, ...ACTIVITY, ...FILES],
      [...ACTIVITY, ...words, ...FILES],
      [...ACTIVITY, ...FILES, ...words],
    ]) {
      const { code, options, err } = await parse(line);
      t.equal(code, 0, `${line.join(' ')}: ${err}`);
      t.match(options, { activityId: 'a1', ...expected }, line.join(' '));
    }
  }
});

t.test('what is wrong is told on standard error, with exit code 1', async (t) => {
  const cases: [string[], RegExp][] = [
    [[...ACTIVITY, '-a', 'x', '-w', 'y'], /--cache-dir/],
    [['service-bus', 'a1', ...FILES], /missing required argument 'report-url'/],
    [[...ACTIVITY, ...FILES, '--wrong'], /unknown option/],
    [[...ACTIVITY, ...FILES, 'extra'], /too many arguments/],
    [['service-bus', 'a/b', '/local/activity', ...FILES], /'a\/b' is no activity id/],
    [['service-bus', '', '/local/activity', ...FILES], /no activity id/],
    [['service-bus', 'a1', 'not an address', ...FILES], /no address on the bus/],
    [[...ACTIVITY, ...FILES, '--accel', 'fpga'], /'fpga' is no accelerator/],
    [[...ACTIVITY, '-a', '', '-w', 'y', '-c', 'z'], /--agreement is missing/],
    [['from-file', 'script.json'], /--agreement/],
  ];
  for (const [words, message] of cases) {
    const { code, err, out } = await parse(words);
    t.equal(code, 1, words.join(' '));
    t.match(err, message);
    t.equal(out, '');
  }
});

t.test('YA_VM_ACCEL chooses, the option before it', async (t) => {
  t.match(await parse([...ACTIVITY, ...FILES], { YA_VM_ACCEL: 'tcg' }), { options: { accel: 'tcg' } });
  t.match(await parse([...ACTIVITY, ...FILES], { YA_VM_ACCEL: '' }), { options: { accel: 'kvm' } });
  const both = await parse(['--accel', 'auto', ...ACTIVITY, ...FILES], { YA_VM_ACCEL: 'tcg' });
  t.match(both, { options: { accel: 'auto' } });
  t.equal((await parse([...ACTIVITY, ...FILES], { YA_VM_ACCEL: 'yes' })).code, 1);
});

t.test('the name goes first only for commands that take options before it', async (t) => {
  const table = [
    {
      name: 'work',
      leading: [
        { flags: ['-b'], takesValue: true },
        { flags: ['-x'], takesValue: false },
      ],
    },
    { name: 'plain' },
  ];
  t.same(nameFirst(['-b', 'plain', '-x', 'work', '-y', '--', '-b'], table), [
    ...['work', '-b', 'plain', '-x', '-y', '--', '-b'],
  ]);
  t.throws(() => nameFirst(['-x', 'plain', 'a'], table), { code: 'YAVM_E_USAGE' });
  t.same(nameFirst(['help', 'work'], table), ['help', 'work']);
  t.same(nameFirst([], table), []);
  t.equal(wantedCommand(['-b', 'plain', 'help', 'work'], table), 'work');
});

// ---------------------------------------------------------------- environment and log

t.test('a .env of the folder or one above adds variables, and replaces none', async (t) => {
  const top = folder(t);
  const deep = join(top, 'a/b');
  const env = { HAVE: 'mine' };
  writeFileSync(join(top, '.env'), 'HAVE=other\nGSB_URL="tcp://127.0.0.1:1"\n');
  t.same(withDotEnv(env, deep), { HAVE: 'mine', GSB_URL: 'tcp://127.0.0.1:1' });
  t.same(withDotEnv(env, join(top, 'not-there')), { HAVE: 'mine', GSB_URL: 'tcp://127.0.0.1:1' });
});

t.test('levels are read from filters as Rust programs take them', async (t) => {
  const cases: [string | undefined, string][] = [
    [undefined, 'info'],
    ['', 'info'],
    ['debug,tokio_util=off,h2=info', 'debug'],
    ['h2=debug,WARN', 'warn'],
    ['off', 'silent'],
    ['nonsense', 'info'],
  ];
  for (const [filter, level] of cases) t.equal(levelOf(filter, 'info'), level, String(filter));
});

t.test('the log: JSON lines in the folder, the activity on each, when the first work is done', async (t) => {
  const top = folder(t);
  const gate = deferred<void>();
  const { logger, folder: logs } = openLog({
    env: { EXE_UNIT_FILE_LOG_LEVEL: 'info' },
    folder: top,
    activityId: 'a/1',
    terminal: false,
    after: gate.promise,
  });
  t.equal(logs, join(top, 'logs'));
  logger.info('first');
  logger.debug('not this one');
  logger.child({ batch: 'b1' }).warn({ n: 1 }, 'second');
  const file = join(logs, 'exe-unit_a_1.log');
  t.equal(readFileSync(file, 'utf8'), '');
  gate.resolve();
  await logger.close();
  const lines = readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.match(lines, [
    { level: 30, activity: 'a/1', msg: 'first' },
    { level: 40, activity: 'a/1', batch: 'b1', n: 1, msg: 'second' },
  ]);
  t.equal(lines.length, 2);
});

t.test('EXE_UNIT_LOG_DIR is another folder; one that cannot be made is said', async (t) => {
  const top = folder(t);
  const { logger } = openLog({ env: { EXE_UNIT_LOG_DIR: 'x/y' }, folder: top, terminal: false });
  await logger.close();
  t.ok(existsSync(join(top, 'x/y/exe-unit.log')));
  t.throws(() => openLog({ env: { EXE_UNIT_LOG_DIR: 'x/y/exe-unit.log/z' }, folder: top, terminal: false }), {
    code: 'YAVM_E_LOG_FILE',
  });
});

t.test(
  'secrets never reach the log: credentials and queries of URLs, values of the environment',
  async (t) => {
    const redactor = new Redactor();
    redactor.add(['s3cret-value', 's3cret-value-longer', 'short', '1']);
    const cases: [string, string][] = [
      ['get https://joe:pw@host/x?sig=abc&n=1#top', 'get https://***@host/x?sig=***&n=***#top'],
      ['hash:sha3:ab:http://token@host:80/y.gvmi', 'hash:sha3:ab:http://***@host:80/y.gvmi'],
      ['gftp://0xab/cd and "ftp://u:p@h"', 'gftp://0xab/cd and "ftp://***@h"'],
      ['KEY=s3cret-value-longer, s3cret-value', 'KEY=***, ***'],
      ['1 short word', '1 short word'],
    ];
    for (const [text, expected] of cases) t.equal(redactor.text(text), expected);

    const { logger, records } = keepingLogger();
    const safe = redacted(logger, redactor).child({ url: 'http://a:b@c/' });
    const error = new YavmError('YAVM_E_HTTP', 'no s3cret-value', { cause: new Error('from http://u:p@h/') });
    safe.warn(
      { err: error, list: ['s3cret-value', { deep: 'http://u:p@h' }], bytes: Buffer.from('s3') },
      'at s3cret-value',
    );
    safe.info('s3cret-value');
    const text = JSON.stringify(records, (_, value) =>
      value instanceof Error ? [value.message, value.stack, value.cause, { ...value }] : value,
    );
    t.notMatch(text.replaceAll('***', ''), /s3cret|u:p@|a:b@/);
    t.match(records[0], {
      level: 'warn',
      message: 'at ***',
      fields: { url: 'http://***@c/', err: { message: 'no ***', code: 'YAVM_E_HTTP', name: 'YavmError' } },
    });
    t.type(records[0]?.fields.err, Error, 'so that its stack is written');
  },
);

t.test('a tee writes to each of its loggers, each at its own level', async (t) => {
  const [one, two] = [keepingLogger(), keepingLogger()];
  const quiet = { ...two.logger, enabled: () => false };
  const both = tee([one.logger, quiet]);
  both.child({ a: 1 }).error({ b: 2 }, 'x');
  for (const { records } of [one, two])
    t.match(records, [{ level: 'error', fields: { a: 1, b: 2 }, message: 'x' }]);
  t.equal(both.enabled('trace'), true);
  t.equal(tee([quiet]).enabled('trace'), false);
});

t.test('what the command line says of the log comes before the environment', async (t) => {
  const top = folder(t);
  const { logger } = openLog({
    env: { EXE_UNIT_FILE_LOG_LEVEL: 'error', EXE_UNIT_LOG_DIR: 'logs' },
    folder: top,
    terminal: false,
    logLevel: 'warn',
    logFile: join(top, 'mine.log'),
  });
  logger.info('not this');
  logger.warn('this');
  await logger.close();
  t.match(readFileSync(join(top, 'mine.log'), 'utf8'), /^\{[^\n]*"this"[^\n]*\}\n$/);
});
