/** `ya-vm node` and `ya-vm exec-script`, the latter with a supervisor whose VM is a stand-in. */
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { jsonLines, plainLines } from '../../host/cli/batch-events.ts';
import type { Context } from '../../host/cli/context.ts';
import { execScript } from '../../host/cli/exec-script.ts';
import { Interrupts } from '../../host/cli/interrupts.ts';
import { type LocalActivityOptions, startLocalActivity } from '../../host/cli/local-activity.ts';
import { describeFact, runNode } from '../../host/cli/node.ts';
import { runProgram } from '../../host/cli/program.ts';
import { scriptOf } from '../../host/cli/script-file.ts';
import { connectGsb, parseGsbUrl } from '../../host/gsb/index.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { type TestContext, testContext } from '../lib/cli.ts';
import { socketFolder } from '../lib/gsb-peer.ts';

const PROGRAM = [process.execPath, ...process.execArgv, resolve('test/lib/stand-in-supervisor.ts')] as const;

function contextIn(folder: string): TestContext {
  const context = testContext();
  context.env = { ...process.env, XDG_RUNTIME_DIR: folder, XDG_CACHE_HOME: join(folder, 'cache') };
  return context;
}

/** Waits until the context's output has a text. */
async function said(context: TestContext, text: string | RegExp): Promise<void> {
  const last = performance.now() + 60_000;
  while (!(typeof text === 'string' ? context.out().includes(text) : text.test(context.out()))) {
    if (performance.now() > last) throw new Error(`no ${text} in: ${context.out()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const script = (...commands: unknown[]) => JSON.stringify([{ deploy: {} }, { start: {} }, ...commands]);
const run = (entryPoint: string, args: string[], capture: unknown = { stdout: { stream: {} } }) => ({
  run: { entry_point: entryPoint, args, capture },
});

async function exec(t: Test, text: string, options: Parameters<typeof execScript>[1] = {}) {
  const folder = socketFolder(t);
  const context = contextIn(folder);
  const file = join(folder, 'script.json');
  writeFileSync(file, text);
  const given: LocalActivityOptions[] = [];
  const start = (context: Pick<Context, 'env' | 'log'>, options: LocalActivityOptions) => {
    given.push(options);
    return startLocalActivity(context, { ...options, program: PROGRAM });
  };
  const code = await execScript(context, options, file, start);
  return { code, out: context.out(), err: context.err(), folder, given };
}

t.test('exec-script: events as they come, results that no event told, usage, and nothing left', async (t) => {
  const text = script(
    run('print', ['two\nlines\n', 'bad'], { stdout: { stream: {} }, stderr: { atEnd: {} } }),
    run('print', ['\u001b[2J'], { stdout: { stream: { format: 'bin' } } }),
  );
  const { code, out, err, folder, given } = await exec(t, text, { memory: 1024, image: '/x/a b.gvmi' });
  t.equal(code, 0);
  t.same(out.split('\n'), [
    ...['[0] deploy: started', '[0] deploy: finished', '[1] start: started', '[1] start: finished'],
    ...['[2] run: started', '[2] run: stdout | two', '[2] run: stdout | lines', '[2] run: finished'],
    ...['[3] run: started', '[3] run: stdout | 4 bytes', '[3] run: finished', '[2] run: stderr | bad', ''],
  ]);
  t.match(
    err,
    /^ya-vm: usage duration_sec \d+(\.\d+)? · cpu_sec .* · gib .* · storage_gib \d.* · shared_gib \d.*\n$/,
  );
  t.match(given, [{ memoryMiB: 1024, cpus: 1, accel: 'auto', taskPackage: 'file:///x/a%20b.gvmi' }]);
  t.same(readdirSync(join(folder, 'ya-vm')), [], 'no socket');
  t.same(readdirSync(join(folder, 'cache/ya-vm/activities')), [], 'no work folder');
});

t.test('exec-script: the exit code is that of the command that failed', async (t) => {
  const failed = await exec(t, script(run('exit', ['3']), run('print', ['never'])));
  t.equal(failed.code, 3);
  t.match(failed.out, '[2] run: failed, return code 3: ExeScript command exited with code 3\n');
  t.notMatch(failed.out, 'never');
  const order = await exec(t, JSON.stringify([{ start: {} }]));
  t.equal(order.code, 125);
  t.match(order.out, /\[0\] start: failed, return code -1: .*deploy\(\) command is expected now/);
});

t.test('exec-script --json: each event, each result, the end', async (t) => {
  const folder = socketFolder(t);
  const { code, out } = await exec(t, script(run('print', ['x'])), { json: true, workDir: folder });
  t.equal(code, 0);
  const lines = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.same(
    lines.map(({ kind, index }) => `${kind} ${index ?? ''}`),
    [
      ...['started 0', 'finished 0', 'started 1', 'finished 1', 'started 2', 'stdout 2', 'finished 2'],
      ...['result 0', 'result 1', 'result 2', 'end '],
    ],
  );
  t.match(lines.at(-1), { exitCode: 0, usage: { 'golem.usage.duration_sec': Number } });
  t.match(lines.at(-2), { ok: true, stdout: 'x', isBatchFinished: true });
  t.equal(readdirSync(join(folder, 'work')).length, 1, '--work-dir is kept');
});

t.test('exec-script: transfers read and write files of this host', async (t) => {
  const here = socketFolder(t);
  const [from, to, bad] = ['from', 'to', 'bad'].map((name) => join(here, name)) as [string, string, string];
  const content = Buffer.alloc(100_000, 'some content');
  writeFileSync(from, content);
  const hash = createHash('sha3-256').update(content).digest('hex');
  const transfer = (from: string, to: string) => ({ transfer: { from, to } });
  const good = await exec(
    t,
    script(
      transfer(`local:${from}`, 'container:/a'),
      transfer(`hash:sha3:${hash}:local:${relative('.', from)}`, '/b'),
      transfer('container:/b', `local:${to}`),
    ),
  );
  t.equal(good.code, 0, good.out);
  t.ok(readFileSync(to).equals(content));
  t.match(good.out, '[4] transfer: finished\n');

  const wrong = await exec(
    t,
    script(
      transfer(`local:${from}`, '/a'),
      transfer(`hash:sha3:${'0'.repeat(64)}:local:${from}`, `local:${bad}`),
    ),
  );
  t.equal(wrong.code, 125);
  t.match(wrong.out, /\[3\] transfer: failed.*calculated hash/);
  t.same(readdirSync(here).sort(), ['from', 'to'], 'what was not complete is gone');
  await t.rejects(exec(t, script(transfer(`local:${here}/nothing`, '/a'))), {
    code: 'YAVM_E_LOCAL_FILE',
    message: /nothing: cannot be read/,
  });
});

t.test('exec-script: a time limit, and what the supervisor says when it does not start', async (t) => {
  const late = await exec(t, script(run('hang', [])), { timeout: 1500 });
  t.equal(late.code, 124);
  t.match(late.err, /longer than --timeout 1.50 s \(YAVM_E_COMMAND_TIMEOUT\)/);
  t.same(readdirSync(join(late.folder, 'ya-vm')), []);

  const folder = socketFolder(t);
  const options: LocalActivityOptions = {
    ...{ taskPackage: 'x', memoryMiB: 64, cpus: 1, storage: 1e9, accel: 'auto' },
    ...{ signal: new AbortController().signal, program: [process.execPath, '-e', 'process.exit(9)'] },
  };
  await t.rejects(startLocalActivity(contextIn(folder), options), {
    code: 'YAVM_E_ACTIVITY_START',
    hint: /cache\/ya-vm\/.*logs/,
  });
});

t.test('exec-script: an activity that is there, on a node that is there', async (t) => {
  const folder = socketFolder(t);
  const context = contextIn(folder);
  const made = await startLocalActivity(context, {
    ...{ taskPackage: 'x', memoryMiB: 64, cpus: 1, storage: 1e9, accel: 'auto', program: PROGRAM },
    signal: new AbortController().signal,
  });
  t.teardown(() => made.close());
  const file = join(folder, 'file');
  writeFileSync(file, 'content');
  const transfers = [
    { transfer: { from: `local:${file}`, to: '/a' } },
    { transfer: { from: '/a', to: `local:${file}2` } },
  ];
  const { code, out, err } = await exec(t, script(run('echo', ['hi']), ...transfers), {
    gsbUrl: parseGsbUrl(made.node.url),
    activity: made.activity.activity,
  });
  t.equal(code, 0);
  t.equal(readFileSync(`${file}2`, 'utf8'), 'content', 'its node is asked for its id');
  t.match(out, '[2] run: stdout | hi\n');
  t.match(err, /usage 0 \d.* · 1 /);
  t.match(made.activity.record, { state: ['Ready', null] }, 'it goes on');
  await t.rejects(exec(t, script(), { gsbUrl: made.node.address, activity: 'nobody' }), {
    code: 'YAVM_E_GSB_NO_ENDPOINT',
  });
});

t.test('exec-script: a supervisor that dies under its script', async (t) => {
  const folder = socketFolder(t);
  const context = contextIn(folder);
  const file = join(folder, 'script.json');
  writeFileSync(file, script(run('hang', ['up'])));
  const start: typeof startLocalActivity = async (given, options) => {
    const made = await startLocalActivity(given, { ...options, program: PROGRAM });
    void said(context, 'stdout | up').then(() => process.kill(made.activity.pid as number, 'SIGKILL'));
    return made;
  };
  await t.rejects(execScript(context, {}, file, start), {
    code: 'YAVM_E_ACTIVITY_LOST',
    message: 'the supervisor has ended by SIGKILL',
  });
  t.equal(existsSync(join(folder, 'ya-vm', 'gsb.sock')), false);
});

t.test('exec-script: command lines and scripts that make no sense', async (t) => {
  for (const [words, text] of [
    [['--image', 'a', '--task-package', 'b'], /both name the image/],
    [['--gsb-url', 'unix:/x'], /--gsb-url and --activity go together/],
    [['--activity', 'a'], /--gsb-url and --activity go together/],
    [['--gsb-url', 'unix:/x', '--activity', 'a', '--cpus', '2'], /options of the VM/],
    [['--gsb-url', 'http://x', '--activity', 'a'], /YAVM_E_GSB_URL/],
    [[], /nowhere.json: the script cannot be read.*YAVM_E_SCRIPT/],
  ] as const) {
    const context = testContext();
    t.equal(await runProgram(['exec-script', '/nowhere.json', ...words], context), 125, words.join(' '));
    t.match(context.err(), text);
  }
  const context = testContext();
  t.equal(await runProgram(['exec-script', '--help'], context), 0);
  t.match(context.out(), /Exit codes: 0 every command succeeded/);
  for (const text of ['', '{}', '[{"run": {}}]', '[{"fly": {}}]', '["terminate"]']) {
    t.throws(() => scriptOf(text, 'x'), { code: 'YAVM_E_SCRIPT' }, text);
  }
});

t.test('scripts: sizes become numbers, everything else stays', (t) => {
  const volumes = {
    '/a': { ram: { size: '1GiB' } },
    '/b': { storage: { size: 7, preallocate: '2kb', errors: 'continue' } },
    '/c': { host: {} },
  };
  const text = JSON.stringify([{ deploy: { volumes, env: { size: '1GiB' } } }, { terminate: {} }]);
  t.same(scriptOf(text, 'x'), {
    names: ['deploy', 'terminate'],
    commands: [
      {
        deploy: {
          env: { size: '1GiB' },
          volumes: {
            '/a': { ram: { size: 1024 ** 3 } },
            '/b': { storage: { size: 7, preallocate: 2000, errors: 'continue' } },
            '/c': { host: {} },
          },
        },
      },
      { terminate: {} },
    ],
  });
  const list = [{ deploy: { volumes: ['/a'] } }];
  t.same(scriptOf(JSON.stringify(list), 'x').commands, list);
  t.end();
});

t.test('lines: progress, a batch without events, bytes as JSON', (t) => {
  const common = { batchId: 'b', index: 0, timestamp: 'x' };
  const lines = plainLines(['deploy']);
  const progress = { ...common, kind: 'progress', message: null, unit: 'Bytes' } as const;
  t.same(lines.event({ ...progress, step: [0, 1], progress: [512, 2048] }), ['[0] deploy: 512 B of 2 KiB']);
  t.same(lines.event({ ...progress, step: [1, 3], progress: [7, null], unit: null, message: 'm\u0007' }), [
    '[0] deploy: step 2 of 3, 7, m\\x07',
  ]);
  const result = {
    index: 0,
    ok: false,
    stdout: null,
    stderr: 'e',
    message: 'why',
    isBatchFinished: true,
    eventDate: 'x',
  };
  t.same(lines.results([result]), ['[0] deploy: failed: why', '[0] deploy: stderr | e']);
  t.match(JSON.parse(jsonLines.event({ ...common, kind: 'stdout', output: Uint8Array.of(255) })[0] ?? ''), {
    output: { base64: '/w==' },
  });
  t.end();
});

t.test('node: tells what happens, until a signal', async (t) => {
  const folder = socketFolder(t);
  const context = contextIn(folder);
  const signals = new EventEmitter();
  const running = runNode(context, {}, new Interrupts(signals));
  const url = `unix:${folder}/ya-vm/gsb.sock`;
  await said(context, `listening: GSB_URL=${url}\n`);
  const gsb = connectGsb({ address: parseGsbUrl(url), logger: silentLogger });
  const call = (message: string, body: object) =>
    gsb.call(`/local/activity/${message}`, { activityId: 'a1', ...body }, { deadline: 60_000 });
  await call('SetActivityState', { state: { state: ['Initialized', 'Deployed'] } });
  await call('SetActivityUsage', { usage: { currentUsage: [1, 0.5], timestamp: 1 } });
  await call('SetActivityUsage', { usage: { timestamp: 1 } });
  await call('SetActivityState', { state: { state: ['Terminated', null], reason: 'r', errorMessage: 'm' } });
  await gsb.close();
  await said(context, /connection 2: ended/);
  signals.emit('SIGINT');
  t.equal(await running, 0);
  for (const line of [
    'connection 1: registered /local/activity/SetActivityState',
    'connection 1: registered /local/identity/Get',
    'connection 2: opened',
    'connection 2: Hello from ya-vm 0.1.0',
    'activity a1: state Initialized → Deployed',
    'activity a1: usage 1 0.5',
    'activity a1: usage none yet',
    'activity a1: state Terminated, r, m',
  ]) {
    t.ok(context.out().split('\n').includes(line), line);
  }
  t.same(readdirSync(join(folder, 'ya-vm')), [], 'the socket is removed');
});

t.test('node: --json, an address of its own, one that is taken', async (t) => {
  const address = { kind: 'unix', path: join(socketFolder(t), 'own.sock') } as const;
  const context = testContext();
  const signals = new EventEmitter();
  const running = runNode(context, { listen: address, json: true }, new Interrupts(signals));
  await said(context, '"listening"');
  const second = runNode(testContext(), { listen: address }, new Interrupts(new EventEmitter()));
  await t.rejects(second, { code: 'YAVM_E_NODE_LISTEN' });
  signals.emit('SIGTERM');
  t.equal(await running, 0);
  const facts = context
    .out()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.match(facts, [{ kind: 'connected', peer: 1 }]);
  t.ok(facts.some(({ kind, url }) => kind === 'listening' && url === `unix:${address.path}`));
  t.match(describeFact({ kind: 'dead', activity: 'a', time: 0, silent: 10_500 }), 'dead, silent for 10.5 s');
  t.match(
    describeFact({ kind: 'responsive', activity: 'a', time: 0, state: ['Ready', null] }),
    'state Ready',
  );
  t.match(describeFact({ kind: 'unregistered', peer: 1, address: '/a' }), 'unregistered /a');
  t.match(describeFact({ kind: 'refused', peer: 1, address: '/a' }), 'somebody has it');
});
