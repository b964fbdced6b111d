import t from 'tap';
import { troubleshootingPage } from '../../build/troubleshooting.ts';
import type { GuestErrorCode } from '../../guest/protocol/messages.ts';
import type { Section } from '../../host/errors/section.ts';
import { SECTIONS } from '../../host/errors/table.ts';
import { guestErrorCode } from '../../host/runtime/guest-errors.ts';
import { readSource, sourceFiles } from '../lib/source-tree.ts';

/** A whole code: what ends in _ is the beginning of a family, in a comment. */
const CODE = /\bYAVM_E_[A-Z0-9_]*[A-Z0-9]\b/g;

const rows = SECTIONS.flatMap((section) => section.rows);
const codes = rows.flatMap((row) => row.codes as readonly string[]);

t.test('docs/troubleshooting.md is what the table makes', async (t) => {
  t.equal(
    readSource('docs/troubleshooting.md'),
    troubleshootingPage(SECTIONS),
    'else: build/node.sh build/docs.ts',
  );
});

t.test('every code of the sources has a row, and every row a use', async (t) => {
  const sources = sourceFiles().filter(
    (file) => /^(host|initramfs)\/.*\.ts$/.test(file) && !file.startsWith('host/errors/'),
  );
  const used = new Set(sources.flatMap((file) => readSource(file).match(CODE) ?? []));
  for (const name of guestCodes()) used.add(guestErrorCode(name));
  t.ok(used.size > 150 && guestCodes().length > 10, 'codes were found');
  t.same(
    [...used].filter((code) => !codes.includes(code)),
    [],
    'used, without a row',
  );
  t.same(
    codes.filter((code) => !used.has(code)),
    [],
    'with a row, and never used',
  );
});

t.test('a code has one row; texts fit a cell', async (t) => {
  t.same(
    codes.filter((code, index) => codes.indexOf(code) !== index),
    [],
    'twice',
  );
  for (const { codes, meaning, helps } of rows) {
    t.ok(codes.length > 0 && codes.every((code) => code.match(CODE)?.[0] === code), codes.join());
    for (const text of [meaning, helps ?? 'none']) t.match(text, /^[^|\n]+$/, `${codes[0]}: ${text}`);
  }
});

t.test('a section where nothing helps has no column for it; an empty help leaves its cell', async (t) => {
  const of = (section: Section) => troubleshootingPage([section]).split('\n## ')[1];
  const bare = { codes: ['YAVM_E_A', 'YAVM_E_B'], meaning: 'm' } as const;
  t.equal(
    of({ title: 'T', intro: 'I.', rows: [bare] }),
    'T\n\nI.\n\n| code | meaning |\n|---|---|\n| `YAVM_E_A`, `YAVM_E_B` | m |\n',
  );
  t.match(
    of({ title: 'T', rows: [bare, { codes: ['YAVM_E_C'], meaning: 'n', helps: 'h' }] }),
    '|---|---|---|\n| `YAVM_E_A`, `YAVM_E_B` | m | |\n| `YAVM_E_C` | n | h |\n',
  );
});

t.test('the texts are loaded by who explains them, and by no other start', async (t) => {
  const loading = sourceFiles().filter(
    (file) =>
      /^(host|initramfs)\/.*\.ts$/.test(file) &&
      !file.startsWith('host/errors/') &&
      /^(?:import|\}) (?!type ).*\/errors\/\w+\.ts'/m.test(readSource(file)),
  );
  t.same(loading, ['host/cli/explain.ts']);
});

/** The guest's codes, from the type that lists them. */
function guestCodes(): GuestErrorCode[] {
  const [, union = ''] =
    /export type GuestErrorCode =([^;]+);/.exec(readSource('guest/protocol/wire-error.ts')) ?? [];
  return [...union.matchAll(/'([a-z-]+)'/g)].map((match) => match[1] as GuestErrorCode);
}
