/** Archives as streams: flat memory, aborts, sources that fail, data that are damaged, programs that do not do their work. */
import { createCipheriv, createHash } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import {
  ARCHIVE_FORMATS,
  type ArchiveFormat,
  packArchive,
  unpackArchive,
} from '../../host/transfer/archive/index.ts';
import { DECOMPRESS, filtered } from '../../host/transfer/archive/program.ts';
import type { Bytes } from '../../host/transfer/types.ts';
import { collect, isThere, pack, pieces, run, unpack } from '../lib/archives.ts';
import { Random } from '../lib/random.ts';
import { rawTar, tarEntry } from '../lib/raw-tar.ts';
import { bytes } from '../lib/scale.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-streams-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const tempFolder = folder;
const KIB = 1024;
const MIB = 1024 * KIB;
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

/** A tar of one file of `size` bytes, made as it is asked for; its content's hash goes to `hash`. */
async function* tarOf(size: number, hash = createHash('sha256')): Bytes {
  const noise = createCipheriv('aes-128-ctr', random.bytes(16), random.bytes(16));
  const zeros = Buffer.alloc(MIB / 2);
  yield tarEntry({ name: 'large', size });
  for (let at = 0; at < size; at += MIB) {
    // Half of it compresses.
    const block = Buffer.concat([zeros.fill(at / MIB), noise.update(zeros)]);
    const piece = block.subarray(0, Math.min(block.byteLength, size - at));
    hash.update(piece);
    yield piece;
  }
  yield Buffer.alloc(KIB);
}

/** xz and bzip2 take seconds for what the others do in no time. */
const SLOW: ReadonlySet<ArchiveFormat> = new Set(['tar.xz', 'tar.bz2']);

for (const format of ARCHIVE_FORMATS) {
  t.test(`${format}: memory does not grow with the content`, async (t) => {
    const size = bytes(1024 * MIB) / (SLOW.has(format) ? 16 : 1);
    const { signal } = new AbortController();
    const sent = createHash('sha256');
    const options = { format, signal, tempFolder };
    const tar = unpackArchive(packArchive(tarOf(size, sent), options), options);
    const came = createHash('sha256');
    let total = 0;
    let most = 0;
    const before = process.memoryUsage().arrayBuffers;
    for await (const piece of tar) {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      // The content, between the header and the padding, which 1 MiB blocks do not need.
      const content = piece.subarray(Math.max(0, 512 - total), Math.max(0, size + 512 - total));
      came.update(content);
      total += piece.byteLength;
    }
    t.equal(total, 512 + size + KIB);
    t.equal(came.digest('hex'), sent.digest('hex'));
    // What the test itself makes and drops is in this, until it is collected.
    t.ok(most < 128 * MIB, `at most ${Math.round(most / MIB)} MiB for ${size / MIB} MiB of content`);
  });
}

t.test('other things happen meanwhile, although nothing is waited for', async (t) => {
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  count();
  const small = rawTar(...Array.from({ length: 20_000 }, (_, index) => ({ name: `f${index}` })));
  for (const [what, tar] of [
    ['large', await collect(tarOf(16 * MIB))],
    ['small', small],
  ] as const) {
    turns = 0;
    await unpack(await pack(tar, { format: 'tar' }), { format: 'tar' });
    t.ok(turns > 16, `${what} files: ${turns} turns`);
  }
  counting = false;
});

const open = () =>
  readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
/** Temporary files and pipes to children that are open. */
const left = () => open().filter((path) => path.includes('(deleted)') && path.startsWith(folder)).length;
const children = () =>
  readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map((pid) => readFileSync(`/proc/${pid}/comm`, 'latin1').trim());

async function until(condition: () => boolean): Promise<boolean> {
  const last = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > last) return false;
    await sleep(1);
  }
  return true;
}

/** `first`, then nothing, whatever happens; `asked` says that more is wanted. */
function stuck(first: Uint8Array): { bytes: Bytes; asked(): boolean } {
  let asked = false;
  async function* bytes(): Bytes {
    yield first;
    asked = true;
    await new Promise(() => {});
  }
  return { bytes: bytes(), asked: () => asked };
}

