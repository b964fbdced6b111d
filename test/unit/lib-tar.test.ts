/** The codec of tars that images and transfers share: what it writes it reads, and others do; what is wrong, and where. */
import t from 'tap';
import { nameText } from '../../host/lib/raw-name.ts';
import { TarError } from '../../host/lib/tar/error.ts';
import {
  BLOCK,
  decodeHeader,
  encodeEntry,
  padded,
  paddedSize,
  type TarHeader,
  TypeFlag,
} from '../../host/lib/tar/header.ts';
import { decodePax, encodePax, type PaxRecord, paxNumber, wholeNumber } from '../../host/lib/tar/pax.ts';
import { Random } from '../lib/random.ts';
import { tarEntry } from '../lib/raw-tar.ts';
import { count } from '../lib/scale.ts';
import { systemTar } from '../lib/tar.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

const HEADER: TarHeader = {
  ...{ name: 'f', flag: TypeFlag.file, target: '', mode: 0o644 },
  ...{ uid: 0, gid: 0, size: 0, mtime: 1_600_000_000, major: 0, minor: 0 },
};

/** A header's block, and the records of the extended one before it. */
function read(bytes: Buffer): { header: TarHeader | null; records: Map<string, string> } {
  const first = decodeHeader(bytes.subarray(0, BLOCK), 0);
  if (first?.flag !== TypeFlag.pax) return { header: first, records: new Map() };
  const records = new Map(decodePax(bytes.subarray(BLOCK, BLOCK + first.size), BLOCK));
  return { header: decodeHeader(bytes.subarray(BLOCK + paddedSize(first.size)), 0), records };
}

t.test('what is written is read', async (t) => {
  const parts = ['a', 'n'.repeat(60), 'm'.repeat(99), 'ä', '\xe4\xff', ' ', '\n', '='];
  const numbers = [0, 1, 0o7777777, 0o10000000, 0o77777777777, 2 ** 40, Number.MAX_SAFE_INTEGER];
  for (let round = count(5000); round > 0; round--) {
    const text = () => Array.from({ length: random.between(1, 6) }, () => random.pick(parts)).join('/');
    const device = random.chance(4) ? random.between(1, 2 ** 20) : 0;
    const written: TarHeader = {
      ...{ name: text(), flag: device > 0 ? TypeFlag.block : random.pick(['0', '1', '2', '5']) },
      ...{ target: random.chance(2) ? text() : '', mode: random.between(0, 0o7777) },
      ...{ uid: random.pick(numbers), gid: random.pick(numbers), size: random.pick(numbers) },
      ...{ mtime: random.pick([...numbers, -1, -(2 ** 40)]), major: device, minor: device },
    };
    const first: PaxRecord[] = random.chance(3) ? [['SCHILY.xattr.user.a', '\0\n=\xff']] : [];
    const { header, records } = read(encodeEntry(written, first));
    const number = (field: 'uid' | 'gid' | 'size' | 'mtime') =>
      paxNumber([field, records.get(field) ?? String(header?.[field])], 0);
    const again = {
      ...header,
      ...{ name: records.get('path') ?? header?.name, target: records.get('linkpath') ?? header?.target },
      ...{ uid: number('uid'), gid: number('gid'), size: number('size'), mtime: number('mtime') },
    };
    t.strictSame(again, written, JSON.stringify(written));
    t.equal(records.has('SCHILY.xattr.user.a'), first.length > 0);
  }
});

t.test('others read it', async (t) => {
  const long = `${'d'.repeat(90)}/${'e'.repeat(60)}/f`;
  for (const name of ['f', long, 'x'.repeat(101), 'täst', `${'y'.repeat(150)}/${'z'.repeat(150)}`]) {
    const raw = Buffer.from(name).toString('latin1');
    const bytes = Buffer.concat([encodeEntry({ ...HEADER, name: raw }), Buffer.alloc(2 * BLOCK)]);
    t.equal(systemTar(['-tf', '-', '--quoting-style=literal'], bytes).toString(), `${name}\n`);
    t.equal(bytes.length > 3 * BLOCK, name !== 'f' && name !== long, 'only what has no room costs more');
    t.equal(nameText(raw), name);
  }
});

t.test('fields as others write them', async (t) => {
  const of = (...over: [number, string][]) => decodeHeader(tarEntry({ name: 'f', over }), 0);
  t.match(of([108, '   123 \0']), { uid: 0o123 });
  t.match(of([108, '\x000123\0\0']), { uid: 0o123 }, 'a NUL first');
  t.match(of([108, '123\0junk']), { uid: 0o123 }, 'what is left of a longer number');
  t.match(of([108, '12345670']), { uid: 0o12345670 }, 'no room for an end');
  t.match(of([136, `${'\xff'.repeat(11)}\xfe`]), { mtime: -2 });
  t.match(of([345, 'p/q']), { name: 'p/q/f' });
  t.match(of([257, 'ustar  \0'], [345, 'p/q']), { name: 'f' }, "GNU's has something else there");
  t.match(of([329, 'worse\0'], [337, '\xff'.repeat(8)]), { major: 0, minor: 0 }, 'of no device');
  t.equal(decodeHeader(Buffer.alloc(BLOCK), 0), null);
});

t.test('what is wrong, and where', async (t) => {
  const header = (over: [number, string], magic = '') => {
    const block = tarEntry({ name: 'f', over: [over] });
    block.write(magic, 0, 'latin1');
    return () => decodeHeader(block, 1024);
  };
  const refused: [work: () => unknown, reason: RegExp, offset: number][] = [
    [header([108, '12 34']), /damaged number in field 'uid'/, 1024],
    [header([108, '8']), /damaged number in field 'uid'/, 1024],
    [header([124, '\xff'.repeat(12)]), /size -1 is out of range/, 1024],
    [header([124, `\x80${'\xff'.repeat(11)}`]), /number beyond 2\^53 in field 'size'/, 1024],
    [header([0, 'f'], '\x1f\x8b'), /^gzip data instead of a header$/, 1024],
    [header([0, 'f'], 'g'), /^header with a wrong checksum$/, 1024],
    [() => decodePax(Buffer.from('5 a=\n9 b=xx'), 512), /damaged extended header/, 517],
    [() => decodePax(Buffer.from('5 a=\n\0\0x'), 512), /damaged extended header/, 517],
    [() => decodePax(Buffer.from('5 a=\n'.repeat(65_537)), 0), /more than 65536 records/, 5 * 65_536],
    [() => paxNumber(['size', '1e9'], 7), /'size' is no number/, 7],
    [() => wholeNumber(1.5, 9, 'size', 7), /size 1.5 is out of range/, 7],
  ];
  for (const [work, reason, offset] of refused) t.throws(work, { name: 'TarError', reason, offset });
  t.equal(new TarError('x', 3).message, 'x at offset 3');
  const zeros = padded(encodePax([['a', 'b']]));
  t.same(decodePax(zeros, 0), [['a', 'b']], 'zeros that are counted');
});
