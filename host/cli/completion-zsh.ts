/** The completion script of zsh. Pure: commands → text. */
import { allNodes, type CommandNode, namesOf } from './completion-tree.ts';

export function zshScript(tree: CommandNode): string {
  const nodes = allNodes(tree);
  const cases = nodes.map((node) => {
    const subs = node.commands.map(({ path, summary }) => quote(`${path.at(-1)}:${oneLine(summary)}`));
    const flags = node.options.flatMap((option) =>
      namesOf(option).map((name) => quote(`${name}:${oneLine(option.description)}`)),
    );
    const valued = node.options
      .filter(({ value }) => value !== null)
      .flatMap(namesOf)
      .join(' ');
    return `    ${quote(node.path.join(' '))})
      subs=(${subs.join(' ')})
      given=(${node.words.join(' ')})
      flags=(${flags.join(' ')})
      valued=(${valued})
      ;;`;
  });
  const values = nodes.flatMap((node) =>
    node.options.flatMap((option) => {
      if (option.value === null || typeof option.value === 'string') return [];
      const patterns = namesOf(option).map((name) => quote([...node.path, name].join(' ')));
      return [`    ${patterns.join(' | ')}) choices=(${option.value.words.join(' ')}) ;;`];
    }),
  );
  return `${HEAD}
_ya_vm_node() {
  case $1 in
${cases.join('\n')}
  esac
}

_ya_vm_words() {
  case $1 in
${values.join('\n')}
  esac
}
${BODY}`;
}

/** A word of the shell. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** `_describe` takes what is before the first colon that is not escaped; no name of ours has one. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ');
}

const HEAD = `#compdef ya-vm
# Completion of ya-vm for zsh, made by 'ya-vm completion zsh': save it as _ya-vm in a folder of $fpath.
`;

const BODY = `
_ya_vm() {
  local at='' word prev=$words[CURRENT-1] i
  local -a subs given flags valued choices
  _ya_vm_node ''
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    if [[ $word == -- ]]; then
      _files
      return
    fi
    if [[ $word == -* ]]; then
      if ((\${valued[(Ie)$word]})); then ((i++)); fi
    elif [[ -n \${(M)subs:#$word:*} ]]; then
      at=\${at:+$at }$word
      _ya_vm_node $at
    fi
  done
  if ((\${valued[(Ie)$prev]})); then
    _ya_vm_words "\${at:+$at }$prev"
    if (($#choices)); then compadd -a choices; else _files; fi
  elif [[ $words[CURRENT] == -* ]]; then
    _describe option flags
  elif (($#subs)); then
    _describe command subs
  elif (($#given)); then
    compadd -a given
  else
    _files
  fi
}

if [[ $funcstack[1] == _ya_vm || $funcstack[1] == _ya-vm ]]; then _ya_vm "$@"; else compdef _ya_vm ya-vm; fi
`;
