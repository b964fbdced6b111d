import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import t from 'tap';
import { encodeTrailer, MAX_METADATA, TRAILER_OVERHEAD } from '../../host/image/gvmi.ts';
import { COMPRESSORS } from '../../host/image/squashfs.ts';
import { verifyImage, verifyImageAt } from '../../host/image/verify.ts';

const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'image');

/** Writes an image and verifies it. */
function verify(bytes: Uint8Array, compressors?: string[]) {
  writeFileSync(path, bytes);
  return verifyImage(path, { compressors });
}

/** A real squashfs, made by mksquashfs. */
function squash(...options: string[]): Buffer {
  const source = join(folder, 'source');
  mkdirSync(source, { recursive: true });
  writeFileSync(join(source, 'file'), 'content '.repeat(100));
  const output = join(folder, 'made');
  execFileSync('mksquashfs', [
    source,
    output,
    '-noappend',
    '-quiet',
    '-no-progress',
    '-all-root',
    ...options,
  ]);
  return readFileSync(output);
}

const SQUASHFS = squash('-comp', 'lzo');
const CONFIG = { Env: ['PATH=/bin'], Cmd: ['/bin/sh'], WorkingDir: '/work' };
const GVMI = Buffer.concat([SQUASHFS, encodeTrailer(CONFIG)]);
const USED = Number(SQUASHFS.readBigUInt64LE(40));

/** A copy with a field of the superblock replaced. */
function patched(offset: number, width: 2 | 4 | 8, value: number | bigint, image: Buffer = GVMI): Buffer {
  const copy = Buffer.from(image);
  if (width === 8) copy.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), offset);
  else copy.writeUIntLE(Number(value), offset, width);
  return copy;
}

/** A trailer whose parts need not fit each other. */
function trailer(
  json: Buffer | string,
  { crc = crc32(json), length = String(Buffer.byteLength(json)) } = {},
): Buffer {
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc);
  return Buffer.concat([sum, Buffer.from(json), Buffer.from(length.padStart(8, '0'))]);
}
const withTrailer = (...parts: Parameters<typeof trailer>) => Buffer.concat([SQUASHFS, trailer(...parts)]);

t.test('a .gvmi is recognised, with its configuration', async (t) => {
  t.match(await verify(GVMI), {
    kind: 'gvmi',
    compressor: 'lzo',
    blockSize: 131072,
    size: GVMI.length,
    bytesUsed: USED,
    inodes: 2,
    config: { env: ['PATH=/bin'], cmd: ['/bin/sh'], entrypoint: [], volumes: [], workingDir: '/work' },
  });
});

t.test('a plain squashfs is recognised, however it is made', async (t) => {
  for (const { name, symbol } of COMPRESSORS) {
    if (symbol === null) continue;
    t.match(await verify(squash('-comp', name)), { kind: 'squashfs', compressor: name, config: null }, name);
  }
  for (const options of [
    ['-nopad'],
    ['-no-fragments'],
    ['-no-exports'],
    ['-no-xattrs'],
    ['-b', '4096'],
    ['-noI', '-noD'],
  ])
    t.match(await verify(squash(...options)), { kind: 'squashfs' }, options.join(' '));
  t.match(
    await verify(Buffer.concat([SQUASHFS, Buffer.alloc(100_000)])),
    { kind: 'squashfs' },
    'padded further',
  );
  t.match(await verify(SQUASHFS.subarray(0, USED)), { kind: 'squashfs' }, 'without padding');
});

const fixture = join(import.meta.dirname, '../../../shared/fixtures/images/alpine.gvmi');
const skip = existsSync(fixture) ? false : '../shared/fixtures is not here';
t.test('the published image is recognised', { skip }, async (t) => {
  t.match(await verifyImage(fixture), {
    kind: 'gvmi',
    compressor: 'lzo',
    size: 3_576_181,
    config: {
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      cmd: ['/bin/sh'],
      workingDir: '/golem/work',
      volumes: [],
    },
  });
});

