import t from 'tap';
import { parseImageConfig } from '../../host/image/config.ts';

const EMPTY = { env: [], entrypoint: [], cmd: [], volumes: [] };

t.test('what an image may say is typed', async (t) => {
  const cases: [what: string, json: unknown, config: object][] = [
    ['nothing', {}, EMPTY],
    [
      'nulls, as Docker writes them',
      { Env: null, Cmd: null, Entrypoint: null, Volumes: null, WorkingDir: null },
      EMPTY,
    ],
    ['null for the user', { User: null }, EMPTY],
    ['other fields', { Hostname: 1, Labels: [], AttachStdin: {}, ExposedPorts: null }, EMPTY],
    [
      'an environment',
      { Env: ['A=1', 'B=', 'C=x=y', 'D=\n'] },
      { ...EMPTY, env: ['A=1', 'B=', 'C=x=y', 'D=\n'] },
    ],
    ['a command', { Entrypoint: ['/e'], Cmd: ['a', ''] }, { ...EMPTY, entrypoint: ['/e'], cmd: ['a', ''] }],
    ['a command in one string', { Cmd: '/bin/sh' }, { ...EMPTY, cmd: ['/bin/sh'] }],
    ['blank fields', { WorkingDir: '  ', User: '' }, EMPTY],
    ['a working directory', { WorkingDir: '/golem//task/./' }, { ...EMPTY, workingDir: '/golem/task' }],
    ['the root', { WorkingDir: '/' }, { ...EMPTY, workingDir: '/' }],
    ['a user', { User: '1000:1000' }, { ...EMPTY, user: '1000:1000' }],
    ['volumes', { Volumes: { '/a': {}, '/b/': null, '/a/': {} } }, { ...EMPTY, volumes: ['/a', '/b'] }],
  ];
  for (const [what, json, config] of cases) t.strictSame(parseImageConfig(json), config, what);
});

t.test('what could not be used is refused, and named', async (t) => {
  const long = 'x'.repeat(128 * 1024);
  const cases: [what: string, json: unknown, message: RegExp][] = [
    ['no object', 'text', /not a JSON object/],
    ['a list', [], /not a JSON object/],
    ['Env as an object', { Env: { A: '1' } }, /Env\[0\] is not text/],
    ['Env with a number', { Env: ['A=1', 2] }, /Env\[1\] is not text/],
    ['Env without =', { Env: ['A'] }, /not KEY=value: "A"/],
    ['Env without a name', { Env: ['=1'] }, /not KEY=value/],
    ['Env with NUL', { Env: ['A=\0'] }, /Env\[0\] contains a NUL/],
    ['a long string', { Cmd: [long] }, /Cmd\[0\] is longer than 131071 bytes/],
    ['many strings', { Cmd: Array(4097).fill('') }, /Cmd has 4097 entries/],
    ['a nested list', { Entrypoint: [['/e']] }, /Entrypoint\[0\] is not text/],
    ['a relative directory', { WorkingDir: 'work' }, /"work" is not an absolute path/],
    ['a directory with ..', { WorkingDir: '/a/../b' }, /contains '\.\.'/],
    ['a long directory', { WorkingDir: `/${'x'.repeat(4095)}` }, /WorkingDir is longer than 4095/],
    ['a long directory in bytes', { WorkingDir: `/${'ü'.repeat(2048)}` }, /WorkingDir is longer than 4095/],
    ['a number as user', { User: 0 }, /User is not text/],
    ['a long user', { User: 'u'.repeat(257) }, /User is longer/],
    ['volumes as a list', { Volumes: ['/a'] }, /Volumes is not an object/],
    ['a relative volume', { Volumes: { a: {} } }, /"a" is not an absolute path/],
    ['a volume with ..', { Volumes: { '/a/..': {} } }, /contains '\.\.'/],
    [
      'many volumes',
      { Volumes: Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`/${i}`, {}])) },
      /257/,
    ],
  ];
  for (const [what, json, message] of cases)
    t.throws(() => parseImageConfig(json), { code: 'YAVM_E_IMAGE_METADATA', message }, what);
});

t.test('hostile names are only names', async (t) => {
  const json = JSON.parse(
    '{"__proto__": {"Cmd": ["/evil"]}, "constructor": 1, "Volumes": {"__proto__": {}}}',
  );
  t.throws(() => parseImageConfig(json), { message: /"__proto__" is not an absolute path/ });
  t.strictSame(parseImageConfig(JSON.parse('{"__proto__": {"Cmd": ["/evil"]}}')), EMPTY);
});
