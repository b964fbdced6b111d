import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Act, CommandRow } from '../../host/cli/commands.ts';
import { COMMANDS } from '../../host/cli/commands.ts';
import { print } from '../../host/cli/context.ts';
import { EXIT } from '../../host/cli/exit.ts';
import { wantedCommand } from '../../host/cli/leading.ts';
import { runProgram } from '../../host/cli/program.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { testContext } from '../lib/cli.ts';

/** A table with one command that does what it is told, and one whose module must not be loaded. */
function table(handler: Parameters<Act>[1]): CommandRow[] {
  return [
    {
      name: 'work',
      summary: 'does it',
      load: async () => ({
        define(command, act) {
          command.argument('[word...]').option('--flag').passThroughOptions();
          act(command, handler);
        },
      }),
    },
    {
      name: 'other',
      summary: 'is not asked for',
      load: () => Promise.reject(new Error('loaded though nobody asked for it')),
    },
  ];
}

async function program(words: string[], handler: Parameters<Act>[1] = async () => 0) {
  const context = testContext();
  const code = await runProgram(words, context, table(handler));
  return { code, out: context.out(), err: context.err() };
}

t.test('a command gets its options and words, and its code is the exit code', async (t) => {
  const { code, out } = await program(
    ['work', '--flag', '--', 'a', '--b'],
    async (context, options, operands) => {
      await print(context, JSON.stringify([options.flag, operands]));
      return 7;
    },
  );
  t.equal(code, 7);
  t.equal(out, '[true,[["a","--b"]]]\n');
});

t.test('words after the command belong to it, without -- too', async (t) => {
  const { out } = await program(['work', 'ls', '--flag', '-l'], async (context, options, operands) => {
    await print(context, JSON.stringify([options.flag ?? null, operands]));
    return 0;
  });
  t.equal(out, '[null,[["ls","--flag","-l"]]]\n');
});

t.test('an error is one line with its code and a hint, on standard error', async (t) => {
  const { code, out, err } = await program(['work'], async () => {
    throw new YavmError('YAVM_E_IMAGE', 'it broke\u001b[31m', {
      cause: new Error('deep down'),
      hint: 'Mend it.',
    });
  });
  t.equal(code, EXIT.failure);
  t.equal(out, '');
  t.equal(err, 'ya-vm: it broke\\x1b[31m: deep down (YAVM_E_IMAGE)\n  hint: Mend it.\n');
});

t.test('an error that nobody foresaw says so; its stack comes when it is asked for', async (t) => {
  const bug = async () => {
    throw new TypeError('x is undefined');
  };
  const plain = await program(['work'], bug);
  t.match(plain, {
    code: EXIT.failure,
    err: /^ya-vm: unexpected error: x is undefined \(YAVM_E_INTERNAL\)\n {2}hint: .*debug/,
  });
  t.notMatch(plain.err, /at bug/);
  for (const words of [
    ['--log-level', 'debug', 'work'],
    ['work', '--log-level=debug'],
  ]) {
    t.match((await program(words, bug)).err, /at bug .*cli-program/, words.join(' '));
  }
});

t.test('bad usage is told in one line, with a pointer to the help', async (t) => {
  const cases: [string[], RegExp][] = [
    [['work', '--wrong'], /unknown option '--wrong'.*\n.*'ya-vm work --help' shows what it takes\.$/m],
    [['work', '--flog'], /unknown option '--flog' \(.*\n {2}hint: Did you mean --flag\? 'ya-vm work/],
    [['nothing'], /unknown command 'nothing'.*\n.*'ya-vm --help' shows the commands/],
    [['wrok'], /unknown command 'wrok' \(.*\n {2}hint: Did you mean work\?/],
    [['--log-level', 'loud', 'work'], /--log-level: 'loud' is no level/],
  ];
  for (const [words, message] of cases) {
    const { code, out, err } = await program(words);
    t.equal(code, EXIT.failure, words.join(' '));
    t.equal(out, '');
    t.match(err, message);
    t.match(err, /\(YAVM_E_USAGE\)\n {2}hint: /);
    t.equal(err.trimEnd().split('\n').length, 2);
  }
  const real = testContext();
  await runProgram(['net', 'ping', 'run'], real);
  t.match(real.err(), /missing required argument 'address'.*\n.*'ya-vm net ping --help'/, 'of a subcommand');
});

t.test('help lists the commands, without loading them', async (t) => {
  for (const words of [['--help'], ['help']]) {
    const { code, out } = await program(words);
    t.equal(code, EXIT.ok);
    t.match(out, /work .*does it[\s\S]*other .*is not asked for[\s\S]*Exit codes[\s\S]*Examples/);
  }
  for (const words of [
    ['work', '--help'],
    ['help', 'work'],
  ]) {
    const { code, out } = await program(words);
    t.equal(code, EXIT.ok);
    t.match(out, /--flag/, words.join(' '));
  }
});

t.test('without a command the help goes to standard error', async (t) => {
  const { code, out, err } = await program([]);
  t.equal(code, EXIT.failure);
  t.equal(out, '');
  t.match(err, /Usage: ya-vm/);
});

t.test('the command is found among the global options', async (t) => {
  t.equal(wantedCommand(['run', 'ps']), 'run');
  t.equal(wantedCommand(['--log-level', 'debug', '--log-file', 'f', 'ps']), 'ps');
  t.equal(wantedCommand(['--log-level=debug', 'ps']), 'ps');
  t.equal(wantedCommand(['help', 'ps']), 'ps');
  t.equal(wantedCommand(['--help']), undefined);
  t.equal(wantedCommand([]), undefined);
});

t.test('--log-file gets the log, whole by the time that the program ends', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-program-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'log');
  await program(['work', '--log-level', 'info', '--log-file', file], async (context) => {
    context.log.info({ n: 1 }, 'hello');
    return 0;
  });
  t.match(JSON.parse(readFileSync(file, 'utf8')), { level: 30, n: 1, msg: 'hello' });
});

t.test('every command of the real table can be loaded and has a help', async (t) => {
  for (const { name, summary } of COMMANDS) {
    const context = testContext();
    t.equal(await runProgram([name, '--help'], context), EXIT.ok, name);
    t.match(context.out(), new RegExp(`^Usage: ya-vm ${name} `));
    t.ok(context.out().replaceAll(/\s+/g, ' ').includes(summary), `${name}: ${summary}`);
    t.equal(context.err(), '');
  }
});
