/**
 * Patterns for paths: `*` and `?` within one name, `**` across names, `[a-z]`, `[!a]`, `{a,b}`, and `\` before a character
 * that is meant as it is. A pattern becomes an automaton of which all states are followed at once: the time is bounded by
 * pattern × path, whatever both are. A regular expression of the same pattern goes back and forth: six stars and
 * a name of 255 characters keep it busy for an hour, and patterns come from a script.
 */
import { YavmError } from '../../lib/errors.ts';

/** Paths are relative, without slashes at their ends. */
export interface Matcher {
  matches(path: string): boolean;
  /** Whether the path, or a directory that it lies in, matches. */
  covers(path: string): boolean;
}

const MAX_NESTED_BRACES = 16;
const SLASH = 0x2f;

/** A step that takes a character (`takes`), or none: then to both. */
interface State {
  takes: ((code: number) => boolean) | null;
  next: number;
  other: number;
}

const NONE = -1;
const anything = () => true;
const EVERYTHING: Matcher = { matches: anything, covers: anything };
const noSlash = (code: number) => code !== SLASH;

/** @throws {YavmError} YAVM_E_TRANSFER_FORMAT: a bracket or a brace is not closed */
export function compileGlob(pattern: string): Matcher {
  // `**` and `**/*` are what most transfers say, if anything.
  if (pattern === '**' || pattern === '**/*') return EVERYTHING;
  const relative = relativePattern(pattern);
  return isLiteral(pattern) ? new Literal(relative) : new Automaton(...new Compiler(relative).compile());
}

