/** Aliases of modules: patterns in modules.alias, held against what devices say of themselves (MODALIAS in sysfs). */

/** Characters with a meaning in a pattern; what stands before the first of them is compared as it is. */
const SPECIAL = /[*?[\\]/;

/**
 * Whether the shell pattern `pattern` fits the whole of `text`: `*`, `?`, classes with ranges and `!` or `^`, and `\`, as
 * fnmatch(3) without flags. Outside classes a dash and an underscore are one character, as in names of modules. A class that
 * does not end is taken as a plain bracket. Time is at most the product of both lengths.
 */
export function matchAlias(pattern: string, text: string): boolean {
  let at = 0;
  let from = 0;
  // Where to go on when what follows the last star does not fit: the star takes one character more.
  let star = -1;
  let taken = 0;
  while (from < text.length) {
    if (pattern[at] === '*') {
      star = at++;
      taken = from;
      continue;
    }
    const next = matchOne(pattern, at, text[from] as string);
    if (next > 0) {
      at = next;
      from++;
    } else {
      if (star < 0) return false;
      at = star + 1;
      from = ++taken;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}

/** Where the pattern goes on behind what fits this one character; 0 when it does not fit. */
function matchOne(pattern: string, at: number, character: string): number {
  const sign = pattern[at];
  if (sign === undefined) return 0;
  if (sign === '?') return at + 1;
  if (sign === '[') {
    const end = classEnd(pattern, at);
    if (end > 0) return inClass(pattern.slice(at + 1, end), character) ? end + 1 : 0;
  }
  const escaped = sign === '\\' && at + 1 < pattern.length;
  const wanted = escaped ? (pattern[at + 1] as string) : sign;
  return same(wanted) === same(character) ? at + (escaped ? 2 : 1) : 0;
}

/** Index of the bracket that ends the class at `at`; 0 when there is none. A bracket that comes first is a member. */
function classEnd(pattern: string, at: number): number {
  const negated = pattern[at + 1] === '!' || pattern[at + 1] === '^';
  const end = pattern.indexOf(']', at + (negated ? 3 : 2));
  return Math.max(end, 0);
}

function inClass(members: string, character: string): boolean {
  const negated = members[0] === '!' || members[0] === '^';
  for (let i = negated ? 1 : 0; i < members.length; i++) {
    const first = members[i] as string;
    const ranged = members[i + 1] === '-' && i + 2 < members.length;
    const last = ranged ? (members[i + 2] as string) : first;
    if (character >= first && character <= last) return !negated;
    if (ranged) i += 2;
  }
  return negated;
}

function same(character: string): string {
  return character === '-' ? '_' : character;
}

/**
 * Modules for an alias, from lines `alias PATTERN MODULE`, in their order and each once. The lists are searched as text: all
 * of a whole kernel's are 1 MB, and an index would be several times that.
 */
export function findAliases(text: string, alias: string): string[] {
  const found: string[] = [];
  forEachAlias(
    text,
    (pattern, start, end) => {
      if (!matchAlias(pattern, alias)) return;
      const name = text.slice(start, end).trim();
      if (name !== '' && !found.includes(name)) found.push(name);
    },
    alias,
  );
  return found;
}

/** Buses whose devices some pattern is for: what stands before a pattern's colon or its first special character. */
export function aliasBuses(text: string): Set<string> {
  const buses = new Set<string>();
  forEachAlias(text, (pattern) => {
    const end = pattern.search(/[:*?[\\]/);
    if (end > 0) buses.add(pattern.slice(0, end));
  });
  return buses;
}

/** Calls with each line's pattern and where its module's name stands; with `alias`, only where its beginning can fit. */
function forEachAlias(
  text: string,
  take: (pattern: string, nameStart: number, nameEnd: number) => void,
  alias?: string,
): void {
  // Patterns begin with their bus: four characters sort out nearly all lines before they are cut out.
  const begins = alias?.slice(0, 4) ?? '';
  for (let start = 0; start < text.length; ) {
    let end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    if (text.startsWith('alias ', start)) {
      const patternStart = start + 6;
      const patternEnd = text.indexOf(' ', patternStart);
      if (patternEnd > patternStart && patternEnd < end && canBegin(text, patternStart, patternEnd, begins))
        take(text.slice(patternStart, patternEnd), patternEnd + 1, end);
    }
    start = end + 1;
  }
}

function canBegin(text: string, start: number, end: number, begins: string): boolean {
  if (text.startsWith(begins, start)) return true;
  const head = text.slice(start, Math.min(start + begins.length, end));
  return SPECIAL.test(head) || /[-_]/.test(begins);
}
