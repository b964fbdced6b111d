/** How a program of the engine ends when it fails: with a reason, a stack and a code. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildEngineTest } from '../../build/engine.ts';
import { FrameDecoder, FrameType, MAX_LOG_PAYLOAD } from '../../guest/protocol/frames.ts';
import { runBytecode, runScript } from './engine-host.ts';

const EXCEPTION = 70;
const CRASH = 71;
const MEMORY = 72;
const HUNG = 73;

t.test('an uncaught exception: code 70, message, stack with names and lines, causes', async (t) => {
  const script = `
function inner() {
  throw new TypeError('it broke', { cause: new RangeError('the reason') });
}
function outer() {
  inner();
}
`;
  const cases = {
    'in the script': 'outer();',
    'in a timer': 'setTimeout(outer, 1);',
    'in a microtask': 'queueMicrotask(outer);',
    'in a watch callback': `yavmNative.watch(yavmNative.pipe('none', 0)[1], 2, outer);`,
    'in an async function': '(async () => { await null; outer(); })();',
  };
  for (const [where, call] of Object.entries(cases)) {
    const result = await runScript(`${script}${call}`);
    t.equal(result.code, EXCEPTION, where);
    t.match(
      result.stderr,
      /TypeError: it broke\n {4}at inner \(script\.js:3:\d+\)\n {4}at outer \(script\.js:6:\d+\)/,
      where,
    );
    t.match(result.stderr, 'caused by: RangeError: the reason', where);
    t.equal(result.stdout, '', where);
  }
});

t.test('values that are no errors are described too', async (t) => {
  for (const [thrown, text] of [
    ['"text"', 'uncaught exception: text'],
    ['{ a: 1 }', 'uncaught exception: {"a":1}'],
    ['undefined', 'uncaught exception: undefined'],
    ['null', 'uncaught exception: null'],
    ['{ toString() { throw 1; }, toJSON() { throw 2; } }', 'uncaught exception: [no text]'],
    ['new (class extends Error { get stack() { throw 1; } })("m")', 'uncaught exception: Error: m'],
  ] as [string, string][]) {
    const result = await runScript(`throw ${thrown};`);
    t.equal(result.code, EXCEPTION, thrown);
    t.match(result.stderr, text, thrown);
  }
});

t.test('a rejection that nobody handles is fatal, one that is handled in time is not', async (t) => {
  const unhandled = await runScript(`
    async function work() { throw new Error('lost'); }
    void work();
    setTimeout(() => console.log('not reached'), 5);
  `);
  t.equal(unhandled.code, EXCEPTION);
  t.match(unhandled.stderr, /unhandled promise rejection: Error: lost\n {4}at work/);
  t.notMatch(unhandled.stderr, 'not reached');

  const handled = await runScript(`
    const late = Promise.reject(new Error('late'));
    queueMicrotask(() => queueMicrotask(() => late.catch(() => console.log('caught'))));
    (async () => { const both = Promise.reject(new Error('awaited')); await null; try { await both; } catch { console.log('awaited'); } })();
    Promise.all([Promise.reject(1), Promise.reject(2)]).catch(() => console.log('all'));
    setTimeout(() => console.log('goes on'), 1);
  `);
  t.equal(handled.code, 0, handled.stderr);
  t.same(handled.stderr.split('\n').sort(), ['', 'all', 'awaited', 'caught', 'goes on']);
});

t.test('endless recursion is an exception that can be caught, and names the function', async (t) => {
  const result = await runScript(`
    function down(n) { return 1 + down(n + 1); }
    try { down(0); } catch (error) { console.log(error.name, error.message); }
    const deep = []; let level = deep;
    for (let index = 0; index < 100000; index++) level = level[0] = [];
    try { JSON.stringify(deep); } catch (error) { console.log(error.name); }
    try { JSON.parse('['.repeat(1e6)); } catch (error) { console.log(error.name); }
    setTimeout(down, 1, 0);
  `);
  t.equal(result.code, EXCEPTION);
  t.match(result.stderr, /InternalError stack overflow\nInternalError\n\w+Error\n/);
  t.match(result.stderr, /uncaught exception: InternalError: stack overflow\n {4}at down/);
});

t.test('an exhausted heap: code 72, with a stack; the error can be caught', async (t) => {
  const result = await runScript(`
    const keep = [];
    function grow() { for (;;) keep.push(new Array(1000).fill(keep.length)); }
    try { grow(); } catch (error) { keep.length = 0; console.log('caught ' + error.message); }
    setTimeout(grow, 1);
  `);
  t.equal(result.code, MEMORY);
  t.match(result.stderr, 'caught out of memory');
  t.match(result.stderr, /uncaught exception: .*out of memory/);
  const small = await runScript(
    'const keep = []; for (;;) keep.push({ next: keep.length, text: "x" + keep.length });',
  );
  t.equal(small.code, MEMORY, 'also when even the error finds no room');
  const huge = await runScript(
    'try { new ArrayBuffer(2 ** 30); } catch (error) { console.log(error.message); } throw new Error("other");',
  );
  t.equal(huge.code, EXCEPTION, 'a refusal that was handled is not the reason of a later error');
  t.match(huge.stderr, 'out of memory\n');
});

t.test('a signal of broken code: code 71, with its name', async (t) => {
  for (const [number, name] of [
    [11, 'SIGSEGV'],
    [6, 'SIGABRT'],
    [7, 'SIGBUS'],
    [4, 'SIGILL'],
    [8, 'SIGFPE'],
  ]) {
    const result = await runScript(`yavmNative.kill(yavmNative.getPid(), ${number}); for (;;);`);
    t.equal(result.code, CRASH, String(name));
    t.match(
      result.stderr,
      new RegExp(`^ya-vm: crash: ${name} sent by process \\d+, instruction 0x[0-9a-f]+\n$`),
    );
  }
});

t.test('a full C stack: code 71, told from other bad addresses', async (t) => {
  // A third of the stack that the engine counts on: JS overflows it before the engine's own limit.
  const wrapper = ['prlimit', '--stack=196608:196608'];
  const result = await runScript('(function down() { down(); })();', { wrapper });
  t.equal(result.code, CRASH);
  t.match(
    result.stderr,
    /^ya-vm: crash: SIGSEGV at address 0x[0-9a-f]+ \(stack overflow\), instruction 0x[0-9a-f]+\n$/,
  );
});

t.test('a callback that never ends: code 73, with the stack of where it was', async (t) => {
  const start = 'yavmEngine.setCallbackBudget(0.3);';
  const loop = await runScript(`${start} setTimeout(function busy() { for (;;); }, 1);`);
  t.equal(loop.code, HUNG);
  t.match(
    loop.stderr,
    /uncaught exception \(it computed for too long\): InternalError: interrupted\n {4}at busy/,
  );
  const tasks = await runScript(
    `${start} setTimeout(() => { (function again() { queueMicrotask(again); })(); }, 1);`,
  );
  t.equal(tasks.code, HUNG, 'its microtasks count');
  const idle = await runScript(`${start} let n = 0; const id = setInterval(() => {
    for (const end = Date.now() + 20; Date.now() < end;);
    if (++n === 30) clearInterval(id);
  }, 1);`);
  t.equal(idle.code, 0, 'many short callbacks do not add up');
  const worker = await runScript(`${start} setTimeout(() => {
    yavmEngine.setCallbackBudget(1e9);
    for (const end = Date.now() + 1000; Date.now() < end;);
  }, 1);`);
  t.equal(worker.code, 0, 'one that asks for more time has it at once');
});

t.test('a file that is no bytecode is refused with a reason', async (t) => {
  const folder = t.testdir({ 'junk.bin': 'not bytecode', 'empty.bin': '' });
  const host = await buildEngineTest();
  for (const name of ['junk.bin', 'empty.bin']) {
    const result = await runBytecode(host, join(folder, name));
    t.equal(result.code, EXCEPTION, name);
    t.match(result.stderr, 'no bytecode of this engine', name);
  }
  t.equal((await runBytecode(host, join(folder, 'missing.bin'))).code, 2);
});

/** Runs a script whose descriptor 3 is a file; returns its result and what the file holds then. */
async function withLogPort(source: string): Promise<{ code: number | null; stderr: string; port: Buffer }> {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-port-'));
  const file = join(folder, 'port');
  const fd = openSync(file, 'w');
  try {
    const { code, stderr } = await runScript(source, { fd3: fd });
    return { code, stderr, port: readFileSync(file) };
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

/** The log records in what a port received. */
function recordsOf(port: Buffer): { level: number; msg: string; code: number; time: number }[] {
  const records: { level: number; msg: string; code: number; time: number }[] = [];
  const decoder = new FrameDecoder(MAX_LOG_PAYLOAD, ({ type, stream, payload }) => {
    t.equal(type, FrameType.log);
    t.equal(stream, 0);
    records.push(JSON.parse(Buffer.from(payload).toString('utf8')));
  });
  decoder.push(port);
  t.notOk(decoder.midFrame, 'only whole frames');
  return records;
}

t.test('the log port gets the last words as one frame, whatever they are made of', async (t) => {
  const text = 'quote " backslash \\\\ tab\\t control \\x01 accent é line\\n end';
  const thrown = await withLogPort(
    `yavmEngine.setFatalFd(3); throw new Error("${text.replaceAll('"', '\\"')}");`,
  );
  t.equal(thrown.code, EXCEPTION);
  const [record] = recordsOf(thrown.port);
  t.match(
    record?.msg,
    'uncaught exception: Error: quote " backslash \\ tab\t control \x01 accent é line\n end\n    at ',
  );
  t.equal(record?.level, 60);
  t.equal(record?.code, EXCEPTION);
  t.ok(Math.abs(Date.now() - Number(record?.time)) < 60_000);
  const long = await withLogPort(`yavmEngine.setFatalFd(3); throw new Error('\\x01'.repeat(1e5));`);
  t.equal(recordsOf(long.port).length, 1, 'a long text is cut, not the frame');
  const crash = await withLogPort(
    'yavmEngine.setFatalFd(3); yavmNative.kill(yavmNative.getPid(), 11); for (;;);',
  );
  t.match(recordsOf(crash.port)[0], { code: CRASH, msg: 'crash: SIGSEGV' });
});

t.test("the agent's hook comes first, and its failures do not matter", async (t) => {
  const start = 'yavmEngine.setFatalFd(3);';
  const took = await withLogPort(
    `${start} yavmEngine.setFatalHook((text, code) => { console.log('hook ' + code + ' ' + text.split('\\n')[0]); return true; }); throw new Error('x');`,
  );
  t.match(took.stderr, 'hook 70 uncaught exception: Error: x');
  t.equal(took.port.length, 0, 'the hook wrote the record itself');
  for (const [name, hook] of Object.entries({
    'returns nothing': '() => {}',
    throws: '() => { throw new Error("hook"); }',
    'never ends': '() => { for (;;); }',
    'ends with another fatal error': '() => { yavmNative.kill(yavmNative.getPid(), 6); for (;;); }',
  })) {
    const result = await withLogPort(`${start} yavmEngine.setFatalHook(${hook}); throw new Error('first');`);
    t.match(result.stderr, 'uncaught exception: Error: first', name);
    t.equal(recordsOf(result.port).length, 1, name);
    t.equal(result.code, name.startsWith('ends') ? CRASH : EXCEPTION, name);
  }
});
