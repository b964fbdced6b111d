import t from 'tap';
import {
  forOption,
  mergeEnv,
  parseCpus,
  parseEnv,
  parseEnvFile,
  parseGuestPath,
  parseHostname,
  parseMemory,
  parseRlimit,
  parseStorage,
} from '../../host/cli/options.ts';
import { planArgv, planCommand } from '../../host/cli/plan.ts';

const USAGE = { code: 'YAVM_E_USAGE' };

t.test('--env takes KEY=value as it is, and KEY alone from our environment', async (t) => {
  const here = { HOME: '/h', EMPTY: '' };
  t.equal(parseEnv('A=b=c', here), 'A=b=c');
  t.equal(parseEnv('A=', here), 'A=');
  t.equal(parseEnv('A=two\nlines', here), 'A=two\nlines');
  t.equal(parseEnv('HOME', here), 'HOME=/h');
  t.equal(parseEnv('EMPTY', here), 'EMPTY=');
  t.equal(parseEnv('MISSING', here), undefined);
  for (const text of ['', '=x', 'A=\0', '\0'])
    t.throws(() => parseEnv(text, here), USAGE, JSON.stringify(text));
});

t.test('an environment file is read as docker reads it', async (t) => {
  const content = '\uFEFFA=1\r\n\n# comment\n  B="quoted" # kept\nHOME\nMISSING\nC=\n';
  t.same(parseEnvFile(content, 'f', { HOME: '/h' }), ['A=1', 'B="quoted" # kept', 'HOME=/h', 'C=']);
  t.throws(() => parseEnvFile('A=1\nB C=2', 'f.env', {}), {
    ...USAGE,
    message: "f.env:2: 'B C' cannot be the name of an environment variable",
  });
  t.throws(() => parseEnvFile('=2', 'f.env', {}), USAGE);
});

t.test('later environment entries replace earlier ones', async (t) => {
  t.same(mergeEnv(['A=1', 'B=2'], [], ['C=3', 'A=4']), ['A=4', 'B=2', 'C=3']);
});

t.test('limits are read with their names, soft and hard values', async (t) => {
  t.same(parseRlimit('nofile=1024:4096'), { name: 'nofile', soft: 1024, hard: 4096 });
  t.same(parseRlimit('CORE=0'), { name: 'core', soft: 0, hard: 0 });
  t.same(parseRlimit('stack=8388608:unlimited'), { name: 'stack', soft: 8388608, hard: -1 });
  t.same(parseRlimit('nproc=-1'), { name: 'nproc', soft: -1, hard: -1 });
  for (const text of [
    'nofile',
    'nofile=',
    'files=1',
    'nofile=2:1',
    'nofile=-2',
    'nofile=1:2:3',
    'nofile=unlimited:5',
    'nofile=1k',
  ]) {
    t.throws(() => parseRlimit(text), USAGE, text);
  }
});

t.test('sizes of a VM have lower bounds that make sense', async (t) => {
  t.equal(parseMemory('512M'), 512);
  t.equal(parseMemory('1.5G'), 1536);
  t.throws(() => parseMemory('32M'), USAGE);
  t.equal(parseStorage('64M'), 64 * 1024 ** 2);
  t.throws(() => parseStorage('10M'), USAGE);
  t.equal(parseCpus('4'), 4);
  for (const text of ['0', '256', '1.5', '-1', '', 'two', '1e1'])
    t.throws(() => parseCpus(text), USAGE, text);
});

t.test('host names and guest paths are checked', async (t) => {
  t.equal(parseHostname('node-1.example'), 'node-1.example');
  for (const text of ['', '-a', 'a-', 'a..b', 'a b', 'a'.repeat(65), 'ü'])
    t.throws(() => parseHostname(text), USAGE, text);
  t.equal(parseGuestPath('/golem/work'), '/golem/work');
  for (const text of ['', 'work', './x', '/a\0b'])
    t.throws(() => parseGuestPath(text), USAGE, JSON.stringify(text));
});