for (const format of ARCHIVE_FORMATS) {
  t.test(`${format}: an abort ends it, though the source does not`, async (t) => {
    const tar = await collect(tarOf(MIB));
    const archive = await pack(tar, { format });
    const half = [tar.subarray(0, tar.byteLength / 2), archive.subarray(0, archive.byteLength / 2)] as const;
    for (const [index, work] of [packArchive, unpackArchive].entries()) {
      const abort = new AbortController();
      const { bytes, asked } = stuck(half[index] as Uint8Array);
      const done = collect(work(bytes, { format, signal: abort.signal, tempFolder })).then(
        () => 'an end',
        (error: unknown) => error,
      );
      t.ok(await until(asked), 'it has come to where nothing comes');
      const reason = new Error('enough');
      abort.abort(reason);
      t.equal(await done, reason, work.name);
      t.ok(await until(() => left() === 0 && children().length === 0), 'nothing is left');
    }
    const late = AbortSignal.abort(new Error('before'));
    await t.rejects(collect(packArchive(pieces(tar), { format, signal: late, tempFolder })), {
      message: 'before',
    });
  });

  t.test(`${format}: who leaves early leaves nothing`, async (t) => {
    const { signal } = new AbortController();
    const archive = await pack(await collect(tarOf(2 * MIB)), { format });
    let closed = 0;
    async function* watched(source: Bytes): Bytes {
      try {
        yield* source;
      } finally {
        closed++;
      }
    }
    for await (const _ of packArchive(watched(tarOf(2 * MIB)), { format, signal, tempFolder })) break;
    for await (const _ of unpackArchive(watched(pieces(archive)), { format, signal, tempFolder })) break;
    t.equal(closed, 2, 'the sources are left, too');
    t.ok(await until(() => left() === 0 && children().length === 0), 'nothing is left');
  });

  t.test(`${format}: a source's failure comes through as it is`, async (t) => {
    const failure = Object.assign(new Error('the server is gone'), { retry: true });
    async function* failing(first: Uint8Array): Bytes {
      yield first;
      throw failure;
    }
    const tar = await collect(tarOf(MIB));
    const archive = await pack(tar, { format });
    const { signal } = new AbortController();
    for (const [work, content] of [
      [packArchive, tar],
      [unpackArchive, archive],
    ] as const) {
      for (const part of [0, content.byteLength / 2, content.byteLength]) {
        const thrown = await collect(
          work(failing(content.subarray(0, part)), { format, signal, tempFolder }),
        ).catch((error: unknown) => error);
        t.equal(thrown, failure, `${work.name} after ${part} bytes`);
      }
    }
    t.ok(await until(() => left() === 0 && children().length === 0), 'nothing is left');
  });

  t.test(`${format}: damaged, cut off, or not alone`, async (t) => {
    const archive = await pack(await collect(tarOf(100 * KIB)), { format });
    const middle = Math.floor(archive.byteLength / 2);
    const flipped = Buffer.from(archive);
    for (let index = 0; index < 16; index++) flipped[middle + index] = ~(flipped[middle + index] as number);
    const rows: [what: string, bytes: Uint8Array][] = [
      ['nothing', new Uint8Array(0)],
      ['its first byte', archive.subarray(0, 1)],
      ['its first half', archive.subarray(0, middle)],
      // A tar's end mark is twice as long as it need be.
      ['all but its end', archive.subarray(0, format === 'tar' ? -(KIB + 1) : -1)],
      ['something behind it', Buffer.concat([archive, Buffer.from('garbage')])],
      ['much behind it', Buffer.concat([archive, Buffer.alloc(300 * KIB, 'garbage')])],
      ['something else', Buffer.from('this is a text, and no archive '.repeat(100))],
    ];
    // A tar has no sums of its content.
    if (format !== 'tar') rows.push(['bytes changed', flipped]);
    for (const [what, content] of rows) {
      const error = await unpack(content, { format }).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      t.ok(isYavmError(error, 'YAVM_E_ARCHIVE'), `${what}: ${(error as Error)?.message}`);
    }
  });
}

t.test('an xz that wants too much memory', { skip: isThere('xz') ? false : 'no xz here' }, async (t) => {
  const input = await collect(tarOf(MIB));
  const archive = run('xz', ['-c', '--lzma2=preset=0,dict=512MiB'], { input });
  const error = await unpack(archive, { format: 'tar.xz' }).catch((thrown: unknown) => thrown);
  t.ok(isYavmError(error, 'YAVM_E_ARCHIVE') && /memory/i.test(error.message), String(error));
});

t.test('a zstd that wants too much memory', { skip: isThere('zstd') ? false : 'no zstd here' }, async (t) => {
  const archive = run('zstd', ['-c', '--ultra', '--long=30'], { input: await collect(tarOf(MIB)) });
  const error = await unpack(archive, { format: 'tar.zst' }).catch((thrown: unknown) => thrown);
  t.ok(isYavmError(error, 'YAVM_E_ARCHIVE'), String(error));
});

/** A program of our own in the place of xz. */
function script(text: string): string {
  const path = join(folder, `program-${random.next()}`);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

t.test('programs that do not do their work', async (t) => {
  const { signal } = new AbortController();
  const through = (path: string, stall?: number) =>
    collect(filtered(DECOMPRESS.xz, tarOf(4 * MIB), { signal, path, stall }));
  await t.rejects(through(script('echo broken >&2; exit 3')), {
    code: 'YAVM_E_ARCHIVE',
    message: /xz.*broken/,
  });
  await t.rejects(through(script('kill -9 $$')), { code: 'YAVM_E_COMPRESSOR', message: /SIGKILL/ });
  await t.rejects(through('/nowhere/xz'), { code: 'YAVM_E_COMPRESSOR', message: /cannot be started/ });
  await t.rejects(through(script('exec sleep 1000'), 50), {
    code: 'YAVM_E_COMPRESSOR',
    message: /neither took nor gave/,
  });
  await t.rejects(
    through(script('cat >/dev/null; exec sleep 1000'), 50),
    { code: 'YAVM_E_COMPRESSOR' },
    'nor ends',
  );
  t.ok(await until(() => children().length === 0), 'none is left');
  const slow = await through(script('sleep 0.2; exec cat'), 60_000);
  t.equal(slow.byteLength, 512 + 4 * MIB + KIB, 'a slow start is no stall');
});

t.test('a program that is not installed', async (t) => {
  const before = process.env.YAVM_XZ;
  process.env.YAVM_XZ = join(folder, 'not there');
  t.teardown(() => {
    if (before === undefined) delete process.env.YAVM_XZ;
    else process.env.YAVM_XZ = before;
  });
  await t.rejects(pack(await collect(tarOf(0)), { format: 'tar.xz' }), { code: 'YAVM_E_COMPRESSOR_MISSING' });
});

t.test('no place for what must wait', async (t) => {
  const options = { format: 'zip', tempFolder: join(folder, 'not there') } as const;
  const refusal = { code: 'YAVM_E_ARCHIVE_SPOOL' };
  await t.rejects(pack(await collect(tarOf(0)), options), refusal);
  await t.rejects(unpack(await pack(await collect(tarOf(0)), { format: 'zip' }), options), refusal);
});
