/** The completion script of fish. Pure: commands → text. */
import { allNodes, type CommandNode, type OptionNode } from './completion-tree.ts';

export function fishScript(tree: CommandNode): string {
  return [HEAD, ...allNodes(tree).flatMap(linesOf), ''].join('\n');
}

const HEAD = `# Completion of ya-vm for fish, made by 'ya-vm completion fish'.
# ya-vm completion fish > ~/.config/fish/completions/ya-vm.fish
`;

function linesOf({ path, options, words, commands }: CommandNode): string[] {
  const names = commands.map((node) => node.path.at(-1)).join(' ');
  const here = path.map((word) => `__fish_seen_subcommand_from ${word}`);
  const at = path.length === 0 ? '' : ` -n ${quote(here.join('; and '))}`;
  // Subcommands only where none stands yet; files stay out of there.
  const none = quote([...here, `not __fish_seen_subcommand_from ${names}`].join('; and '));
  return [
    ...commands.map(
      (node) => `complete -c ya-vm -f -n ${none} -a ${node.path.at(-1)} -d ${quote(oneLine(node.summary))}`,
    ),
    ...(words.length === 0 ? [] : [`complete -c ya-vm -f${at} -a ${quote(words.join(' '))}`]),
    ...options.map((option) => `complete -c ya-vm${at}${optionWords(option)}`),
  ];
}

function optionWords({ short, long, value, description }: OptionNode): string {
  const names = [
    ...(short === null ? [] : [` -s ${short.slice(1)}`]),
    ...(long === null ? [] : [` -l ${long.slice(2)}`]),
  ].join('');
  return `${names}${valueWords(value)} -d ${quote(oneLine(description))}`;
}

/** `-r`: a value, of which fish offers files; `-x`: one, but no files. */
function valueWords(value: OptionNode['value']): string {
  if (value === null) return '';
  if (typeof value === 'object') return ` -x -a ${quote(value.words.join(' '))}`;
  return value === 'folder' ? " -x -a '(__fish_complete_directories)'" : ' -r';
}

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ');
}