const NO_TABLE = 0xffff_ffff_ffff_ffffn;
const INODES = GVMI.readBigUInt64LE(64);
const BAD: [what: string, code: string, message: RegExp, bytes: Buffer][] = [
  ['an empty file', 'FORMAT', /is empty/, Buffer.alloc(0)],
  ['one byte', 'FORMAT', /not a squashfs/, Buffer.from('h')],
  ['text', 'FORMAT', /not a squashfs/, Buffer.alloc(5000, 'text ')],
  ['gzip', 'FORMAT', /gzip/, Buffer.concat([Buffer.from('1f8b0800', 'hex'), Buffer.alloc(500)])],
  ['tar', 'FORMAT', /tar archive/, execFileSync('tar', ['-C', folder, '-c', 'source'])],
  ['an ELF program', 'FORMAT', /ELF/, Buffer.from('\x7fELF\x02\x01\x01 and more')],
  ['an error page', 'FORMAT', /HTML/, Buffer.from('<!DOCTYPE html><html>404</html>')],
  ['an error message', 'FORMAT', /JSON/, Buffer.from('{"error": "not found"}')],
  ['big-endian squashfs', 'FORMAT', /big-endian/, Buffer.concat([Buffer.from('sqsh'), Buffer.alloc(500)])],
  ['squashfs 3.1', 'FORMAT', /version 3\.1/, patched(28, 4, 0x0001_0003)],
  ['a block size of 2^21', 'FORMAT', /block size/, patched(22, 2, 21, patched(12, 4, 2 ** 21))],
  ['a block size that is no power', 'FORMAT', /block size/, patched(12, 4, 131073)],
  ['no inodes', 'FORMAT', /no inodes/, patched(4, 4, 0)],
  ['no owners', 'FORMAT', /no inodes or no owners/, patched(26, 2, 0)],
  ['a length below the superblock', 'FORMAT', /length of 95/, patched(40, 8, 95)],
  ['an inode table at 0', 'FORMAT', /tables at/, patched(64, 8, 0)],
  ['directories before inodes', 'FORMAT', /tables at/, patched(72, 8, INODES)],
  ['an owner table outside', 'FORMAT', /tables at/, patched(48, 8, USED)],
  ['no owner table', 'FORMAT', /tables at/, patched(48, 8, NO_TABLE)],
  ['a root inode outside', 'FORMAT', /root directory/, patched(32, 8, NO_TABLE)],
  ['an attribute table outside', 'FORMAT', /attribute table/, patched(56, 8, USED)],
  ['a fragment table in the superblock', 'FORMAT', /fragment table/, patched(80, 8, 12)],
  ['an export table outside', 'FORMAT', /export table/, patched(88, 8, NO_TABLE - 1n)],
  ['compressor 0', 'FORMAT', /compressor number 0/, patched(20, 2, 0)],
  ['compressor 7', 'FORMAT', /compressor number 7/, patched(20, 2, 7)],
  ['lzma', 'COMPRESSOR', /lzma, which no mainline kernel/, patched(20, 2, 2)],
  ['a superblock cut off', 'TRUNCATED', /inside the squashfs superblock/, GVMI.subarray(0, 95)],
  ['a squashfs cut off', 'TRUNCATED', /long, but the file has only/, GVMI.subarray(0, USED - 1)],
  ['a length of 2^63', 'TRUNCATED', /9223372036854775808 bytes long/, patched(40, 8, 2n ** 63n)],
  ['a trailer cut off', 'TRUNCATED', /neither padding nor/, GVMI.subarray(0, -1)],
  ['a trailer cut off at its length', 'TRUNCATED', /neither padding nor/, GVMI.subarray(0, -8)],
  ['something appended', 'TRUNCATED', /neither padding nor/, Buffer.concat([GVMI, Buffer.from('\n')])],
  ['2 MiB appended', 'TRUNCATED', /neither padding nor/, Buffer.concat([SQUASHFS, Buffer.alloc(2 ** 21)])],
  ['a length into the squashfs', 'TRUNCATED', /by its last line/, withTrailer('{}', { length: '99999999' })],
  ['a length one too long', 'CHECKSUM', /CRC-32/, withTrailer('{}', { length: '3' })],
  ['a length one too short', 'CHECKSUM', /CRC-32/, withTrailer('{}', { length: '1' })],
  ['another CRC', 'CHECKSUM', /CRC-32 is 0x[0-9a-f]{8}, but/, withTrailer('{}', { crc: 1 })],
  ['no JSON', 'METADATA', /not JSON/, withTrailer('nope')],
  ['nothing', 'METADATA', /not JSON/, withTrailer('')],
  ['bad UTF-8', 'METADATA', /not JSON in UTF-8/, withTrailer(Buffer.from([0x22, 0xff, 0x22]))],
  ['a list', 'METADATA', /not a JSON object/, withTrailer('[]')],
  ['null', 'METADATA', /not a JSON object/, withTrailer('null')],
  ['huge metadata', 'METADATA', /more than/, withTrailer(`"${'x'.repeat(MAX_METADATA)}"`)],
  ['a bad value', 'METADATA', /Env\[0\] is not text/, withTrailer('{"Env":[1]}')],
];

