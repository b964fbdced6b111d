import t from 'tap';
import { COMMANDS } from '../../host/cli/commands.ts';
import { runProgram } from '../../host/cli/program.ts';
import { testContext } from '../lib/cli.ts';
import { readSource, sourceFiles } from '../lib/source-tree.ts';

/** Codes that the guest's own make: they are put together from this list, and stand nowhere as a whole. */
const GUEST_CODES = [...readSource('guest/protocol/wire-error.ts').matchAll(/^ {2}\| '([a-z-]+)'/gm)]
  .map((match) => match[1] as string)
  .map((code) => `YAVM_E_GUEST_${code.toUpperCase().replaceAll('-', '_')}`);

t.test('every error code is explained, and none that does not exist', async (t) => {
  const documented = new Set(readSource('docs/troubleshooting.md').match(/YAVM_E_[A-Z0-9_]+/g));
  const sources = sourceFiles().filter((file) => /^(host|initramfs)\/.*\.ts$/.test(file));
  const codes = sources.flatMap((file) => readSource(file).match(/YAVM_E_[A-Z0-9_]+/g) ?? []);
  // Codes that end in _ are the beginnings of families in comments and templates.
  const known = new Set([...codes, ...GUEST_CODES].filter((code) => !code.endsWith('_')));
  t.ok(known.size > 40 && GUEST_CODES.length > 10, 'codes were found');
  t.same(
    [...known].filter((code) => !documented.has(code)),
    [],
    'not explained',
  );
  t.same(
    [...documented].filter((code) => !known.has(code)),
    [],
    'not there',
  );
});

t.test('every command is described, and every option of run that the page names is there', async (t) => {
  const page = readSource('docs/cli.md');
  for (const { name } of COMMANDS) t.ok(page.includes(`ya-vm ${name}`), name);
  const helps: string[] = [];
  for (const { name } of COMMANDS) {
    const context = testContext();
    await runProgram([name, '--help'], context);
    helps.push(context.out());
  }
  // Of subcommands, whose help is one level down.
  const elsewhere = ['--json', '--watch'];
  const named = new Set(page.match(/(?<![\w-])--[a-z][a-z-]+/g));
  const missing = [...named].filter(
    (option) => !elsewhere.includes(option) && !helps.join('\n').includes(option),
  );
  t.same(missing, []);
});

t.test('environment variables that the host reads are described', async (t) => {
  const page = readSource('docs/cli.md');
  const sources = sourceFiles().filter((file) => /^host\/.*\.ts$/.test(file));
  const read = sources.flatMap((file) => readSource(file).match(/\bYAVM_(?!E_)[A-Z0-9_]+/g) ?? []);
  t.same(
    [...new Set(read)].filter((name) => !page.includes(name)),
    [],
  );
});
