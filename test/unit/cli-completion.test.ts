import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../host/cli/commands.ts';
import { bashScript } from '../../host/cli/completion-bash.ts';
import { fishScript } from '../../host/cli/completion-fish.ts';
import { allNodes, commandTree, namesOf } from '../../host/cli/completion-tree.ts';
import { zshScript } from '../../host/cli/completion-zsh.ts';
import { manPage, pageName } from '../../host/cli/man-page.ts';
import { runProgram } from '../../host/cli/program.ts';
import { testContext } from '../lib/cli.ts';

const tree = await commandTree();
const nodes = allNodes(tree);

/** Whether this host has it. */
function has(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

t.test('the tree has every command, with every option that its help shows', async (t) => {
  t.same(
    tree.commands.map(({ path }) => path[0]),
    COMMANDS.map(({ name }) => name),
  );
  for (const { name } of COMMANDS) {
    const context = testContext();
    await runProgram([name, '--help'], context);
    const node = tree.commands.find(({ path }) => path[0] === name);
    const shown = [...context.out().matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, option]) => option);
    t.same(
      node?.options.map(({ long }) => long).filter((long) => long !== null),
      shown,
      name,
    );
  }
  t.ok(nodes.some(({ path }) => path.join(' ') === 'net peers'));
});

t.test('every command and option is in each script', async (t) => {
  const [bash, zsh, fish] = [bashScript(tree), zshScript(tree), fishScript(tree)];
  for (const { path, options, words: given } of nodes) {
    const name = path.join(' ');
    const found = bash.split('\n').find((each) => each.includes(`'${name}') subs=`));
    const words = (found ?? '').split(/[ ']/);
    const block = zsh.slice(zsh.indexOf(`    '${name}')`)).split(';;')[0] ?? '';
    for (const option of options.flatMap(namesOf)) {
      t.ok(words.includes(option), `bash: ${name} ${option}`);
      t.ok(block.includes(`'${option}:`), `zsh: ${name} ${option}`);
      const short = option.startsWith('--') ? `-l ${option.slice(2)} ` : `-s ${option.slice(1)} `;
      const seen = (each: string) => path.every((word) => each.includes(`subcommand_from ${word}`));
      const there = fish.split('\n').some((each) => each.includes(` ${short}`) && seen(each));
      t.ok(there, `fish: ${name} ${option}`);
    }
    for (const word of given) {
      t.ok((found ?? '').split(/[ ']/).includes(word), `bash: ${name} ${word}`);
      t.ok(/given=\(([^)]*)\)/.exec(block)?.[1]?.split(' ').includes(word), `zsh: ${name} ${word}`);
      t.match(fish, new RegExp(`subcommand_from ${name}' -a '[^']*\\b${word}\\b`), `fish: ${name} ${word}`);
    }
  }
});

t.test('in a real bash', { skip: !has('bash') && 'no bash here' }, async (t) => {
  const folder = t.testdir({ 'ya-vm.bash': bashScript(tree) });
  const complete = (...words: string[]) => {
    const list = words.map((word) => `'${word}'`).join(' ');
    const script = `. ./ya-vm.bash; COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _ya_vm; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { status, stdout, stderr } = spawnSync('bash', ['-uc', script], { cwd: folder, encoding: 'utf8' });
    t.equal(status, 0, stderr);
    return stdout.trim().split('\n');
  };
  const told = spawnSync('bash', ['-c', '. ./ya-vm.bash; complete -p ya-vm'], {
    cwd: folder,
    encoding: 'utf8',
  });
  t.equal(told.stdout, 'complete -o default -F _ya_vm ya-vm\n');
  t.same(complete('ya-vm', 'boo'), ['boot-test']);
  t.same(complete('ya-vm', '--log-level', 'debug', 'net', ''), ['peers', 'stats', 'ping', 'capture']);
  t.same(complete('ya-vm', 'run', '--acc'), ['--accel']);
  t.same(complete('ya-vm', 'run', '--accel', ''), ['auto', 'kvm', 'tcg']);
  t.same(complete('ya-vm', 'run', '--accel', '=', 'k'), ['kvm']);
  t.same(complete('ya-vm', 'run', '--accel', '='), ['auto', 'kvm', 'tcg']);
  t.same(complete('ya-vm', 'run', '--name', '=', 'x', '--hostn'), ['--hostname']);
  t.same(complete('ya-vm', 'run', '--name', 'net', '--hostn'), ['--hostname']);
  t.same(complete('ya-vm', 'boot-test', '--format', 'j'), ['junit']);
  t.same(complete('ya-vm', 'explain', 'gpu_bu'), ['gpu_busy']);
  t.same(complete('ya-vm', 'explain', 'gpu_busy', 'YAVM_E_GPU_BI'), ['YAVM_E_GPU_BIND']);
  t.same(complete('ya-vm', 'completion', ''), ['bash', 'zsh', 'fish']);
  t.same(complete('ya-vm', 'run', '--', '--ac'), [''], 'behind the dashes stands a command of the VM');
  t.same(complete('ya-vm', 'run', '--env-file', ''), [''], 'files, which bash knows itself');
});

t.test('in a real zsh and fish, as far as they are here', async (t) => {
  const folder = t.testdir({ '_ya-vm': zshScript(tree), 'ya-vm.fish': fishScript(tree) });
  if (has('zsh')) {
    const checked = spawnSync('zsh', ['-n', '_ya-vm'], { cwd: folder, encoding: 'utf8' });
    t.equal(checked.status, 0, checked.stderr);
    const setup = 'fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; print $_comps[ya-vm]';
    const loaded = spawnSync('zsh', ['-fc', setup], { cwd: folder, encoding: 'utf8' });
    t.equal(loaded.stdout, '_ya-vm\n', loaded.stderr);
  } else t.comment('no zsh here');
  if (has('fish')) {
    const ask = (line: string) => {
      const script = `source ya-vm.fish; complete -C '${line}'`;
      const env = { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder };
      const { stdout, stderr } = spawnSync('fish', ['-c', script], { cwd: folder, env, encoding: 'utf8' });
      t.equal(stderr, '');
      return stdout.split('\n').map((each) => each.split('\t')[0]);
    };
    t.match(ask('ya-vm boo'), ['boot-test']);
    t.match(ask('ya-vm run --accel '), ['auto', 'kvm', 'tcg']);
    t.match(ask('ya-vm net pe'), ['peers']);
    t.match(ask('ya-vm explain gpu_bu'), ['gpu_busy']);
  } else t.comment('no fish here');
});

t.test('every command has a manual page, with every option; man has nothing to say against it', async (t) => {
  const folder = t.testdir({ out: {} });
  const context = testContext();
  t.equal(await runProgram(['man', '--out', join(folder, 'out')], context), 0);
  const pages = nodes.map((node) => `${pageName(node)}.1`).sort();
  t.same(readdirSync(join(folder, 'out')).sort(), pages);
  t.equal(context.out().trim().split('\n').length, pages.length);
  for (const node of nodes) {
    const file = join(folder, 'out', `${pageName(node)}.1`);
    const text = readFileSync(file, 'utf8').replaceAll('\\-', '-');
    for (const { flags } of node.options) t.ok(text.includes(`\\fB${flags}`), `${pageName(node)} ${flags}`);
    for (const { path } of node.commands) t.ok(text.includes(`ya-vm ${path.join(' ')}`));
  }
  const files = pages.map((page) => join(folder, 'out', page));
  if (has('groff')) {
    const words = ['-man', '-Tutf8', '-ww', '-z', ...files];
    const { status, stderr } = spawnSync('groff', words, { encoding: 'utf8' });
    t.same([status, stderr], [0, ''], 'groff');
  } else t.comment('no groff here');
  if (has('man')) {
    const words = ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', files[0] as string];
    const { status, stderr } = spawnSync('man', words, { encoding: 'utf8' });
    t.same([status, stderr], [0, ''], 'man');
  } else t.comment('no man here');
});

t.test('text that roff would take for something else', async (t) => {
  const node = {
    ...{
      path: ['x'],
      summary: ".so 'a' \\n é-",
      usage: '[options]',
      options: [],
      arguments: [],
      words: [],
      commands: [],
    },
    epilogue: '.first line\nsecond\n\nExit code 1.\n\nExamples:\n  a\\b --c\n  .d',
  };
  const page = manPage(node, '1');
  t.match(page, /^\.TH "YA\\-VM\\-X" 1 "" "ya\\-vm 1" "ya-vm"$/m);
  t.match(page, 'ya\\-vm\\-x \\- \\&.so \\(aqa\\(aq \\en \\[u00E9]\\-');
  t.match(
    page,
    '.SH NOTES\n\\&.first line\nsecond\n.SH EXIT STATUS\nExit code 1.\n.SH EXAMPLES\n.nf\n  a\\eb \\-\\-c\n',
  );
});

t.test('what is not there', async (t) => {
  for (const words of [['man', 'no', 'such'], ['completion', 'tcsh'], ['completion']]) {
    const context = testContext();
    t.equal(await runProgram(words, context), 125);
    t.match(context.err(), /YAVM_E_USAGE/);
  }
  const file = join(t.testdir({ file: '' }), 'file');
  const context = testContext();
  t.equal(await runProgram(['man', '--out', file], context), 125);
  t.match(context.err(), /YAVM_E_REPORT/);
  const one = testContext();
  t.equal(await runProgram(['man', 'net', 'peers'], one), 0);
  t.match(one.out(), /^\.TH "YA\\-VM\\-NET\\-PEERS"/);
});
