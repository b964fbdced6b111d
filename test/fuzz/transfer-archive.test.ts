/** Any bytes as an archive: a coded error or a tar that stays inside, no hang, nothing left open; sets of files and patterns likewise. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { compileGlob } from '../../host/transfer/archive/glob.ts';
import {
  ARCHIVE_FORMATS,
  type ArchiveFormat,
  packArchive,
  parseFileset,
  unpackArchive,
} from '../../host/transfer/archive/index.ts';
import { pack, pieces } from '../lib/archives.ts';
import { type ArchiveEscape, ESCAPES } from '../lib/escapes.ts';
import { Random } from '../lib/random.ts';
import { gnuLong, paxHeader, rawTar, tarEntry } from '../lib/raw-tar.ts';
import { rawZip } from '../lib/raw-zip.ts';
import { count } from '../lib/scale.ts';
import { readTar } from '../lib/tar.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const folder = mkdtempSync(join(tmpdir(), 'yavm-fuzz-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const MIB = 1024 * 1024;
/** Small, so that what is damaged cannot ask for much before it is refused. */
const LIMITS = { bytes: 8 * MIB, entries: 1000, memory: MIB };

const entries = [
  { name: './', flag: '5' },
  { name: 'd/', flag: '5' },
  { name: 'd/file', content: Buffer.from(random.bytes(700)) },
  { name: 'd/link', flag: '2', link: '../x/y' },
  paxHeader({ path: `long/${'\xc3\xa4'.repeat(60)}`, mtime: '1.5', 'SCHILY.xattr.user.x': 'y' }),
  { name: 'short', content: 'content' },
  gnuLong('g'.repeat(150)),
  { name: 'short', flag: '0' },
  gnuLong('../../t'.repeat(20).replaceAll('..', 'u'), 'K'),
  { name: 'l', flag: '2', link: 'short' },
  { name: 'hard', flag: '1', link: 'd/file' },
];
const tar = rawTar(...entries);
const seeds = {} as Record<ArchiveFormat, Uint8Array[]>;
for (const format of ARCHIVE_FORMATS) seeds[format] = [await pack(tar, { format })];
seeds.tar.push(tar);
seeds.zip.push(
  rawZip([
    { name: 'a', content: 'stored' },
    { name: 'b/', mode: 0o040755 },
    { name: 'c', method: 8, content: 'deflated '.repeat(99) },
    { name: 'l', mode: 0o120777, content: 'b/c' },
  ]),
);
for (const row of ESCAPES) {
  if (row.kind !== 'archive') continue;
  const archive = (row as ArchiveEscape).make();
  if (archive.byteLength < 20_000) seeds[row.format].push(archive);
}

/** Half of them are nothing bad to begin with. */
function seedFor(format: ArchiveFormat): Uint8Array {
  const [good, ...bad] = seeds[format] as [Uint8Array, ...Uint8Array[]];
  return bad.length === 0 || random.chance(2) ? good : random.pick(bad);
}

/** Sums are right again, so that what is behind them is reached. */
function withSums(bytes: Uint8Array): Uint8Array {
  const result = Buffer.from(bytes);
  for (let at = 0; at + 512 <= result.byteLength; at += 512) {
    if (result.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
    result.fill(' ', at + 148, at + 156);
    const sum = result.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    result.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  }
  return result;
}

/** Whether an extractor that believes everything would stay inside. */
function staysInside(bytes: Uint8Array): boolean {
  return readTar(bytes).every(
    ({ name, type, linkName }) =>
      !name.startsWith('/') &&
      !name.split('/').includes('..') &&
      (type !== 'symlink' || !linkName.startsWith('/')) &&
      (type !== 'hardLink' || !linkName.split('/').includes('..')),
  );
}

type Outcome = 'read' | 'refused';

async function attempt(
  work: typeof packArchive,
  archive: Uint8Array,
  format: ArchiveFormat,
): Promise<Outcome> {
  const { signal } = new AbortController();
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    const options = { format, signal, limits: LIMITS, tempFolder: folder };
    for await (const piece of work(pieces(archive, random.pick([7, 100, 512, 65_536])), options)) {
      size += piece.byteLength;
      if (size > 2 * LIMITS.bytes) throw new Error('more than the limits allow');
      parts.push(Uint8Array.from(piece));
    }
  } catch (error) {
    if (!isYavmError(error)) throw error;
    return 'refused';
  }
  if (work === unpackArchive && !staysInside(Buffer.concat(parts))) throw new Error('it leads out');
  return 'read';
}

