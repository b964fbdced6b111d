/**
 * The record of a VM's serial console, held open: the run folder goes with its VM, and of one that does not come up that
 * is before anybody could read it.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { CONSOLE_FILE } from '../runtime/run-folder.ts';

/** The part of a VM that knows its console. */
export interface ConsoleOwner {
  /** Run folder. */
  readonly folder: string;
  consoleLines(count?: number): string[];
}

/** The first file's size (host/runtime/console-log.ts starts a new one then), bytes. */
const MOST = 1024 * 1024;
const ALL_LINES = 10_000;

export class ConsoleFile {
  #owner: ConsoleOwner | null = null;
  #fd = -1;

  /** To be called when QEMU runs, before anything can end it. */
  open(owner: ConsoleOwner): void {
    this.#owner = owner;
    try {
      this.#fd = openSync(join(owner.folder, CONSOLE_FILE), 'r');
    } catch {
      // Then the end in memory has to do.
    }
  }

  /** What was printed so far: the first mebibyte, and of what is beyond it the end. */
  read(): string {
    if (this.#owner === null) return '';
    const lines = () => (this.#owner?.consoleLines(ALL_LINES) ?? []).join('\n');
    if (this.#fd < 0) return lines();
    const buffer = Buffer.alloc(MOST);
    let length = 0;
    while (length < MOST) {
      const count = readSync(this.#fd, buffer, length, MOST - length, length);
      if (count === 0) break;
      length += count;
    }
    const text = buffer.toString('utf8', 0, length);
    // Close to the bound the file may have been turned; the next piece is at most 16 KiB.
    return length < MOST - 16 * 1024 ? text : `${text}\n[…]\n${lines()}`;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
