/** Archives that try to leave the directory that they are unpacked into, or to break who unpacks them. */
import zlib from 'node:zlib';
import type { ArchiveEscape } from './escapes.ts';
import { gnuLong, paxHeader, type RawHeader, rawTar, tarEntry } from './raw-tar.ts';
import { extraField, type RawEnd, type RawMember, rawZip } from './raw-zip.ts';

const OUT = /leads out of the directory/;
const ABSOLUTE = /is absolute/;
const THROUGH = /leads through the link/;

const FILE = 'ustar';
const link = (name: string, target: string): RawHeader => ({ name, flag: '2', link: target });
const hard = (name: string, target: string): RawHeader => ({ name, flag: '1', link: target });
const folder = (name: string): RawHeader => ({ name, flag: '5', mode: 0o755 });
const file = (name: string): RawHeader => ({ name, content: FILE });

function tar(what: string, says: RegExp, ...entries: RawHeader[]): ArchiveEscape {
  return {
    kind: 'archive',
    what,
    format: 'tar',
    code: 'YAVM_E_ARCHIVE',
    says,
    make: () => rawTar(...entries),
  };
}

function zip(what: string, says: RegExp, members: RawMember[], end?: RawEnd): ArchiveEscape {
  return {
    kind: 'archive',
    what,
    format: 'zip',
    code: 'YAVM_E_ARCHIVE',
    says,
    make: () => rawZip(members, end),
  };
}

function limit(row: ArchiveEscape): ArchiveEscape {
  return { ...row, code: 'YAVM_E_ARCHIVE_LIMIT' };
}

/** Info-ZIP's Unicode path for a name. */
function unicodePath(name: string, path: string): Buffer {
  const head = Buffer.alloc(5);
  head[0] = 1;
  head.writeUInt32LE(zlib.crc32(name), 1);
  return extraField(0x7075, Buffer.concat([head, Buffer.from(path)]));
}

const ZEROS = Buffer.alloc(64 * 1024 * 1024);
const bomb = (): Buffer => zlib.gzipSync(Buffer.concat([tarEntry({ name: 'zeros', content: ZEROS })]));

const NAMES: ArchiveEscape[] = [
  tar('an absolute name', ABSOLUTE, file('/etc/passwd')),
  tar('an absolute name with several slashes', ABSOLUTE, file('//etc/passwd')),
  tar('nothing but ..', OUT, folder('..')),
  tar('.. at the beginning', OUT, file('../x')),
  tar('.. in the middle', OUT, file('a/../../x')),
  tar('.. that stays inside', OUT, file('a/../x')),
  tar('.. at the end', OUT, folder('a/..')),
  tar('.. behind .', OUT, file('./../x')),
  tar('.. with doubled slashes', OUT, file('a//..//..//x')),
  tar('.. in the prefix field', OUT, { ...file('x'), over: [[345, '../..']] }),
  tar('an absolute prefix field', ABSOLUTE, { ...file('x'), over: [[345, '/etc']] }),
  tar('an extended header whose path climbs', OUT, paxHeader({ path: '../../x' }), file('x')),
  tar('an extended header whose path is absolute', ABSOLUTE, paxHeader({ path: '/x' }), file('x')),
  tar('an extended header whose path holds a NUL', /contains a NUL/, paxHeader({ path: 'a\0b' }), file('x')),
  tar('a path for all entries', /a 'path' for all entries/, paxHeader({ path: '../x' }, 'g'), file('x')),
  tar("GNU's long name that climbs", OUT, gnuLong(`${'a/'.repeat(100)}${'../'.repeat(101)}x`), file('x')),
  tar(
    'an extended header after a good long name',
    OUT,
    gnuLong('good'),
    paxHeader({ path: '../x' }),
    file('x'),
  ),
  limit(
    tar('a name that no kernel takes', /a name of/, paxHeader({ path: `${'a/'.repeat(2100)}x` }), file('x')),
  ),
  limit(
    tar('a part that no kernel takes', /a part of more/, paxHeader({ path: 'a'.repeat(256) }), file('x')),
  ),
  limit(
    tar(
      '600 directories within each other',
      /within each other/,
      paxHeader({ path: `${'a/'.repeat(600)}x` }),
      file('x'),
    ),
  ),
];

