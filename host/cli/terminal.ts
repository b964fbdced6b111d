/** The person's terminal: raw mode that is always undone, window size, keys that leave a session. */
import type { TerminalIn, TerminalOut } from './context.ts';
import { passOutputThrough } from './termios.ts';

const rawTerminals = new Set<TerminalIn>();

/** Switches a terminal to raw mode; the function it returns switches back. Safe to call more than once. */
export function enterRawMode(stdin: TerminalIn): () => void {
  stdin.setRawMode?.(true);
  if (stdin.fd !== undefined) passOutputThrough(stdin.fd);
  rawTerminals.add(stdin);
  return () => {
    if (!rawTerminals.delete(stdin)) return;
    stdin.setRawMode?.(false);
  };
}

/** Undoes every raw mode. For the process's 'exit' event, which uncaught errors pass too; so it must not throw. */
export function restoreTerminals(): void {
  for (const stdin of rawTerminals) {
    rawTerminals.delete(stdin);
    try {
      stdin.setRawMode?.(false);
    } catch {
      // The terminal is gone: there is nothing to restore.
    }
  }
}

export interface WindowSize {
  rows: number;
  columns: number;
}

/** Size of the terminal; 24 × 80 where it says nothing (a pty that nobody sized says 0 × 0). */
export function windowSize(stdout: TerminalOut): WindowSize {
  return { rows: stdout.rows || 24, columns: stdout.columns || 80 };
}

/** Calls back at each change of the window's size (SIGWINCH). @returns a function that stops it. */
export function onResize(stdout: TerminalOut, changed: (size: WindowSize) => void): () => void {
  const listener = () => changed(windowSize(stdout));
  stdout.on('resize', listener);
  return () => stdout.off('resize', listener);
}

/** Ctrl-P Ctrl-Q, docker's keys to leave a session without ending it. */
export const DETACH_KEYS: readonly number[] = [0x10, 0x11];
/** Ctrl-], telnet's and virsh's key to leave a console. */
export const ESCAPE_KEY: readonly number[] = [0x1d];

/**
 * Looks for a key sequence in what is typed. The beginning of a sequence is held back until the next key tells whether
 * the rest comes: then it is passed on, or swallowed as a whole.
 */
export class KeyScanner {
  readonly #keys: readonly number[];
  /** How many keys of the sequence came so far. */
  #matched = 0;

  constructor(keys: readonly number[]) {
    this.#keys = keys;
  }

  /** @returns what to pass on, and whether the sequence is complete (what was typed after it is dropped). */
  scan(chunk: Uint8Array): { pass: Uint8Array; found: boolean } {
    const pass: number[] = [];
    for (const byte of chunk) {
      if (byte !== this.#keys[this.#matched]) {
        pass.push(...this.#keys.slice(0, this.#matched));
        this.#matched = 0;
      }
      if (byte !== this.#keys[this.#matched]) pass.push(byte);
      else if (++this.#matched === this.#keys.length) {
        this.#matched = 0;
        return { pass: Uint8Array.from(pass), found: true };
      }
    }
    return { pass: Uint8Array.from(pass), found: false };
  }
}
