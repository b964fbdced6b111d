/** `ya-vm template`: its words, wrong ones too, and what it prints. `build` is tried with VMs. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import { testContext } from '../lib/cli.ts';
import { templateKey as key, putTemplate } from '../lib/templates.ts';

/** Runs `ya-vm template …` on a folder of templates. */
async function template(folder: string, ...words: string[]) {
  const context = testContext();
  context.env.YA_VM_TEMPLATES = folder;
  const code = await runProgram(['template', ...words], context);
  return { code, out: context.out(), err: context.err() };
}

t.test('list: a table, or an array', async (t) => {
  const folder = t.testdir();
  t.match(await template(folder, 'list'), { code: 0, out: `no templates in ${folder}\n` });
  t.match(await template(folder, 'list', '--json'), { code: 0, out: '[]\n' });
  await putTemplate(folder, key(1));
  const { code, out } = await template(folder, 'list');
  t.equal(code, 0);
  t.match(out, /^KEY +MEMORY +CPUS +ACCEL +KERNEL +SIZE.* USED\n1{8} +256 MiB +1 +tcg +6\.1\.0 .* ago\n$/);
  const [listed] = JSON.parse((await template(folder, 'list', '--json')).out);
  t.match(listed, { key: key(1), accel: 'tcg', cpus: 1, memoryMiB: 256, kernel: '6.1.0', cpuModel: 'max' });
  t.type(listed.size, 'number');
  t.equal(new Date(listed.made).toISOString(), listed.made);
  writeFileSync(join(folder, key(1), 'template.json'), '{');
  t.match(await template(folder, 'list'), { out: /no templates/ }, 'one that cannot be read is none');
});

t.test('verify: what is well, what is not, and how it is put right', async (t) => {
  const folder = t.testdir();
  t.match(await template(folder, 'verify'), { code: 0, out: `no templates in ${folder}\n` });
  await putTemplate(folder, key(1));
  await putTemplate(folder, key(2));
  t.match(await template(folder, 'verify'), { code: 0, out: /✔ 1{8} .*\n✔ 2{8} / });
  writeFileSync(join(folder, key(2), 'ram'), 'no memory');
  const { code, out } = await template(folder, 'verify');
  t.equal(code, 1);
  t.match(
    out,
    /✔ 1{8} {2}is as it was made\n✘ 2{8} {2}.*'ram' has been changed.*; ya-vm template drop 2{8}\n/,
  );
  t.match(await template(folder, 'verify', '1'), { code: 0 }, 'one, by its first letter');
  const json = await template(folder, 'verify', '--json', '2', '1');
  t.equal(json.code, 1);
  t.match(JSON.parse(json.out), [
    { key: key(2), problem: /'ram'/ },
    { key: key(1), problem: null },
  ]);
});

t.test('drop: those that are named, or all, damaged ones too', async (t) => {
  const folder = t.testdir();
  t.match(await template(folder, 'drop', '--all'), { code: 0, out: `no templates in ${folder}\n` });
  for (const index of [1, 2, 3, 4]) await putTemplate(folder, key(index));
  t.match(await template(folder, 'drop', '11', key(2)), { code: 0, out: '11111111\n22222222\n' });
  writeFileSync(join(folder, key(3), 'template.json'), '{');
  t.match(await template(folder, 'drop', '--all'), { code: 0, out: '33333333\n44444444\n' });
  t.strictSame(readdirSync(folder), []);
});

t.test('wrong words change nothing, and say what helps', async (t) => {
  const folder = t.testdir();
  await putTemplate(folder, key(1));
  await putTemplate(folder, `1${key(2).slice(1)}`);
  const wrongs: [string[], RegExp][] = [
    [['drop'], /name templates, or give '--all'.*\n.*template list/],
    [['drop', '--all', '1'], /name templates, or give '--all'/],
    [['drop', 'zz'], /no template's key begins with 'zz'.*\n.*template list/],
    [['drop', '11', 'zz'], /begins with 'zz'/],
    [['drop', '1'], /'1' begins the keys of 2 templates.*\n.*more letters/],
    [['drop', ''], /'' begins the keys of 2 templates/],
    [['verify', '1'], /2 templates/],
    [['verify', 'zz'], /'zz'/],
    [['list', 'x'], /too many arguments/],
    [['bogus'], /unknown command 'bogus'.*\n.*template --help/],
    [['build', '--cpus', '0'], /--cpus/],
    [['build', '-m', '1K'], /--memory.*64 MiB/],
    [['build', '--accel', 'hvf'], /no accelerator.*\n.*auto, kvm, tcg/],
    [['build', '--kernel-set', 'none'], /kernel set/],
    [['build', '--start', 'cold'], /unknown option/],
  ];
  for (const [words, says] of wrongs) {
    const { code, out, err } = await template(folder, ...words);
    t.equal(code, 125, words.join(' '));
    t.equal(out, '', words.join(' '));
    t.match(err, says, words.join(' '));
  }
  t.equal(readdirSync(folder).length, 2);
});

t.test('a limit that is none, in the words of its variable', async (t) => {
  const context = testContext();
  context.env.YA_VM_TEMPLATES_LIMIT = 'much';
  t.equal(await runProgram(['template', 'list'], context), 125);
  t.match(context.err(), /YA_VM_TEMPLATES_LIMIT/);
});
