/**
 * Options that a command takes before its name as well as behind it, as the programs do that ya-vm stands in for. The
 * words before the name are moved behind it, so that each option is defined in one place. Pure.
 */
import { usageError } from './options.ts';

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

/**
 * The same words with the command's name first, for a command that takes options before it.
 * @throws {YavmError} YAVM_E_USAGE when such options stand before one that does not: upstream's runtimes have `run`, too
 */
export function nameFirst(words: readonly string[], table: readonly Named[]): string[] {
  const index = nameIndex(words, table);
  const row = table.find(({ name }) => name === words[index]);
  if (row && !row.leading) refuseOthers(words.slice(0, index), row.name, table);
  if (!row?.leading) return [...words];
  return [row.name, ...words.slice(0, index), ...words.slice(index + 1)];
}

function refuseOthers(before: readonly string[], name: string, table: readonly Named[]): void {
  const others = table.filter(({ leading }) => leading !== undefined);
  const flags = new Set(others.flatMap(({ leading = [] }) => leading.flatMap((option) => option.flags)));
  const found = before.find((word) => flags.has(word.split('=', 1)[0] as string));
  if (found === undefined) return;
  throw usageError(
    `${found} does not go before '${name}', only before ${others.map((row) => row.name).join(', ')}`,
    "A stock exe-unit runs commands by requests to 'start': there is no process a command.",
  );
}
