/** The program that ships: what it is made of, and what it does on a machine that it has not booted. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LIMITS } from '../../build/budgets.ts';
import { OBJECTS } from '../../build/compile.ts';
import { packageVersion } from '../../build/engine.ts';
import { buildGuest } from '../../build/guest.ts';
import { ROOT, runTool } from '../../build/tool.ts';

const init = await buildGuest({ out: join(ROOT, 'build/out/init'), test: false });
const symbols = await runTool('nm', [join(OBJECTS, 'init/elf')]);

t.test('says its version when it is not PID 1', async (t) => {
  const { status, stdout, stderr } = spawnSync(init, { encoding: 'utf8' });
  t.equal(status, 0);
  t.equal(stdout, `ya-vm init ${packageVersion()}\n`);
  t.equal(stderr, '');
});

t.test('is one static file within its budget, without symbols', async (t) => {
  const bytes = readFileSync(init);
  t.ok(bytes.length <= LIMITS.init, `${bytes.length} bytes`);
  const headers = await runTool('readelf', ['-lS', init]);
  t.notMatch(headers, 'INTERP');
  t.notMatch(headers, '.symtab');
  t.match(headers, /GNU_STACK.*\n.*RW /, 'no executable stack');
});

t.test('has no parser of JavaScript and nothing of C++ exceptions in it', async (t) => {
  t.match(symbols, / JS_ReadObject\n/, 'the symbols are those of the engine');
  for (const name of [
    '__JS_EvalInternal',
    'js_parse_program',
    'js_parse_expr',
    'JS_AddIntrinsicEval',
    '_Unwind_',
    '__cxa_throw',
  ]) {
    t.notMatch(symbols, name);
  }
});

t.test('tells nothing of the machine that built it', async (t) => {
  const text = readFileSync(init, 'latin1');
  t.notOk(text.includes(ROOT), 'no path of the build');
  t.notMatch(text, /GCC: \(/, "no compiler's name");
});