t.test('what is no good image is refused, with the file’s name and a code', async (t) => {
  for (const [what, code, message, bytes] of BAD) {
    await t.rejects(verify(bytes), { code: `YAVM_E_IMAGE_${code}`, message }, what);
    await t.rejects(verify(bytes), { message: new RegExp(`^${path}: `) }, `${what}: named`);
  }
});

t.test('a .gvmi cut anywhere is refused', async (t) => {
  // From the padding's start to the trailer's start what is left is a whole squashfs without metadata: no damage.
  const start = GVMI.length - encodeTrailer(CONFIG).length;
  const lengths = [0, 1, 3, 4, 50, 96, 200, USED >> 1, USED - 1];
  for (let length = start + 1; length < GVMI.length; length++) lengths.push(length);
  for (const length of lengths)
    await t.rejects(
      verify(GVMI.subarray(0, length)),
      { code: /^YAVM_E_IMAGE_(FORMAT|TRUNCATED|CHECKSUM)$/ },
      `${length}`,
    );
  t.match(await verify(GVMI.subarray(0, start)), { kind: 'squashfs' });
});

t.test('any flipped bit of the trailer is found', async (t) => {
  const size = encodeTrailer(CONFIG).length;
  for (let bit = 0; bit < size * 8; bit++) {
    const bad = Buffer.from(GVMI);
    bad[GVMI.length - size + (bit >> 3)]! ^= 1 << (bit & 7);
    await t.rejects(verify(bad), { code: /^YAVM_E_IMAGE_(TRUNCATED|CHECKSUM)$/ }, `bit ${bit}`);
  }
});

t.test('any flipped bit of the superblock gives a verdict or an error with a code', async (t) => {
  let refused = 0;
  for (let bit = 0; bit < 96 * 8; bit++) {
    const bad = Buffer.from(GVMI);
    bad[bit >> 3]! ^= 1 << (bit & 7);
    const verdict = await verify(bad).catch((error) => error);
    if (!(verdict instanceof Error)) continue;
    refused++;
    t.match(verdict, { code: /^YAVM_E_IMAGE_/ }, `bit ${bit}`);
  }
  // Times, counts and unused flags can be anything; magic, version, sizes and tables cannot.
  t.ok(refused > 300, `${refused} of 768 are refused`);
});

t.test('a compressor that the kernel lacks is named with its symbol', async (t) => {
  await t.rejects(verify(GVMI, ['zstd', 'gzip']), {
    code: 'YAVM_E_IMAGE_COMPRESSOR',
    message: /packed with lzo, .* lacks CONFIG_SQUASHFS_LZO/,
    hint: /zstd, gzip/,
  });
  t.match(await verify(GVMI, ['lzo']), { kind: 'gvmi' });
});

t.test('a huge or sparse file costs no memory and no time', async (t) => {
  writeFileSync(path, SQUASHFS);
  truncateSync(path, 2 ** 40);
  await t.rejects(verifyImage(path), { code: 'YAVM_E_IMAGE_TRUNCATED' });
});

t.test('what is no regular file is refused without waiting', async (t) => {
  await t.rejects(verifyImage(join(folder, 'none')), {
    code: 'YAVM_E_IMAGE_UNREADABLE',
    cause: { code: 'ENOENT' },
  });
  await t.rejects(verifyImage(folder), { code: 'YAVM_E_IMAGE_UNREADABLE', message: /not a regular file/ });
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  await t.rejects(verifyImage(fifo), { code: 'YAVM_E_IMAGE_UNREADABLE', message: /not a regular file/ });
  writeFileSync(path, GVMI);
  symlinkSync(path, join(folder, 'link'));
  t.match(await verifyImage(join(folder, 'link')), { kind: 'gvmi' }, 'a link to an image is fine');
});

t.test('an open file is verified where it is', async (t) => {
  writeFileSync(path, GVMI);
  const handle = await open(path);
  t.teardown(() => handle.close());
  t.match(await verifyImageAt(handle, 'layer 0'), { kind: 'gvmi', size: GVMI.length });
  truncateSync(path, 100);
  await t.rejects(verifyImageAt(handle, 'layer 0'), { message: /^layer 0: / });
});

t.test('the trailer is written as the format wants it', async (t) => {
  const bytes = encodeTrailer({ Cmd: ['/bin/sh'] });
  const json = '{"Cmd":["/bin/sh"]}';
  t.equal(bytes.length, json.length + TRAILER_OVERHEAD);
  t.equal(bytes.subarray(4, -8).toString(), json);
  t.equal(bytes.subarray(-8).toString(), '00000019');
  t.equal(bytes.readUInt32LE(0), crc32(json));
  t.throws(() => encodeTrailer({ x: 'x'.repeat(MAX_METADATA) }), { code: 'YAVM_E_IMAGE_METADATA' });
});
