/**
 * Rust's expressions in JavaScript's notation (flag `u`). Covers what manifests are written with; what JavaScript has
 * and Rust has not (look-around, back references) is refused, so that no rule means more here than there. Classes
 * within classes are not covered and refused too.
 */

/** What Rust means by its shorthands, which are Unicode's; usable inside and outside of a class. */
const CLASSES: Readonly<Record<string, string>> = {
  d: '\\p{Nd}',
  w: '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}',
  s: '\\p{White_Space}',
};

/** `[[:alpha:]]` and the others, ASCII. */
const POSIX: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`\\{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};

const CONTROLS: Readonly<Record<string, string>> = {
  a: '\\x07',
  f: '\\f',
  t: '\\t',
  n: '\\n',
  r: '\\r',
  v: '\\v',
};

/** @throws {Error} for what cannot be said in JavaScript */
export function translateRegex(source: string): string {
  const { flags, rest } = leadingFlags(source);
  const body = new Translator(rest, flags.includes('s')).translate();
  const modifiers = flags.replace(/[^im]/g, '');
  return modifiers === '' ? body : `(?${modifiers}:${body})`;
}

/** `(?i)` and the like, at the begin only. */
function leadingFlags(source: string): { flags: string; rest: string } {
  const match = /^\(\?([ims]+)\)/.exec(source);
  return match
    ? { flags: match[1] as string, rest: source.slice(match[0].length) }
    : { flags: '', rest: source };
}

class Translator {
  readonly #characters: string[];
  readonly #dotAll: boolean;
  #at = 0;

  constructor(source: string, dotAll: boolean) {
    this.#characters = [...source];
    this.#dotAll = dotAll;
  }

  translate(): string {
    let result = '';
    while (this.#at < this.#characters.length) result += this.#next();
    return result;
  }

  #next(): string {
    const character = this.#take();
    if (character === '\\') return this.#escape(false);
    if (character === '[') return this.#class();
    if (character === '.') return this.#dotAll ? '[\\s\\S]' : '[^\\n]';
    if (character === '(') return this.#group();
    if (character === ']' || character === '}') return `\\${character}`;
    if (character === '{') return this.#repetition();
    return character;
  }

  #take(): string {
    const character = this.#characters[this.#at++];
    if (character === undefined) throw new Error('the expression ends too early');
    return character;
  }

  /** Whether `text` comes next; then it is passed. */
  #accept(text: string): boolean {
    const found = this.#characters.slice(this.#at, this.#at + text.length).join('') === text;
    if (found) this.#at += text.length;
    return found;
  }

  #group(): string {
    if (!this.#accept('?')) return '(';
    if (this.#accept(':')) return '(?:';
    if (this.#accept('P<') || this.#accept('<')) {
      const end = this.#characters.indexOf('>', this.#at);
      const name = this.#characters.slice(this.#at, end).join('');
      if (end < 0 || !/^[A-Za-z_]\w*$/.test(name)) throw new Error('look-around, or a bad name of a group');
      this.#at = end + 1;
      return `(?<${name}>`;
    }
    if (this.#accept('i:')) return '(?i:';
    if (this.#accept('-i:')) return '(?-i:';
    throw new Error('this kind of group is not supported');
  }

  #repetition(): string {
    const end = this.#characters.indexOf('}', this.#at);
    const counts = end < 0 ? '' : this.#characters.slice(this.#at, end).join('');
    if (!/^\d+(,\d*)?$/.test(counts)) throw new Error('a bad repetition');
    this.#at = end + 1;
    return `{${counts}}`;
  }

  /** After a backslash. */
  #escape(inClass: boolean): string {
    const character = this.#take();
    const lower = character.toLowerCase();
    const shorthand = CLASSES[lower];
    if (shorthand !== undefined && character === lower) return inClass ? shorthand : `[${shorthand}]`;
    if (shorthand !== undefined) {
      if (inClass) throw new Error(`\\${character} inside of a class is not supported`);
      return `[^${shorthand}]`;
    }
    const control = CONTROLS[character];
    if (control !== undefined) return control;
    if (lower === 'p') return this.#property(character);
    if (character === 'x' || character === 'u' || character === 'U') return this.#codePoint(character);
    if (!inClass && character === 'A') return '(?-m:^)';
    if (!inClass && character === 'z') return '(?-m:$)';
    if (!inClass && lower === 'b') return `\\${character}`;
    if (/[A-Za-z0-9]/.test(character)) throw new Error(`\\${character} is not supported`);
    return literal(character, inClass);
  }

  #property(letter: string): string {
    if (!this.#accept('{')) return `\\${letter}{${this.#take()}}`;
    const end = this.#characters.indexOf('}', this.#at);
    if (end < 0) throw new Error('a property without end');
    const name = this.#characters.slice(this.#at, end).join('');
    this.#at = end + 1;
    // Scripts need their key in JavaScript; general categories must not have it.
    const plain = isProperty(name) ? name : `Script=${name}`;
    return `\\${letter}{${plain}}`;
  }

  #codePoint(letter: string): string {
    let digits: string;
    if (this.#accept('{')) {
      const end = this.#characters.indexOf('}', this.#at);
      digits = end < 0 ? '' : this.#characters.slice(this.#at, end).join('');
      this.#at = end + 1;
    } else {
      const length = { x: 2, u: 4, U: 8 }[letter] as number;
      digits = this.#characters.slice(this.#at, this.#at + length).join('');
      this.#at += length;
    }
    if (!/^[0-9a-fA-F]{1,8}$/.test(digits)) throw new Error('a bad code point');
    return `\\u{${digits.replace(/^0+(?=.)/, '')}}`;
  }

  #class(): string {
    let result = this.#accept('^') ? '[^' : '[';
    // A bracket that comes first is a character.
    if (this.#accept(']')) result += '\\]';
    for (;;) {
      const character = this.#take();
      if (character === ']') return `${result}]`;
      if (character === '\\') result += this.#escape(true);
      else if (character === '[') result += this.#posix();
      else if (this.#doubled(character)) throw new Error('set operations are not supported');
      else result += character === '-' ? '-' : literal(character, true);
    }
  }

  #posix(): string {
    if (!this.#accept(':')) throw new Error('a class within a class is not supported');
    const end = this.#characters.indexOf(':', this.#at);
    const name = this.#characters.slice(this.#at, Math.max(end, this.#at)).join('');
    this.#at = end + 1;
    const set = Object.hasOwn(POSIX, name) ? POSIX[name] : undefined;
    if (set === undefined || !this.#accept(']')) throw new Error(`no class named '${name.slice(0, 20)}'`);
    return set;
  }

  /** `&&`, `--` and `~~` are operators. */
  #doubled(character: string): boolean {
    return '&-~'.includes(character) && this.#characters[this.#at] === character;
  }
}

function isProperty(name: string): boolean {
  try {
    new RegExp(`\\p{${name}}`, 'u');
    return true;
  } catch {
    return false;
  }
}

/** A character that means itself, in JavaScript's unforgiving flag `u`. */
function literal(character: string, inClass: boolean): string {
  const special = inClass ? /[\^$\\.*+?()[\]{}|/-]/ : /[\^$\\.*+?()[\]{}|/]/;
  return special.test(character) ? `\\${character}` : character;
}
