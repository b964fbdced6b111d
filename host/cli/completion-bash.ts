/** The completion script of bash. Pure: commands → text. */
import { allNodes, type CommandNode, namesOf } from './completion-tree.ts';

/** `$1` is a command's words. Sets what may come there: subcommands, arguments, options, and the options that take a value. */
export function bashScript(tree: CommandNode): string {
  const nodes = allNodes(tree);
  const cases = nodes.map((node) => {
    const flags = node.options.flatMap(namesOf).join(' ');
    const valued = node.options
      .filter(({ value }) => value !== null)
      .flatMap(namesOf)
      .join(' ');
    const subs = node.commands.map(({ path }) => path.at(-1)).join(' ');
    const given = node.words.join(' ');
    return `    '${node.path.join(' ')}') subs='${subs}' given='${given}' flags='${flags}' valued='${valued}' ;;`;
  });
  const values = nodes.flatMap((node) =>
    node.options.flatMap((option) => {
      if (option.value === null || typeof option.value === 'string') return [];
      const patterns = namesOf(option).map((name) => `'${[...node.path, name].join(' ')}'`);
      return [`    ${patterns.join(' | ')}) words='${option.value.words.join(' ')}' ;;`];
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

const HEAD = `# Completion of ya-vm for bash, made by 'ya-vm completion bash'.
# For this shell: source <(ya-vm completion bash)
# For all: ya-vm completion bash > ~/.local/share/bash-completion/completions/ya-vm
`;

/** Bash splits \`--option=value\` at the equals sign. Where nothing is offered, its own completion offers files. */
const BODY = `
_ya_vm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path='' i word
  local subs='' given='' flags='' valued='' words=''
  COMPREPLY=()
  if [[ $cur == '=' ]]; then cur=''; elif [[ $prev == '=' ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  _ya_vm_node ''
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == -- ]]; then return; fi
    if [[ $word == '=' ]]; then ((i++)); continue; fi
    if [[ $word == -* ]]; then
      if [[ " $valued " == *" $word "* && \${COMP_WORDS[i+1]} != '=' ]]; then ((i++)); fi
      continue
    fi
    if [[ " $subs " == *" $word "* ]]; then
      path=\${path:+$path }$word
      _ya_vm_node "$path"
    fi
  done
  if [[ " $valued " == *" $prev "* ]]; then
    _ya_vm_words "\${path:+$path }$prev"
  elif [[ $cur == -* ]]; then
    words=$flags
  else
    words="$subs$given"
  fi
  if [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); fi
}
complete -o default -F _ya_vm ya-vm
`;
