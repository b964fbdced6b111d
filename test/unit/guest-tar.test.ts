import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { deviceNumbers } from '../../guest/files/archive.ts';
import type { Attribute } from '../../guest/files/attributes.ts';
import { safeParts } from '../../guest/files/extract.ts';
import { decodePax, encodePax } from '../../guest/files/pax.ts';
import { parseFilesWords } from '../../guest/files/role.ts';
import {
  BLOCK,
  decodeHeader,
  type Entry,
  type EntryType,
  encodeEntry,
} from '../../guest/files/tar-header.ts';
import { loadNative } from '../../native/load.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { entryOf, type Item, makeTar, readTar, systemTar } from '../lib/tar.ts';

const addon = loadNative();
const TYPES: EntryType[] = ['file', 'hardLink', 'symlink', 'character', 'block', 'directory', 'fifo'];
const ALPHABETS = ['abcdefgh.-_', 'abc/', 'äöü€日本😀x/', '/ x', 'a\udc80\udcffx'];

function randomName(random: Random, longest: number): string {
  const alphabet = [...random.pick(ALPHABETS)];
  let name = 'n';
  for (let left = random.between(0, longest); left > 0; left--) name += random.pick(alphabet);
  return name.replace(/\/+/g, '/').replace(/[/ ]+$/, '');
}

function randomItem(random: Random): Item {
  const type = random.pick(TYPES);
  const linked = type === 'hardLink' || type === 'symlink';
  const device = type === 'character' || type === 'block';
  return {
    name: randomName(random, 300),
    type,
    mode: random.between(0, 0o10000),
    uid: random.pick([0, 1000, 0o7777777, 0o10000000, 0xfffffffe]),
    gid: random.pick([0, 1000, 0o7777777, 0o10000000, 0xfffffffe]),
    mtime: random.pick([0, 1, 1_700_000_000, 8 ** 11 - 1, 8 ** 11, -1, -1000]),
    linkName: linked ? randomName(random, 300) : '',
    major: device ? random.between(0, 4096) : 0,
    minor: device ? random.between(0, 1 << 20) : 0,
    content: type === 'file' ? random.bytes(random.pick([0, 1, 511, 512, 513, 5000])) : undefined,
    attributes: type === 'file' || type === 'directory' ? randomAttributes(random) : [],
  };
}

/** A few attributes of any bytes, or none. */
function randomAttributes(random: Random): Attribute[] {
  return Array.from({ length: random.pick([0, 0, 1, 3]) }, (_, index) => [
    `user.${random.pick(['a', 'ä=', '\udcff', 'x'.repeat(200)])}.${index}`.replace('=', ''),
    random.bytes(random.pick([0, 1, 90, 4000])),
  ]);
}

/** What a reader should find. */
function expected(item: Item): Entry & { content: Uint8Array } {
  const entry = entryOf(item);
  const name = entry.type === 'directory' ? `${entry.name}/` : entry.name;
  return { ...entry, name, content: item.content ?? new Uint8Array(0) };
}

t.test('what is written is what is read, in pieces of any size', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = 0; round < count(2000); round++) {
    const items = Array.from({ length: random.between(0, 6) }, () => randomItem(random));
    const found = readTar(makeTar(items), random.pick([1, 7, 511, 512, 513, 4096, 1 << 20]));
    t.strictSame(found, items.map(expected), `round ${round}`);
  }
  t.end();
});

t.test('the system’s tar reads what is written', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = 0; round < count(200); round++) {
    const items = Array.from({ length: 5 }, (_, index) => {
      const item = randomItem(random);
      return {
        ...item,
        name: `${index}${item.name}`.replace(/ /g, '_'),
        linkName: item.linkName?.replace(/ /g, '_'),
      };
    });
    const args = [
      '--list',
      '--verbose',
      '--numeric-owner',
      '--full-time',
      '--quoting-style=literal',
      '--show-transformed-names',
    ];
    const lines = systemTar([...args, '-f', '-'], makeTar(items))
      .toString()
      .trimEnd()
      .split('\n');
    t.strictSame(
      lines.map((line) => line.replace(/ +/g, ' ')),
      items.map(listing),
      `round ${round}`,
    );
  }
  t.end();
});

/** What a program prints of a name, read as UTF-8. */
function printed(name: string): string {
  return Buffer.from(addon.encodeName(name)).toString();
}

