/** The repository's own files, for the tests that check the repository itself. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What git ignores, and git's own. Kept here because these tests run without git too. */
const IGNORED = new Set(['.git', 'node_modules', '.tap', 'build/out', 'build/cache', 'native/addon/build']);

/** Paths of every file that belongs to the repository, from its top, sorted. */
export function sourceFiles(top = '.', folder = ''): string[] {
  const files: string[] = [];
  for (const entry of readdirSync(join(top, folder), { withFileTypes: true })) {
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (IGNORED.has(path)) continue;
    if (entry.isDirectory()) files.push(...sourceFiles(top, path));
    else if (entry.isFile()) files.push(path);
  }
  return files.sort();
}

/** Contents of a file of the repository. */
export function readSource(path: string): string {
  return readFileSync(path, 'utf8');
}

/**
 * The module specifiers that a TypeScript source imports or re-exports, type-only ones included. Works on formatted
 * code (`make format`): statements begin a line, and specifiers are in single quotes.
 */
export function importsOf(source: string): string[] {
  const statements = /^(?:import|export)\b(?:[^;'"]*?\bfrom)?\s*'([^']+)'/gm;
  const calls = /\bimport\(\s*'([^']+)'\s*\)/g;
  return [...source.matchAll(statements), ...source.matchAll(calls)].map((match) => match[1]!);
}
