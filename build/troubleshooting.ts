/** docs/troubleshooting.md, made from the table of errors. */
import type { ErrorRow, Section } from '../host/errors/section.ts';

const HEAD = `# Troubleshooting

<!-- Made from host/errors by \`build/node.sh build/docs.ts\`: change it there. -->

\`ya-vm doctor\` looks for the usual causes and prints the commands that fix them. Every error ends with its code; this page lists them,
and \`ya-vm explain CODE\` says the same in a terminal. Where the error itself has a \`hint:\` line, start with that.

More to look at: \`--log-level debug\` (stacks, what is tried), \`--log-file FILE\`, \`ya-vm console --log ID\` (what the guest's kernel says).
`;

/** The whole page. */
export function troubleshootingPage(sections: readonly Section[]): string {
  return [HEAD, ...sections.map(sectionText)].join('\n');
}

/** A section where nothing helps has no column for that. */
function sectionText({ title, intro, rows }: Section): string {
  const helpful = rows.some(({ helps }) => helps !== undefined);
  const head = helpful
    ? ['| code | meaning | what helps |', '|---|---|---|']
    : ['| code | meaning |', '|---|---|'];
  const lines = [...head, ...rows.map((row) => rowText(row, helpful))];
  return `## ${title}\n\n${intro ? `${intro}\n\n` : ''}${lines.join('\n')}\n`;
}

function rowText({ codes, meaning, helps }: ErrorRow, helpful: boolean): string {
  const names = codes.map((code) => `\`${code}\``).join(', ');
  return `| ${names} | ${meaning} |${helpful ? `${helps ? ` ${helps}` : ''} |` : ''}`;
}