/** A line as `tar --list --verbose --numeric-owner --full-time` prints it. */
function listing(item: Item): string {
  const { name, type, mode, uid, gid, size, mtime, linkName, major, minor } = expected(item);
  const kind = {
    file: '-',
    hardLink: 'h',
    symlink: 'l',
    character: 'c',
    block: 'b',
    directory: 'd',
    fifo: 'p',
  }[type];
  const bits = [...'rwxrwxrwx'].map((letter, index) => (mode & (0o400 >> index) ? letter : '-'));
  for (const [bit, at, set, unset] of [
    [0o4000, 2, 's', 'S'],
    [0o2000, 5, 's', 'S'],
    [0o1000, 8, 't', 'T'],
  ] as const) {
    if (mode & bit) bits[at] = bits[at] === 'x' ? set : unset;
  }
  const length = type === 'character' || type === 'block' ? `${major},${minor}` : size;
  const date = new Date(mtime * 1000).toISOString();
  const link = type === 'symlink' ? ` -> ${linkName}` : type === 'hardLink' ? ` link to ${linkName}` : '';
  return `${kind}${bits.join('')} ${uid}/${gid} ${length} ${date.slice(0, 10)} ${date.slice(11, 19)} ${printed(name + link)}`;
}

t.test('archives of the system’s tar are read, in each of its formats', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const folder = mkdtempSync(join(tmpdir(), 'yavm-tar-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const contents = new Map<string, Uint8Array>();
  const names = [
    'short',
    'ümläut',
    `${'d'.repeat(60)}/${'e'.repeat(90)}/f`,
    'x'.repeat(200),
    `${'long/'.repeat(40)}end`,
  ];
  for (const name of names) {
    const content = random.bytes(random.pick([0, 1, 512, 3000]));
    mkdirSync(join(folder, dirname(name)), { recursive: true });
    writeFileSync(join(folder, name), content);
    utimesSync(join(folder, name), 1_600_000_000, 1_600_000_000.5);
    contents.set(name, content);
  }
  linkSync(join(folder, 'short'), join(folder, 'short2'));
  symlinkSync('y'.repeat(150), join(folder, 'link'));
  const plain = ['short', 'short2', 'ümläut'];
  const byFormat: Record<string, string[]> = {
    v7: plain,
    ustar: [...plain, names[2] as string],
    oldgnu: [...names, 'short2', 'link'],
    gnu: [...names, 'short2', 'link'],
    posix: [...names, 'short2', 'link'],
  };
  for (const [format, members] of Object.entries(byFormat)) {
    const bytes = systemTar([
      '--create',
      `--format=${format}`,
      '--numeric-owner',
      '-C',
      folder,
      '-f',
      '-',
      ...members,
    ]);
    const found = new Map(readTar(bytes).map((entry) => [entry.name, entry]));
    t.strictSame([...found.keys()], members, format);
    for (const [name, entry] of found) {
      if (entry.type === 'file')
        t.strictSame(entry.content, contents.get(name), `${format}: ${name.slice(0, 20)}`);
      if (name === 'short2') t.match(entry, { type: 'hardLink', linkName: 'short' });
      if (name === 'link') t.match(entry, { type: 'symlink', linkName: 'y'.repeat(150) });
      if (name === 'short') t.equal(entry.mtime, format === 'posix' ? 1_600_000_000.5 : 1_600_000_000);
    }
  }
  t.end();
});

t.test('big numbers of GNU’s format', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-tar-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'f'), 'x');
  const args = [
    '--create',
    '--format=gnu',
    '--owner=:4294967294',
    '--group=:3000000',
    '--mtime=@-5',
    '-C',
    folder,
    '-f',
    '-',
    'f',
  ];
  t.match(readTar(systemTar(args))[0], { uid: 4294967294, gid: 3000000, mtime: -5 });
  t.end();
});