const LINKS: ArchiveEscape[] = [
  tar('an absolute link', /the link 'l' is absolute/, link('l', '/etc')),
  tar('a link that climbs out', OUT, link('l', '..')),
  tar('a link that climbs out of a directory', OUT, link('a/b/l', '../../../x')),
  tar('a link that goes down and climbs out', OUT, link('l', 'a/b/../../..')),
  tar('an extended header whose linkpath climbs', OUT, paxHeader({ linkpath: '../x' }), link('l', 'good')),
  tar("GNU's long target that climbs", OUT, gnuLong(`${'./'.repeat(100)}../x`, 'K'), link('l', 'good')),
  tar('a link, and a file through it', THROUGH, folder('a'), link('l', 'a'), file('l/x')),
  tar('a link to itself, and a file through it', THROUGH, link('l', 'l'), file('l/x')),
  tar(
    'a link, and a directory of its name',
    /is a link, and then a directory/,
    folder('a'),
    link('l', 'a'),
    folder('l/'),
  ),
  tar('a link out by way of a link', THROUGH, link('a/l', '..'), link('a/l/m', '../x')),
  tar(
    'a chain of links, and a file at its end',
    THROUGH,
    folder('a'),
    link('l', 'a'),
    link('m', 'l'),
    file('m/x'),
  ),
  tar('a link through a link and up', /and up from there/, link('a/l', '..'), link('b/m', '../a/l/../x')),
  tar(
    'a link through what becomes a link',
    /leads through and out of/,
    link('b/m', '../a/l/../x'),
    link('a/l', '..'),
  ),
  tar(
    'a directory that becomes a link',
    /is a directory, and then something else/,
    file('a/x'),
    link('a', 'b'),
    file('a/y'),
  ),
  tar(
    'an empty directory that becomes a link',
    /is a directory, and then something else/,
    folder('a'),
    link('a', 'b'),
  ),
  tar('a directory that becomes a file', /is a directory, and then something else/, folder('a'), file('a')),
  tar('a link that holds a NUL', /contains a NUL/, paxHeader({ linkpath: 'a\0/../..' }), link('l', 'x')),
  tar('a link to nowhere', /leads nowhere/, link('l', '')),
];

const HARD_LINKS: ArchiveEscape[] = [
  tar('a hard link outward', OUT, hard('h', '../../etc/passwd')),
  tar('an absolute hard link', ABSOLUTE, hard('h', '/etc/passwd')),
  tar('a hard link through a link', THROUGH, folder('a'), link('l', 'a'), hard('h', 'l/x')),
  tar('a hard link to a directory', /hard link to a directory/, folder('a'), hard('h', 'a')),
  tar('a hard link to the directory itself', /hard link to a directory/, hard('h', './')),
  tar('a hard link that moves a link up', OUT, link('a/b/l', '../../x'), hard('h', 'a/b/l')),
  tar(
    'an extended header that leads a hard link out',
    OUT,
    paxHeader({ linkpath: '../x' }),
    hard('h', 'good'),
  ),
];

const KINDS: ArchiveEscape[] = [
  tar('a character device', /is a character device/, { name: 'null', flag: '3' }),
  tar('a block device', /is a block device/, { name: 'sda', flag: '4' }),
  tar('a named pipe', /is a named pipe/, { name: 'pipe', flag: '6' }),
  tar('an entry of an unknown type', /unsupported type/, { name: 'x', flag: 'Z' }),
  tar("GNU's sparse file", /unsupported type 'S'/, { name: 'x', flag: 'S' }),
  tar('a sparse file of extended headers', /sparse/, paxHeader({ 'GNU.sparse.realsize': '1' }), file('x')),
];

