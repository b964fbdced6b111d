/** A manual page in roff (man(7)'s macros), of one command. Pure: a command → text. */
import type { CommandNode } from './completion-tree.ts';

/** `ya-vm`, `ya-vm-net-peers`. */
export function pageName({ path }: Pick<CommandNode, 'path'>): string {
  return ['ya-vm', ...path].join('-');
}

/** @param version Of ya-vm. There is no date in it: the same ya-vm makes the same page. */
export function manPage(node: CommandNode, version: string): string {
  const name = pageName(node);
  const lines = [
    `.TH ${quoted(name.toUpperCase())} 1 "" ${quoted(`ya-vm ${version}`)} "ya-vm"`,
    '.SH NAME',
    `${roff(name)} \\- ${text(node.summary)}`,
    '.SH SYNOPSIS',
    `.B ${roff(['ya-vm', ...node.path].join(' '))}`,
    text(node.usage),
    ...section(
      'ARGUMENTS',
      node.arguments.map(({ name, description }) => [text(name), text(description)]),
    ),
    ...section(
      'COMMANDS',
      node.commands.map((each) => [
        `\\fBya\\-vm ${roff(each.path.join(' '))}\\fR`,
        `${text(each.summary)}; see \\fB${roff(pageName(each))}\\fR(1).`,
      ]),
    ),
    ...section(
      'OPTIONS',
      node.options.map(({ flags, description }) => [`\\fB${roff(flags)}\\fR`, text(description)]),
    ),
    ...epilogue(node.epilogue),
    ...seeAlso(node),
  ];
  return `${lines.join('\n')}\n`;
}

/** Titles with what they are about. */
function section(title: string, rows: readonly [string, string][]): string[] {
  if (rows.length === 0) return [];
  return [`.SH ${title}`, ...rows.flatMap(([head, body]) => ['.TP', head, body === '' ? '\\&' : body])];
}

/** Paragraphs of the help. What is indented, and examples, stay as they are. */
function epilogue(whole: string): string[] {
  if (whole === '') return [];
  const lines: string[] = [];
  let title = '';
  for (const paragraph of whole.split(/\n\s*\n/)) {
    const examples = /^Examples?:\n?/.exec(paragraph);
    const wanted = examples ? 'EXAMPLES' : /^Exit codes?\b/.test(paragraph) ? 'EXIT STATUS' : 'NOTES';
    lines.push(...(wanted === title ? ['.PP'] : [`.SH ${wanted}`]));
    title = wanted;
    const rows = paragraph.slice(examples?.[0].length ?? 0).split('\n');
    const asItIs = examples !== null || rows.some((row) => /^\s/.test(row));
    const body = rows.filter((row) => row.trim() !== '').map(text);
    lines.push(...(asItIs ? ['.nf', ...body, '.fi'] : body));
  }
  return lines;
}

function seeAlso({ path }: CommandNode): string[] {
  if (path.length === 0) return [];
  return ['.SH SEE ALSO', `\\fB${roff(pageName({ path: path.slice(0, -1) }))}\\fR(1)`];
}

/** A line of text: one that begins as a request does is none. */
function text(line: string): string {
  return roff(line.replace(/\n/g, ' ')).replace(/^[.']/, '\\&$&');
}

/** Hyphens that are meant to be copied, backslashes, and what is not ASCII. */
function roff(plain: string): string {
  return plain.replace(/[\\\-^~`']|[^\t -~]/gu, (character) => {
    const known = ESCAPES[character];
    if (known !== undefined) return known;
    const code = (character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0');
    return `\\[u${code}]`;
  });
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  '^': '\\(ha',
  '~': '\\(ti',
  '`': '\\(ga',
  "'": '\\(aq',
};

/** A macro's argument. */
function quoted(plain: string): string {
  return `"${roff(plain).replaceAll('"', '\\(dq')}"`;
}