t.test('extended headers: own encoding, GNU’s, and damage', (t) => {
  for (const length of [0, 1, 80, 88, 89, 90, 91, 980, 9980, 50000]) {
    const value = 'v'.repeat(length);
    t.strictSame(
      [
        ...decodePax(
          addon,
          encodePax(addon, [
            ['path', value],
            ['uid', '7'],
          ]),
          0,
        ),
      ],
      [
        ['path', value],
        ['uid', '7'],
      ],
    );
  }
  t.equal(decodePax(addon, encodePax(addon, [['a', 'x=y\nz']]), 0).get('a'), 'x=y\nz');
  for (const text of [
    '4 a=\n',
    '7 a=b\n',
    '6 a=b',
    '6a=b\n',
    '-6 a=b\n',
    '06 a=b\n',
    ' a=b\n',
    '5 ab=\n',
    '5 ab\n',
    '9999999 a=b\n',
    '6 a=b\nx',
  ]) {
    t.throws(
      () => decodePax(addon, new TextEncoder().encode(text), 512),
      { code: 'bad-archive', message: /offset 5\d\d/ },
      JSON.stringify(text),
    );
  }
  t.equal(
    decodePax(addon, Uint8Array.from([0x36, 0x20, 0x61, 0x3d, 0xff, 0x0a]), 0).get('a'),
    '\udcff',
    'a byte that is no UTF-8 is kept',
  );
  t.equal(
    decodePax(addon, new TextEncoder().encode('8 a=\ufffd\n'), 0).get('a'),
    '\ufffd',
    'the character itself is allowed',
  );
  t.end();
});

