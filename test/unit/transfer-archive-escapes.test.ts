/** Archives that try to lead out of their directory: each is refused, for what it tries. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { describeError, isYavmError } from '../../host/lib/errors.ts';
import { DEFAULT_LIMITS } from '../../host/transfer/archive/index.ts';
import { run, unpack } from '../lib/archives.ts';
import { type ArchiveEscape, ESCAPES } from '../lib/escapes.ts';
import { paxHeader, type RawHeader, rawTar } from '../lib/raw-tar.ts';
import { rawZip } from '../lib/raw-zip.ts';

const rows = ESCAPES.filter((row): row is ArchiveEscape => row.kind === 'archive');

t.test('the table', async (t) => {
  t.ok(ESCAPES.length >= 40, `${ESCAPES.length} ways out, of all kinds`);
  t.ok(rows.length >= 25, `${rows.length} of archives`);
  t.equal(new Set(rows.map(({ what }) => what)).size, rows.length, 'each once');
});

t.test('each is refused', async (t) => {
  for (const { what, format, make, code, says } of rows) {
    const error = await unpack(make(), { format }).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    t.ok(isYavmError(error, code) && says.test(error.message), `${what}: ${error && describeError(error)}`);
  }
});

t.test('each is refused when it comes byte by byte', async (t) => {
  for (const { what, format, make, code } of rows) {
    const archive = make();
    if (archive.byteLength > 16_384) continue;
    await t.rejects(unpack(archive, { format }, 7), { code }, what);
  }
});

t.test('what is handed out before a refusal leads nowhere', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-escapes-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'outside'), 'untouched');
  const { packArchive: _, unpackArchive } = await import('../../host/transfer/archive/index.ts');
  const { pieces } = await import('../lib/archives.ts');
  for (const { what, format, make } of rows) {
    const inside = mkdtempSync(join(folder, 'in-'));
    const parts: Uint8Array[] = [];
    const options = { format, signal: new AbortController().signal, tempFolder: folder };
    try {
      for await (const piece of unpackArchive(pieces(make()), options)) parts.push(Uint8Array.from(piece));
    } catch {
      // Refused, as it should be.
    }
    try {
      // With -P tar follows every name and link that it is given.
      run('tar', ['-xPf', '-', '-C', inside, '--no-same-owner', '--ignore-zeros'], {
        input: Buffer.concat(parts),
      });
    } catch {
      // A tar that is cut off.
    }
    rmSync(inside, { recursive: true, force: true });
    t.same(readdirSync(folder), ['outside'], what);
  }
  t.equal(readFileSync(join(folder, 'outside'), 'latin1'), 'untouched');
});

const link = (name: string, target: string): RawHeader => ({ name, flag: '2', link: target });
const folder = (name: string): RawHeader => ({ name, flag: '5' });

t.test('links that stay inside pass', async (t) => {
  const harmless: [what: string, ...entries: RawHeader[]][] = [
    ['to a file', { name: 'a' }, link('l', 'a')],
    ['to what is not there', link('l', 'a/b')],
    ['up and down', folder('a'), link('a/b/l', '../../c')],
    ['to the directory itself', link('a/l', '..'), link('l', '.')],
    ['through a link', folder('a'), link('l', 'a'), link('m', 'l/x')],
    ['down and up', link('l', 'a/../b')],
    ['the same twice', link('l', 'a'), link('l', 'b')],
    ['that become files', link('l', 'a'), { name: 'l', content: 'x' }],
    ['that are files before', { name: 'l', content: 'x' }, link('l', 'a')],
    ['hard, to a file', { name: 'a', content: 'x' }, { name: 'h', flag: '1', link: './a' }],
    ['hard, to a link that stays inside', link('a/l', 'x'), { name: 'h', flag: '1', link: 'a/l' }],
  ];
  for (const [what, ...entries] of harmless) {
    const tar = await unpack(rawTar(...entries), { format: 'tar' });
    t.equal(
      run('tar', ['-tf', '-'], { input: tar }).toString().trim().split('\n').length,
      entries.length,
      what,
    );
  }
});

t.test('a backslash or a colon is a character where it does not separate', async (t) => {
  const names = async (zip: Buffer) =>
    run('tar', ['--quoting-style=literal', '-tf', '-'], { input: await unpack(zip, { format: 'zip' }) })
      .toString()
      .trim();
  t.equal(await names(rawZip([{ name: 'a\\b' }])), 'a\\b', 'made on Unix');
  t.equal(await names(rawZip([{ name: 'a\\b', system: 0, mode: 0 }])), 'a/b', 'made on Windows');
  t.equal(await names(rawZip([{ name: 'a:b' }])), 'a:b');
  t.equal(await names(rawZip([{ name: 'caf\x82', system: 0, mode: 0 }])), 'café', "MS-DOS's own characters");
});

t.test('bounds', async (t) => {
  const refused = (what: string, archive: Uint8Array, limits: Partial<typeof DEFAULT_LIMITS>, says: RegExp) =>
    t.rejects(
      unpack(archive, { format: 'tar', limits }),
      { code: 'YAVM_E_ARCHIVE_LIMIT', message: says },
      what,
    );
  const many = rawTar(...Array.from({ length: 11 }, (_, index) => ({ name: `f${index}` })));
  await refused('entries', many, { entries: 10 }, /more than 10 entries/);
  await refused('bytes', many, { bytes: 4096 }, /more than 4096 bytes/);
  const deep = rawTar(...Array.from({ length: 100 }, (_, index) => folder(`d${index}/e`)));
  await refused('memory', deep, { memory: 10_000 }, /too many directories/);
  t.match(DEFAULT_LIMITS, { entries: 1_000_000, ratio: 1000, bytes: 64 * 2 ** 30 });
  const small = await unpack(many, { format: 'tar', limits: { entries: 11 } });
  t.ok(small.byteLength > 0, 'exactly as many as may be');
});

t.test('an archive that is cut anywhere is refused', async (t) => {
  const whole = rawTar(
    paxHeader({ path: 'a'.repeat(200) }),
    { name: 'x', content: 'content' },
    link('l', 'x'),
  );
  let passed = 0;
  for (let at = 0; at < whole.byteLength - 512; at += 64) {
    await unpack(whole.subarray(0, at), { format: 'tar' }).then(
      () => passed++,
      (error: unknown) => {
        if (!isYavmError(error, 'YAVM_E_ARCHIVE')) throw error;
      },
    );
  }
  t.equal(passed, 0);
  t.ok(
    await unpack(whole.subarray(0, -512), { format: 'tar' }),
    'one block of zeros ends it, as the guest has it',
  );
});
