/** What every bench is given. */
import { join, resolve } from 'node:path';
import type { Figure } from './figure.ts';

export const OUT = resolve(import.meta.dirname, '../../build/out');
export const FLOOR = join(OUT, 'floor.cpio.zst');

export interface BenchContext {
  /** Both sides of a comparison run on the same accelerator. */
  accel: 'tcg' | 'kvm';
  /** A line for the person who waits. */
  say(line: string): void;
}

export interface Bench {
  name: string;
  /** What it measures, in a line. */
  what: string;
  run(context: BenchContext): Promise<Figure[]>;
}