/** An archive with a raw header: fields are patched into a good one, whose checksum is made anew. */
function patched(
  offset: number,
  bytes: number[] | string,
  rest: Uint8Array = new Uint8Array(1024),
): Uint8Array {
  const block = encodeEntry(addon, entryOf({ name: 'f' }));
  block.set(typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes, offset);
  block.set(new TextEncoder().encode('        '), 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  return new Uint8Array(Buffer.concat([block, rest]));
}

t.test('bad archives are refused with the offset', (t) => {
  const good = makeTar([{ name: 'a', content: new Uint8Array(600) }, { name: 'b' }]);
  const flipped = good.slice();
  flipped[1536 + 3] = 1;
  const cases: [string, Uint8Array, RegExp][] = [
    ['a flipped bit in the second header', flipped, /checksum at offset 1536/],
    ['cut in a header', good.slice(0, 300), /unexpected end at offset 300/],
    ['cut in content', good.slice(0, 1000), /unexpected end at offset 1000/],
    ['cut in padding', good.slice(0, 1200), /unexpected end at offset 1200/],
    ['cut between entries', good.slice(0, 1536), /no end mark.* at offset 1536/],
    ['nothing', new Uint8Array(0), /no end mark/],
    ['gzip', Uint8Array.from([0x1f, 0x8b, ...new Array(600).fill(8)]), /gzip data/],
    ['zip', Uint8Array.from([0x50, 0x4b, 3, 4, ...new Array(600).fill(8)]), /zip archive/],
    ['text', new TextEncoder().encode('hello world '.repeat(100)), /offset 0/],
    ['an unknown type', patched(156, 'S'), /unsupported type 'S'/],
    ['an unprintable type', patched(156, [1]), /unsupported type '\\x01'/],
    ['a damaged number', patched(124, '0000000x'), /damaged number in field 'size'/],
    ['a number after its end', patched(124, '00 00'), /damaged number/],
    ['a huge number', patched(124, [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), /2\^53/],
    ['a negative size', patched(124, new Array(12).fill(0xff)), /size -1 is out of range/],
    ['a uid that is no uid', patched(108, [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), /uid 4294967295/],
    ['an extended header that is too long', patched(156, 'x', makeExtension(64 * 1024 + 1)), /at most 65536/],
    [
      'an extended header that is cut',
      patched(156, 'x', makeExtension(1000).slice(0, 512)),
      /unexpected end|damaged/,
    ],
    ['a sparse file', makePax([['GNU.sparse.major', '1']]), /sparse/],
    [
      'attributes without end',
      makePax(
        Array.from({ length: 1025 }, (_, index): [string, string] => [`SCHILY.xattr.user.${index}`, '']),
      ),
      /more than 1024 extended attributes/,
    ],
    ['a size that is no number', makePax([['size', '1e3']]), /'size'/],
    ['a fraction of a byte', makePax([['size', '1.5']]), /size 1.5/],
  ];
  for (const [name, bytes, message] of cases)
    t.throws(() => readTar(bytes), { code: 'bad-archive', message }, name);
  t.end();
});

/** What follows a patched 'x' header is irrelevant: its own size field is 0, so this makes one with a size. */
function makeExtension(size: number): Uint8Array {
  const block = patched(124, `${size.toString(8).padStart(11, '0')}`).slice(0, BLOCK);
  block.set(new TextEncoder().encode('x'), 156);
  block.set(new TextEncoder().encode('        '), 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  return new Uint8Array(Buffer.concat([block, new Uint8Array(Math.ceil(size / BLOCK) * BLOCK)]));
}

function makePax(of: [key: string, value: string][]): Uint8Array {
  const records = encodePax(addon, of);
  const head = makeExtension(records.byteLength);
  head.set(records, BLOCK);
  return new Uint8Array(Buffer.concat([head, makeTar([{ name: 'f' }])]));
}

t.test('any damage to an archive ends in an error or in entries, never in anything else', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const good = makeTar(Array.from({ length: 4 }, () => randomItem(random)));
  let refused = 0;
  for (let round = 0; round < count(20_000); round++) {
    try {
      readTar(random.mutate(good));
    } catch (error) {
      refused++;
      if ((error as { code?: string }).code !== 'bad-archive') t.error(error as Error);
    }
  }
  t.ok(refused > 0, `${refused} refused`);
  t.end();
});

t.test('signed checksums and old directories', (t) => {
  const block = encodeEntry(addon, entryOf({ name: 'f' }));
  block.set([0xc3, 0xa4], 0);
  block.set(new TextEncoder().encode('        '), 148);
  const sum = block.reduce((total, byte) => total + (byte > 127 ? byte - 256 : byte), 0);
  block.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  t.equal(decodeHeader(addon, block, 0, 0)?.name, 'ä');
  const old = patched(0, 'dir/');
  t.match(readTar(old), [{ name: 'dir/', type: 'directory' }]);
  t.match(readTar(patched(156, [0])), [{ type: 'file' }], 'a type of NUL is a file');
  t.match(readTar(patched(156, '7')), [{ type: 'file' }], 'a contiguous file is a file');
  t.equal(decodeHeader(addon, new Uint8Array(BLOCK), 0, 0), null);
  t.end();
});

t.test('names that lead out of the directory are refused', (t) => {
  t.strictSame(safeParts('/a//./b/'), ['a', 'b']);
  t.strictSame(safeParts('./'), []);
  t.strictSame(safeParts('..a/b..'), ['..a', 'b..']);
  for (const name of ['..', '../x', 'a/../b', '/..', 'a/..', '', 'a\0b', 'x'.repeat(5000)]) {
    t.throws(() => safeParts(name), { code: 'bad-archive' }, JSON.stringify(name.slice(0, 20)));
  }
  t.end();
});

t.test('words of the role', (t) => {
  t.strictSame(parseFilesWords(['read', 'tar', '/a b']), {
    direction: 'read',
    format: 'tar',
    path: '/a b',
    options: {},
  });
  t.strictSame(
    parseFilesWords(['write', 'file', '/x', '--mode', '420', '--uid', '4294967294', '--root', '4']).options,
    {
      mode: 420,
      uid: 4294967294,
      root: 4,
    },
  );
  for (const words of [
    [],
    ['read'],
    ['read', 'tar'],
    ['read', 'tar', ''],
    ['list', 'tar', '/'],
    ['read', 'zip', '/'],
    ['read', 'tar', '/', '--mode'],
    ['read', 'tar', '/', '--mode', '0x1'],
    ['read', 'tar', '/', '--what', '1'],
  ]) {
    t.throws(() => parseFilesWords(words), { code: 'bad-request' }, words.join(' '));
  }
  t.end();
});

t.test('device numbers are taken apart as libc does', (t) => {
  for (const path of ['/dev/null', '/dev/tty', '/dev/zero']) {
    const [major, minor] = execFileSync('stat', ['-c', '%t %T', path]).toString().trim().split(' ');
    const rdev = Number(execFileSync('stat', ['-c', '%r', path]).toString());
    t.strictSame(deviceNumbers(rdev), {
      major: Number.parseInt(major as string, 16),
      minor: Number.parseInt(minor as string, 16),
    });
  }
  // makedev(0xabcde123, 0x456789fe) of sys/sysmacros.h, below 2^53 by a smaller major.
  t.strictSame(deviceNumbers(0x1f * 2 ** 8 + 0xfe + 0x789 * 2 ** 20 + 0x56 * 2 ** 32), {
    major: 0x1f,
    minor: 0x567_89fe,
  });
  t.end();
});
