/** Which test files to run, from the words on the command line. */
import { globSync } from 'node:fs';
import { relative, sep } from 'node:path';
import { LAYERS, type Layer } from './layers.ts';

export interface Job {
  /** Path from the repository's top. */
  file: string;
  layer: Layer;
}

/**
 * Jobs for `words`: names of layers, or test files; all layers when there are none.
 * @throws {Error} for a word that is neither, so that a typing error never passes as "nothing failed".
 */
export function selectJobs(words: string[]): Job[] {
  return selectJobsWith(words, (layer) => globSync(`test/${layer}/**/*.test.ts`).sort());
}

/** `selectJobs` with the file system passed in: `filesOf` lists a layer's test files. */
export function selectJobsWith(words: string[], filesOf: (layer: string) => string[]): Job[] {
  const all = LAYERS.flatMap((layer) => filesOf(layer.name).map((file) => ({ file, layer })));
  if (words.length === 0) return all;
  return words.flatMap((word) => {
    const path = relative('.', word).split(sep).join('/');
    const chosen = all.filter((job) => job.layer.name === word || job.file === path);
    if (chosen.length === 0)
      throw new Error(
        `"${word}" is neither a layer (${LAYERS.map((layer) => layer.name).join(', ')}) nor a test file`,
      );
    return chosen;
  });
}