const SIZES: ArchiveEscape[] = [
  tar('a size of 2^62', /number beyond 2\^53/, {
    ...file('x'),
    over: [[124, `\x80\0\0\0\x40${'\0'.repeat(7)}`]],
  }),
  tar('a negative size', /size -1 is out of range/, { ...file('x'), over: [[124, '\xff'.repeat(12)]] }),
  tar('a size that is no number', /damaged number/, { ...file('x'), over: [[124, 'x'.repeat(12)]] }),
  tar('a size beyond the end', /unexpected end/, { ...file('x'), size: 8 ** 11 - 1 }),
  tar('an extended size that is no number', /is no number/, paxHeader({ size: '1e9' }), file('x')),
  tar('an extended size that is negative', /out of range/, paxHeader({ size: '-1' }), file('x')),
  tar('an extended header that says to be huge', /extended header of/, {
    name: 'pax',
    flag: 'x',
    size: 2 ** 30,
  }),
  tar('an extended header that is damaged', /damaged extended header/, {
    name: 'pax',
    flag: 'x',
    content: '99 path=x\n',
  }),
  tar('a wrong checksum', /wrong checksum/, { ...file('x'), checksum: '0000000\0' }),
  limit({ ...tar('64 MiB of zeros in 64 KiB', /times as many/), format: 'tar.gz', make: bomb }),
];

const ZIPS: ArchiveEscape[] = [
  zip('zip: an absolute name', ABSOLUTE, [{ name: '/etc/passwd' }]),
  zip('zip: a name that climbs', OUT, [{ name: 'a/../../x' }]),
  zip('zip: backslashes that climb', OUT, [{ name: '..\\..\\x', system: 0 }]),
  zip('zip: backslashes that climb, said to be from Unix', OUT, [{ name: '..\\..\\x' }]),
  zip('zip: a backslash at the beginning', ABSOLUTE, [{ name: '\\x', system: 0 }]),
  zip('zip: a drive', /begins with a drive/, [{ name: 'C:\\x', system: 0 }]),
  zip('zip: a drive without a slash', /begins with a drive/, [{ name: 'C:x', system: 0 }]),
  zip('zip: a name that holds a NUL', /contains a NUL/, [{ name: 'a\0b' }]),
  zip('zip: another name at its place', /something else/, [{ name: 'good', localName: '../x' }]),
  zip('zip: a Unicode path that climbs', OUT, [{ name: 'good', extra: unicodePath('good', '../x') }]),
  zip('zip: UTF-8 that is none', /is not the UTF-8/, [{ name: '\xc0\xae\xc0\xae/x', flags: 1 << 11 }]),
  zip('zip: an absolute link', /is absolute/, [{ name: 'l', mode: 0o120777, content: '/etc' }]),
  zip('zip: a link that climbs out', OUT, [{ name: 'l', mode: 0o120777, content: '../x' }]),
  zip('zip: a link, and a file through it', THROUGH, [
    { name: 'l', mode: 0o120777, content: 'a' },
    { name: 'l/x' },
  ]),
  zip('zip: a device', /is a character device/, [{ name: 'null', mode: 0o020666 }]),
  zip('zip: a directory with content', /has content/, [{ name: 'a/', content: 'x' }]),
  zip('zip: encrypted', /is encrypted/, [{ name: 'x', flags: 1, method: 8 }]),
  zip('zip: an unknown method', /method 14/, [{ name: 'x', method: 14 }]),
  zip('zip: several disks', /multi-disk/, [{ name: 'x' }], { disk: 3 }),
  zip('zip: a wrong checksum', /wrong checksum/, [{ name: 'x', content: 'abc', crc: 1 }]),
  zip('zip: more content than it says', /size that it says|size mismatch/, [
    { name: 'x', method: 8, content: 'abc', size: 1 },
  ]),
  zip('zip: less content than it says', /size that it says/, [
    { name: 'x', method: 8, content: 'abc', size: 9 },
  ]),
  zip(
    'zip: one content under several names',
    /overlap|something else/,
    Array.from({ length: 9 }, (_, index) => ({
      name: 'x',
      content: 'a'.repeat(99),
      offset: 0,
      onlyListed: index > 0,
    })),
  ),
  zip('zip: more entries than there are', /no whole zip/, [{ name: 'x' }], { entries: 7 }),
  zip('zip: a directory beyond the end', /no whole zip/, [{ name: 'x' }], { offset: 2 ** 31 }),
  limit(
    zip('zip: 64 MiB of zeros in 64 KiB', /times as many/, [{ name: 'zeros', method: 8, content: ZEROS }]),
  ),
];

export const ARCHIVE_ESCAPES: readonly ArchiveEscape[] = [
  ...[...NAMES, ...LINKS, ...HARD_LINKS],
  ...[...KINDS, ...SIZES, ...ZIPS],
];
