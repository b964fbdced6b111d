/** `ya-vm explain`: what the code at the end of an error means, and what helps. */
import type { Command } from 'commander';
import { allExplanations, type Explanation, findExplanation, similarCodes } from '../errors/lookup.ts';
import type { Act } from './commands.ts';
import { print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { usageError } from './options.ts';
import { alignColumns, type Style } from './style.ts';

const HELP = `
A code may be written without YAVM_E_, in lower case, with dashes.

Examples:
  ya-vm explain YAVM_E_BOOT_TIMEOUT
  ya-vm explain gpu_busy gpu_group
  ya-vm explain | less                     all of them`;

export function define(command: Command, act: Act): void {
  command
    .argument('[code...]', 'code of an error (default: a list of all)')
    .option('--json', 'print an array')
    .addHelpText('after', HELP);
  act(command, async (context, { json }, [words]) => {
    const wanted = words as string[];
    const found = wanted.length === 0 ? allExplanations() : wanted.map(explanationOf);
    const style = styleOf(context, context.stdout);
    if (json) await printJson(context, found);
    else if (wanted.length === 0) await print(context, ...listLines(found, style));
    else await print(context, ...found.flatMap((each) => explanationLines(each, style)));
    return EXIT.ok;
  });
}

/** @throws {YavmError} YAVM_E_USAGE: no error has this code. */
function explanationOf(word: string): Explanation {
  const found = findExplanation(word);
  if (found) return found;
  const similar = similarCodes(word);
  const all = "'ya-vm explain' lists all.";
  throw usageError(
    `no error has the code '${word}'`,
    similar.length === 0 ? all : `Did you mean ${similar.join(' or ')}? ${all}`,
  );
}

function explanationLines({ code, section, meaning, helps }: Explanation, style: Style): string[] {
  const lines = [`${style.bold(code)} ${style.dim(`(${section})`)}`, `  meaning:    ${meaning}`];
  return helps === null ? lines : [...lines, `  what helps: ${helps}`];
}

/** Section by section. */
function listLines(all: readonly Explanation[], style: Style): string[] {
  const rows = alignColumns(all.map(({ code, meaning }) => [code, meaning]));
  return all.flatMap(({ section }, index) => {
    const begins = section !== all[index - 1]?.section;
    const title = index === 0 ? [style.bold(section)] : ['', style.bold(section)];
    return [...(begins ? title : []), `  ${rows[index]}`];
  });
}