/** Whether it is the path of one file. */
export function isLiteral(pattern: string): boolean {
  return !/[*?[{\\]|\/$/.test(pattern);
}

/** Paths are relative. As Ant has it, a slash at the end means what is in the directory. */
function relativePattern(pattern: string): string {
  const relative = pattern.replace(/^(\.?\/)+/, '');
  return relative.endsWith('/') ? `${relative}**` : relative;
}

class Literal implements Matcher {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  matches(path: string): boolean {
    return path === this.#path;
  }

  covers(path: string): boolean {
    return path === this.#path || path.startsWith(`${this.#path}/`);
  }
}

class Automaton implements Matcher {
  readonly #states: readonly State[];
  readonly #first: number;
  /** When each state was entered last: entering it twice for one character changes nothing. */
  readonly #entered: Float64Array;
  /** Counts characters, of all paths. */
  #time = 0;
  #now: number[] = [];
  #next: number[] = [];
  readonly #stack: number[] = [];

  constructor(states: readonly State[], first: number) {
    this.#states = states;
    this.#first = first;
    this.#entered = new Float64Array(states.length);
  }

  matches(path: string): boolean {
    return this.#follow(path, false);
  }

  covers(path: string): boolean {
    return this.#follow(path, true);
  }

  #follow(path: string, ancestors: boolean): boolean {
    this.#now.length = 0;
    this.#time++;
    this.#enter(this.#first, this.#now);
    for (const character of path) {
      const code = character.codePointAt(0) as number;
      if (ancestors && code === SLASH && this.#isThrough()) return true;
      this.#time++;
      this.#next.length = 0;
      for (const index of this.#now) {
        const { takes, next } = this.#states[index] as State;
        if (takes?.(code)) this.#enter(next, this.#next);
      }
      if (this.#next.length === 0) return false;
      [this.#now, this.#next] = [this.#next, this.#now];
    }
    return this.#isThrough();
  }

  /** The last state takes nothing and leads nowhere. */
  #isThrough(): boolean {
    return this.#now.some((index) => (this.#states[index] as State).takes === null);
  }

  /** Adds the states that take characters, and the last one, to which `state` leads without one. */
  #enter(state: number, into: number[]): void {
    const stack = this.#stack;
    stack.push(state);
    for (let index = stack.pop(); index !== undefined; index = stack.pop()) {
      if (index === NONE || this.#entered[index] === this.#time) continue;
      this.#entered[index] = this.#time;
      const { takes, next, other } = this.#states[index] as State;
      if (takes !== null || next === NONE) into.push(index);
      else stack.push(other, next);
    }
  }
}

/** A part of the automaton: where it begins, and the states whose `next` is still to be told. */
interface Part {
  first: number;
  open: number[];
}

class Compiler {
  readonly #pattern: string;
  readonly #codes: number[];
  readonly #states: State[] = [];
  #at = 0;
  #braces = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#codes = Array.from(pattern, (character) => character.codePointAt(0) as number);
  }

  compile(): [states: readonly State[], first: number] {
    const part = this.#sequence();
    this.#close(part, this.#add(null));
    return [this.#states, part.first];
  }

  /** Up to the end, or within braces to the next comma or brace. */
  #sequence(): Part {
    let part = this.#empty();
    while (this.#at < this.#codes.length) {
      const character = this.#peek();
      if (this.#braces > 0 && (character === ',' || character === '}')) break;
      part = this.#joined(part, this.#item(character));
    }
    return part;
  }

  #item(character: string): Part {
    if (character === '*') return this.#stars();
    if (character === '/' && this.#ahead('/**/')) {
      this.#at += 4;
      // At least one slash: then any names, each with its slash.
      return this.#joined(this.#step(isSlash), this.#names());
    }
    if (character === '[') return this.#step(this.#class());
    if (character === '{') return this.#alternatives();
    this.#at++;
    if (character === '?') return this.#step(noSlash);
    if (character === '\\' && this.#at < this.#codes.length) return this.#literal();
    this.#at--;
    return this.#literal();
  }

  #literal(): Part {
    const wanted = this.#codes[this.#at++] as number;
    return this.#step((code) => code === wanted);
  }

  #stars(): Part {
    const begins = this.#at === 0 || this.#isOneOf(this.#codes[this.#at - 1], '/', '{,');
    let count = 0;
    while (this.#peek() === '*') {
      count++;
      this.#at++;
    }
    const ends = this.#at === this.#codes.length || this.#isOneOf(this.#codes[this.#at], '', ',}');
    if (count === 2 && begins && this.#peek() === '/') {
      this.#at++;
      return this.#names();
    }
    // Behind a slash `**` is what is in the directory, which is something.
    if (count === 2 && begins && ends) return this.#joined(this.#step(anything), this.#loop(anything));
    return this.#loop(noSlash);
  }

  /** Any number of names, each with the slash behind it. */
  #names(): Part {
    const inside = this.#joined(this.#loop(anything), this.#step(isSlash));
    const fork = this.#add(null, inside.first);
    return { first: fork, open: [...inside.open, this.#otherOf(fork)] };
  }

  #alternatives(): Part {
    if (++this.#braces > MAX_NESTED_BRACES) throw this.#refused('braces within braces within braces');
    const part: Part = { first: NONE, open: [] };
    do {
      this.#at++;
      const { first, open } = this.#sequence();
      part.open.push(...open);
      part.first = part.first === NONE ? first : this.#fork(part.first, first);
    } while (this.#peek() === ',');
    if (this.#peek() !== '}') throw this.#refused("'{' without '}'");
    this.#at++;
    this.#braces--;
    return part;
  }

  /** `[a-z]`, `[!a-z]`; a `]` right at the beginning is one of the characters. */
  #class(): (code: number) => boolean {
    this.#at++;
    const negated = this.#peek() === '!' || this.#peek() === '^';
    if (negated) this.#at++;
    const ranges: [from: number, to: number][] = [];
    while (ranges.length === 0 || this.#peek() !== ']') {
      const from = this.#classCharacter();
      const isRange = this.#peek() === '-' && this.#codes[this.#at + 1] !== 0x5d;
      if (isRange) this.#at++;
      ranges.push([from, isRange ? this.#classCharacter() : from]);
    }
    this.#at++;
    return (code) => code !== SLASH && ranges.some(([from, to]) => from <= code && code <= to) !== negated;
  }

  #classCharacter(): number {
    if (this.#peek() === '\\') this.#at++;
    const code = this.#codes[this.#at++];
    if (code === undefined) throw this.#refused("'[' without ']'");
    return code;
  }

  #step(takes: (code: number) => boolean): Part {
    const state = this.#add(takes);
    return { first: state, open: [state] };
  }

  /** Any number of characters. */
  #loop(takes: (code: number) => boolean): Part {
    const fork = this.#add(null);
    const step = this.#add(takes, fork);
    (this.#states[fork] as State).next = step;
    return { first: fork, open: [this.#otherOf(fork)] };
  }

  #empty(): Part {
    const state = this.#add(null);
    // Something must come: a state that takes nothing and leads nowhere would be the end.
    return { first: state, open: [state] };
  }

  #fork(next: number, other: number): number {
    const fork = this.#add(null, next);
    (this.#states[fork] as State).other = other;
    return fork;
  }

  /** A state that goes on from a fork's second way, for lists of open states. */
  #otherOf(fork: number): number {
    const state = this.#add(null);
    (this.#states[fork] as State).other = state;
    return state;
  }

  #joined(before: Part, after: Part): Part {
    this.#close(before, after.first);
    return { first: before.first, open: after.open };
  }

  #close(part: Part, next: number): void {
    for (const index of part.open) (this.#states[index] as State).next = next;
  }

  #add(takes: State['takes'], next: number = NONE): number {
    return this.#states.push({ takes, next, other: NONE }) - 1;
  }

  /** Among `always`, or, within braces, among `inBraces`. */
  #isOneOf(code: number | undefined, always: string, inBraces: string): boolean {
    const characters = this.#braces > 0 ? always + inBraces : always;
    return code !== undefined && characters.includes(String.fromCodePoint(code));
  }

  #peek(): string {
    const code = this.#codes[this.#at];
    return code === undefined ? '' : String.fromCodePoint(code);
  }

  #ahead(text: string): boolean {
    return [...text].every((character, index) => this.#codes[this.#at + index] === character.charCodeAt(0));
  }

  #refused(problem: string): YavmError {
    return new YavmError('YAVM_E_TRANSFER_FORMAT', `fileset: ${problem} in the pattern '${this.#pattern}'`, {
      hint: "Put '\\' before a character that is meant as it is.",
    });
  }
}

function isSlash(code: number): boolean {
  return code === SLASH;
}
