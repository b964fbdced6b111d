import t from 'tap';
import { COMMANDS } from '../../host/cli/commands.ts';
import { runProgram } from '../../host/cli/program.ts';
import { testContext } from '../lib/cli.ts';
import { readSource, sourceFiles } from '../lib/source-tree.ts';

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
