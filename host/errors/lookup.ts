/** Finds the row of a code in the table, in the ways that people write codes. */
import { SECTIONS } from './table.ts';

export interface Explanation {
  code: string;
  /** Title of its section. */
  section: string;
  meaning: string;
  /** Null: nothing that is always so. */
  helps: string | null;
}

/** Every code, in the order of the page. */
export function allExplanations(): Explanation[] {
  return SECTIONS.flatMap(({ title, rows }) =>
    rows.flatMap(({ codes, meaning, helps = null }) =>
      codes.map((code) => ({ code, section: title, meaning: plain(meaning), helps: helps && plain(helps) })),
    ),
  );
}

/** Null: no code. `(YAVM_E_GPU_BUSY)`, `GPU_BUSY`, `gpu-busy` are the same; a guest's own `spawn-failed` is one too. */
export function findExplanation(word: string): Explanation | null {
  const wanted = shortForm(word);
  const all = allExplanations();
  const named = (short: string) => all.find(({ code }) => shortForm(code) === short);
  return named(wanted) ?? named(`GUEST_${wanted}`) ?? null;
}

/** Codes listed for a word that is none. */
const MOST_SIMILAR = 6;

/** Codes that might have been meant: those that hold the word, or those that are the fewest typing errors away from it. */
export function similarCodes(word: string): string[] {
  const wanted = shortForm(word).slice(0, MAX_WORD);
  if (wanted === '') return [];
  const codes = allExplanations().map(({ code }) => ({ code, short: shortForm(code) }));
  const holding = codes.filter(({ short }) => short.includes(wanted));
  if (holding.length > 0) return holding.slice(0, MOST_SIMILAR).map(({ code }) => code);
  const far = codes.map(({ code, short }) => ({ code, errors: typingErrors(wanted, short) }));
  const least = Math.min(...far.map(({ errors }) => errors));
  if (least > Math.ceil(wanted.length / 3)) return [];
  return far
    .filter(({ errors }) => errors === least)
    .slice(0, MOST_SIMILAR)
    .map(({ code }) => code);
}

/** `gpu_busy`: short and lower case, as it is typed. */
export function typedForm(code: string): string {
  return shortForm(code).toLowerCase();
}

/** Characters of a word that are compared: no code is longer. */
const MAX_WORD = 64;

function shortForm(word: string): string {
  return word
    .toUpperCase()
    .replaceAll('-', '_')
    .replace(/^[^A-Z]+|[^A-Z0-9]+$/g, '')
    .replace(/^YAVM_E_/, '');
}

/** Letters to insert, remove or change (Levenshtein): the table's codes are too few for more than the textbook's way. */
function typingErrors(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1];
    for (let column = 0; column < to.length; column++) {
      const changed = (row[column] as number) + (letter === to[column] ? 0 : 1);
      next.push(Math.min(changed, (row[column + 1] as number) + 1, (next[column] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}

/** Without Markdown: a link's page is named behind its text. */
function plain(text: string): string {
  return text.replace(/\[([^\]]+)\]\(([^)#]+)(?:#[^)]*)?\)/g, '$1 (docs/$2)').replaceAll('`', '');
}
