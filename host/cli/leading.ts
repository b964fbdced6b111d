/**
 * Options that a command takes before its name as well as behind it, as the programs do that ya-vm stands in for. The
 * words before the name are moved behind it, so that each option is defined in one place. Pure.
 */

export interface LeadingOption {
  /** `-b`, `--binary`. */
  flags: readonly string[];
  /** Whether the next word is its value. */
  takesValue: boolean;
}

/** The program's own. */
const GLOBAL: readonly LeadingOption[] = [{ flags: ['--log-level', '--log-file'], takesValue: true }];

interface Named {
  name: string;
  leading?: readonly LeadingOption[];
}

/** Where the command's name is: the first word that is no option and no option's value. */
function nameIndex(words: readonly string[], table: readonly Named[]): number {
  const options = [...GLOBAL, ...table.flatMap(({ leading }) => leading ?? [])];
  const withValue = new Set(options.filter((each) => each.takesValue).flatMap(({ flags }) => flags));
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string;
    if (withValue.has(word)) index++;
    else if (!word.startsWith('-')) return index;
  }
  return -1;
}

/** The command's name: for `help X` the X. */
export function wantedCommand(words: readonly string[], table: readonly Named[] = []): string | undefined {
  const index = nameIndex(words, table);
  if (index < 0) return undefined;
  return words[index] === 'help' ? wantedCommand(words.slice(index + 1), table) : words[index];
}

/** The same words with the command's name first, for a command that takes options before it. */
export function nameFirst(words: readonly string[], table: readonly Named[]): string[] {
  const index = nameIndex(words, table);
  const row = table.find(({ name }) => name === words[index]);
  if (!row?.leading) return [...words];
  return [row.name, ...words.slice(0, index), ...words.slice(index + 1)];
}