t.test('an error of a value names its option and keeps its hint', async (t) => {
  t.throws(() => forOption('--memory', parseMemory)('lots'), {
    ...USAGE,
    message: "--memory: 'lots' is not a size",
    hint: /512M/,
  });
  const bug = new TypeError('bug');
  t.throws(
    () =>
      forOption('--x', () => {
        throw bug;
      })('y'),
    bug,
  );
});

const image = {
  env: ['PATH=/bin', 'A=image'],
  entrypoint: ['/entry', '-e'],
  cmd: ['/cmd', '-c'],
  workingDir: '/w',
  user: 'u',
};
const bare = { env: [], entrypoint: [], cmd: [] };

t.test("Entrypoint, Cmd, --entrypoint and the words combine by docker's rules", async (t) => {
  const words = ['ls', '-l'];
  const table: [string, Partial<typeof image>, string | undefined, string[], string[]][] = [
    ['no word: Entrypoint + Cmd', image, undefined, [], ['/entry', '-e', '/cmd', '-c']],
    ['words: Entrypoint + words', image, undefined, words, ['/entry', '-e', 'ls', '-l']],
    ['only Cmd, no word', { ...bare, cmd: ['/cmd'] }, undefined, [], ['/cmd']],
    ['only Cmd, words', { ...bare, cmd: ['/cmd'] }, undefined, words, words],
    ['only Entrypoint, no word', { ...bare, entrypoint: ['/entry'] }, undefined, [], ['/entry']],
    ['--entrypoint drops Cmd', image, '/new', [], ['/new']],
    ['--entrypoint with words', image, '/new', words, ['/new', 'ls', '-l']],
    ["--entrypoint '' with words", image, '', words, words],
    ['nothing in the image, words', bare, undefined, words, words],
  ];
  for (const [name, defaults, entrypoint, given, argv] of table) {
    t.same(planArgv({ ...bare, ...defaults }, given, entrypoint), argv, name);
  }
});

t.test('nothing to run is an error before a VM is started', async (t) => {
  t.throws(() => planArgv(bare, []), USAGE);
  t.throws(() => planArgv(image, [], ''), USAGE);
  t.throws(() => planArgv(bare, ['']), USAGE);
});

const given = { command: ['x'], env: [], rlimits: [], stdin: false };

t.test("the command line's choices come before the image's", async (t) => {
  const planned = planCommand(image, { ...given, env: ['A=mine', 'B=2'], cwd: '/c', user: '5:6' });
  t.same(planned.env, ['PATH=/bin', 'A=mine', 'B=2']);
  t.match(planned, { cwd: '/c', user: '5:6', stdin: false });
  t.match(planCommand(image, given), { cwd: '/w', user: 'u', env: ['PATH=/bin', 'A=image'] });
});

t.test('an image that says nothing leaves the defaults to the agent', async (t) => {
  const planned = planCommand({ ...bare, workingDir: ' ', user: '' }, given);
  t.equal(planned.cwd, '/');
  t.notOk('user' in planned);
  t.notOk('tty' in planned);
  t.notOk('rlimits' in planned);
});

t.test('a terminal brings its size and TERM, and opens stdin', async (t) => {
  const tty = { rows: 40, columns: 100 };
  t.match(planCommand(bare, { ...given, tty, term: 'foot' }), { tty, env: ['TERM=foot'], stdin: true });
  t.match(planCommand(bare, { ...given, tty }), { env: ['TERM=xterm'] });
  t.same(planCommand({ ...bare, env: ['TERM=vt100'] }, { ...given, tty, term: 'foot' }).env, ['TERM=vt100']);
  t.same(planCommand(bare, { ...given, rlimits: [{ name: 'core', soft: 0, hard: -1 }] }).rlimits, {
    core: [0, -1],
  });
});
