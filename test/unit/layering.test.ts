import { dirname, posix } from 'node:path';
import t from 'tap';
import { objection, ROWS, within } from '../lib/layering.ts';
import { importsOf, readSource, sourceFiles } from '../lib/source-tree.ts';

/** Path of a relative import from the repository's top; null for a package. */
function targetOf(file: string, specifier: string): string | null {
  return specifier.startsWith('.') ? posix.join(dirname(file), specifier) : null;
}

t.test('no file imports what its folder may not import', async (t) => {
  const files = sourceFiles().filter((file) => file.endsWith('.ts'));
  t.ok(files.length > 20, 'there are sources to check');
  const objections = files.flatMap((file) =>
    importsOf(readSource(file))
      .map((specifier) => objection(file, specifier, targetOf(file, specifier)))
      .filter((text) => text !== null)
      .map((text) => `${file}: ${text}`),
  );
  t.same(objections, []);
});

t.test('every package that is imported is named in package.json', async (t) => {
  const { dependencies, devDependencies, imports } = JSON.parse(readSource('package.json'));
  const named = new Set([dependencies, devDependencies, imports].flatMap((names) => Object.keys(names)));
  const allowed = new Set(ROWS.flatMap((row) => row.packages).filter((name) => name !== 'node:'));
  t.same(
    [...allowed].filter((name) => !named.has(name)),
    [],
  );
});

t.test('the table itself has no circle between folders', async (t) => {
  const rows = ROWS.filter((row) => row.of !== 'test');
  const reached = (from: string, seen = new Set<string>()): Set<string> => {
    const row = rows.find((row) => row.of === from);
    for (const next of row?.ours ?? []) {
      if (seen.has(next) || within(next, from)) continue;
      seen.add(next);
      reached(next, seen);
    }
    return seen;
  };
  for (const row of rows) t.notOk(reached(row.of).has(row.of), row.of);
});

t.test('a forbidden import is found, whatever its form', async (t) => {
  const source = [
    "import { a } from '../../host/lib/errors.ts';",
    "import type { B } from 'cbor-x';",
    "import 'node:fs';",
    "export { c } from './c.ts';",
    'import {',
    '  d,',
    "} from '../agent/agent.ts';",
    `const e = await import(${"'pino'"});`,
    "const text = 'not an import from anything';",
  ].join('\n');
  t.same(importsOf(source), [
    '../../host/lib/errors.ts',
    'cbor-x',
    'node:fs',
    './c.ts',
    '../agent/agent.ts',
    'pino',
  ]);
  const file = 'guest/protocol/sample.ts';
  const objections = importsOf(source).map((name) => objection(file, name, targetOf(file, name)) !== null);
  t.same(objections, [true, false, true, false, true, true]);
});

t.test('a folder that the table does not know is refused', async (t) => {
  t.throws(() => objection('elsewhere/x.ts', './y.ts', 'elsewhere/y.ts'), /in no row/);
});
