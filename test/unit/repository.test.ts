import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { readSource, sourceFiles } from '../lib/source-tree.ts';

/** Longest that a source may be, lines. A test file is a list, which is read in parts: it may be longer. */
const MOST_LINES = { source: 400, test: 500 };
const mostLines = (file: string) => (file.endsWith('.test.ts') ? MOST_LINES.test : MOST_LINES.source);
/** Files that are longer, each with the reason. */
const LONGER: Record<string, string> = {};

/** Words that belong to one machine or one network, put together here so that this file does not hold them. */
const FOREIGN = [
  ['registry', 'npmjs', 'org'].join('.'),
  ['deb', 'debian', 'org'].join('.'),
  ['pypi', 'org'].join('.'),
  ['crates', 'io'].join('.'),
  ...checkoutPaths(),
];

/** Where this checkout lies, and what lies hidden or shared beside it, wherever that is. */
function checkoutPaths(): string[] {
  const top = process.cwd();
  const parent = dirname(top);
  const beside = readdirSync(parent).filter((name) => name.startsWith('.') || name === 'shared');
  return [top, ...beside.map((name) => join(parent, name))];
}

const files = sourceFiles();
const pages = files.filter((file) => file.endsWith('.md'));
const linesOf = (file: string) => readSource(file).split('\n').length - 1;
const isCode = (file: string) => /\.(ts|c|cc|h|sh)$/.test(file);

t.test('no source is longer than can be read in one go', async (t) => {
  const long = files.filter(isCode).filter((file) => linesOf(file) > mostLines(file));
  t.same(
    long.filter((file) => !LONGER[file]),
    [],
  );
  for (const [file, reason] of Object.entries(LONGER)) {
    t.ok(reason && existsSync(file), `${file}: listed as longer, so it exists and says why`);
  }
});

t.test('no file names this machine, or the host of a package registry', async (t) => {
  const found = files.flatMap((file) => {
    const text = readSource(file);
    return FOREIGN.filter((word) => text.includes(word)).map((word) => `${file}: ${word}`);
  });
  t.same(found, []);
});

t.test('every file that the documentation names exists', async (t) => {
  t.ok(pages.includes('docs/architecture.md') && pages.includes('README.md'), 'the pages are there');
  const missing = pages.flatMap((page) =>
    pathsIn(readSource(page))
      .filter((path) => !existsSync(path) && !path.startsWith('build/out/'))
      .map((path) => `${page}: ${path}`),
  );
  t.same(missing, []);
});

t.test('links between pages lead somewhere', async (t) => {
  const dead = pages.flatMap((page) => {
    const folder = page.includes('/') ? page.slice(0, page.lastIndexOf('/') + 1) : '';
    const links = [...readSource(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((match) => match[1]!);
    return links.filter((link) => !existsSync(folder + link)).map((link) => `${page}: ${link}`);
  });
  t.same(dead, []);
});

/** Paths in backticks: words with a slash that begin with a folder of ours, without wildcards. */
function pathsIn(text: string): string[] {
  const tops = ['guest', 'native', 'initramfs', 'host', 'build', 'test', 'docs', '.ci'];
  return [...text.matchAll(/`([\w.-]+(?:\/[\w.-]*)+)`/g)]
    .map((match) => match[1]!)
    .filter((path) => tops.includes(path.split('/')[0]!));
}
