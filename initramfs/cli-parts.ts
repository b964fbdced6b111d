/** What the initramfs commands share. */
import type { Writable } from 'node:stream';
import type { Command } from 'commander';

/** Where a command writes: results to stdout, progress to stderr. */
export interface Streams {
  stdout: Writable;
  stderr: Writable;
}

/** Ties a handler to a command; the command line as a whole reports what it throws. */
export type Act = (
  command: Command,
  handler: (streams: Streams, options: Record<string, unknown>, operands: unknown[]) => Promise<number>,
) => void;

export function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** Resolves when the stream took the text; a reader that left is the stream owner's affair. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve) => {
    stream.write(`${text}\n`, () => resolve());
  });
}

export function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
