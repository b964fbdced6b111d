/** Objects and other results are made anew exactly when something that they were made from has changed. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  compileAll,
  forgetFiles,
  makeOnce,
  OBJECTS,
  parseDependencies,
  type Unit,
} from '../../build/compile.ts';

const folder = join(OBJECTS, `compile-test-${process.pid}`);
mkdirSync(folder, { recursive: true });
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('the files that a make rule names', async (t) => {
  t.same(parseDependencies('a.o: a.c\n'), ['a.c']);
  t.same(parseDependencies('x/a.o: \\\n /src/a.c /usr/b.h \\\n  c.h c.h\n'), ['/src/a.c', '/usr/b.h', 'c.h']);
  t.same(parseDependencies('a.o: with\\ space.c\n'), ['with space.c']);
});

t.test(
  'an object is compiled again when its source, a header or its command changes, and only then',
  async (t) => {
    const [source, header, object] = ['a.c', 'a.h', 'a.o'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const unit = (flags: string[]): Unit => ({ compiler: 'gcc', flags, source, object });
    /** Compiles, and tells whether anything was done. */
    const compiles = async (flags: string[] = []): Promise<boolean> => {
      forgetFiles();
      if (existsSync(object)) writeFileSync(object, 'as it was'); // What is not compiled again stays this.
      await compileAll([unit(flags)]);
      return readFileSync(object, 'latin1') !== 'as it was';
    };
    writeFileSync(header, '#define VALUE 1\n');
    writeFileSync(source, '#include "a.h"\nint value = VALUE;\n');
    t.equal(await compiles(), true, 'first');
    t.equal(await compiles(), false, 'nothing changed');
    writeFileSync(header, '#define VALUE 2\n');
    t.equal(await compiles(), true, 'the header changed');
    t.equal(await compiles(), false);
    writeFileSync(source, '#include "a.h"\nint value = VALUE + 1;\n');
    t.equal(await compiles(), true, 'the source changed');
    t.equal(await compiles(['-DX']), true, 'the command changed');
    rmSync(object);
    t.equal(await compiles(['-DX']), true, 'the object is gone');
    writeFileSync(source, 'this is no C\n');
    await t.rejects(compiles(['-DX']), { name: 'ToolError', message: /a\.c:1:1: error/ });
    await t.rejects(compiles(['-DX']), { name: 'ToolError' }, 'a failure is not remembered as made');
  },
);

t.test('a result is made once, under its name only when complete', async (t) => {
  const [input, output] = [join(folder, 'in'), join(folder, 'out')];
  let runs = 0;
  const make = async (file: string) => {
    runs++;
    t.not(file, output);
    writeFileSync(file, 'made');
  };
  writeFileSync(input, '1');
  await makeOnce(output, 'command', [input], make);
  await makeOnce(output, 'command', [input], make);
  t.equal(runs, 1);
  writeFileSync(input, '2');
  await makeOnce(output, 'command', [input], make);
  await makeOnce(output, 'another command', [input], make);
  t.equal(runs, 3);
  await t.rejects(
    makeOnce(output, 'third', [input], async () => {
      throw new Error('failed');
    }),
    { message: 'failed' },
  );
  t.equal(readFileSync(output, 'utf8'), 'made', 'the old result is still there');
});
