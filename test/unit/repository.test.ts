import { existsSync } from 'node:fs';
import t from 'tap';
import { readSource, sourceFiles } from '../lib/source-tree.ts';

/** Longest that a source may be, lines. */
const MOST_LINES = 400;
/** Files that are longer, each with the reason. */
const LONGER: Record<string, string> = {};

/** Words that belong to one machine or one network, put together here so that this file does not hold them. */
const FOREIGN = [
  ['registry', 'npmjs', 'org'].join('.'),
  ['deb', 'debian', 'org'].join('.'),
  ['pypi', 'org'].join('.'),
  ['crates', 'io'].join('.'),
  `${'/wo'}rk/`,
];

const files = sourceFiles();
const pages = files.filter((file) => file.endsWith('.md'));
const linesOf = (file: string) => readSource(file).split('\n').length - 1;
const isCode = (file: string) => /\.(ts|c|cc|h|sh)$/.test(file);

t.test('no source is longer than can be read in one go', async (t) => {
  const long = files.filter(isCode).filter((file) => linesOf(file) > MOST_LINES);
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