/** Programs cost more than all the rest. */
const ROUNDS: Partial<Record<ArchiveFormat, number>> = {
  'tar.bz2': 1000,
  'tar.xz': 1000,
  tar: 40_000,
  zip: 20_000,
};

for (const format of ARCHIVE_FORMATS) {
  t.test(`unpacks: ${format}`, async (t) => {
    const outcomes = { read: 0, refused: 0 };
    for (let round = count(ROUNDS[format] ?? 8000); round > 0; round--) {
      const damaged = random.mutate(seedFor(format), 3);
      outcomes[await attempt(unpackArchive, random.chance(3) ? damaged : withSums(damaged), format)]++;
    }
    t.ok(outcomes.refused > 0, `${outcomes.refused} refused, ${outcomes.read} read`);
    t.same(readdirSync(folder), [], 'nothing is left');
  });
}

t.test("packs: the guest's tar", async (t) => {
  const outcomes = { read: 0, refused: 0 };
  for (let round = count(20_000); round > 0; round--) {
    const damaged = withSums(random.mutate(seedFor('tar'), 3));
    outcomes[await attempt(packArchive, damaged, random.pick(['tar', 'tar.gz', 'zip', 'zip.0']))]++;
  }
  t.ok(outcomes.refused > 0 && outcomes.read > 0, `${outcomes.refused} refused, ${outcomes.read} packed`);
});

t.test('headers of any bytes', async (t) => {
  const outcomes = { read: 0, refused: 0 };
  for (let round = count(20_000); round > 0; round--) {
    const header = tarEntry({
      name: 'x',
      over: [[random.between(0, 500), String.fromCharCode(...random.bytes(12))]],
    });
    const end = Buffer.alloc(1024);
    outcomes[await attempt(unpackArchive, Buffer.concat([header, end]), 'tar')]++;
  }
  t.ok(outcomes.refused > 0 && outcomes.read > 0, `${outcomes.refused} refused, ${outcomes.read} read`);
});

t.test('patterns and sets', async (t) => {
  const alphabet = ['*', '**', '/', '?', '[', ']', '{', '}', ',', '!', '-', '\\', 'a', 'ä', '😀', '.', '^'];
  const text = (most: number) =>
    Array.from({ length: random.between(1, most) }, () => random.pick(alphabet)).join('');
  let compiled = 0;
  for (let round = count(100_000); round > 0; round--) {
    try {
      const glob = compileGlob(text(30));
      glob.matches(text(60));
      glob.covers(text(60));
      compiled++;
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TRANSFER_FORMAT')) throw error;
    }
  }
  t.ok(compiled > 0, `${compiled} compiled`);
  const value = (depth: number): unknown => {
    const kind = random.between(0, depth > 3 ? 5 : 8);
    if (kind < 5) return random.pick([null, 1, 'a', '', undefined, true, '**', new Uint8Array(2), 2n ** 64n]);
    if (kind === 5) return Array.from({ length: random.between(0, 4) }, () => value(depth + 1));
    const keys = ['includes', 'excludes', 'desc', '__proto__', 'x'];
    return Object.fromEntries(Array.from({ length: 3 }, () => [random.pick(keys), value(depth + 1)]));
  };
  let read = 0;
  for (let round = count(100_000); round > 0; round--) {
    try {
      for (const { includes, excludes } of parseFileset(value(0))) {
        if (![...includes, ...excludes].every((pattern) => typeof pattern === 'string'))
          throw new Error('no text');
      }
      read++;
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TRANSFER_FORMAT')) throw error;
    }
  }
  t.ok(read > 0, `${read} read`);
});
