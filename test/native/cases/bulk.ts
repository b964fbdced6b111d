/** Files in as few calls as there can be: holes, direct writes, pages that are passed on, small files at once. */
import type { Native } from '../../../native/face.ts';
import type { Case } from '../harness.ts';
import {
  bytes,
  isPattern,
  needsRoot,
  O_CREAT,
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  pattern,
  readFile,
  text,
  withFolder,
  writeFile,
} from '../tools.ts';

const BLOCK = 4096;
/** Zeros that are worth a hole. */
const HOLE = 64 * 1024;
/** What goes past the page cache. */
const DIRECT = 128 * 1024;

/** The whole of a file. */
function contentOf(native: Native, path: string): Uint8Array {
  const fd = native.open(path, O_RDONLY, 0);
  const content = new Uint8Array(native.fstat(fd).size + 1);
  let filled = 0;
  for (let count = 1; count > 0; filled += count) count = native.read(fd, content.subarray(filled));
  native.close(fd);
  return content.subarray(0, filled);
}

/** Bytes of a file that lie on its disk, by SEEK_DATA and SEEK_HOLE. */
function dataOf(native: Native, path: string): number {
  const fd = native.open(path, O_RDONLY, 0);
  let data = 0;
  try {
    for (let at = 0; ; ) {
      const from = native.seek(fd, at, 3);
      at = native.seek(fd, from, 4);
      data += at - from;
    }
  } catch {
    // ENXIO: nothing but a hole, or nothing, follows.
  }
  native.close(fd);
  return data;
}

/** A buffer that begins on a page. */
function aligned(native: Native, size: number): Uint8Array {
  const memory = new Uint8Array(size + BLOCK);
  const start = (BLOCK - native.pageOffset(memory)) % BLOCK;
  return memory.subarray(start, start + size);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, index) => byte === b[index]);
}

/** Writes `pieces` one after the other as a new file does; returns what the last call left out. */
function writePieces(native: Native, path: string, pieces: Uint8Array[]): number {
  const fd = native.open(path, O_RDWR | O_CREAT, 0o600);
  let offset = 0;
  let left = 0;
  for (const piece of pieces) {
    left = native.writeSparse(fd, piece, offset);
    offset += piece.byteLength;
  }
  if (left > 0) native.truncate(fd, offset);
  native.close(fd);
  return left;
}

export const bulkCases: Case[] = [
  {
    name: 'bulk: what is written is what is read, whatever its size and place in memory',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const memory = aligned(native, 600_000);
        assert.equal(native.pageOffset(memory), 0, 'a buffer that begins on a page');
        assert.equal(native.pageOffset(memory.subarray(513)), 513, 'and one that does not');
        memory.set(pattern(0, memory.byteLength));
        let number = 0;
        for (const start of [0, 1, 512, 4095])
          for (const size of [0, 1, BLOCK, DIRECT - 1, DIRECT, DIRECT + 1, 500_000]) {
            const path = `${folder}/${number++}`;
            const piece = memory.subarray(start, start + size);
            assert.equal(writePieces(native, path, [piece, piece.subarray(0, 100), piece]), 0, 'no hole');
            const expected = new Uint8Array(2 * size + Math.min(size, 100));
            expected.set(piece);
            expected.set(piece.subarray(0, 100), size);
            expected.set(piece, size + Math.min(size, 100));
            assert.ok(same(contentOf(native, path), expected), `${size} bytes from ${start}`);
          }
      }),
  },
  {
    name: 'bulk: long runs of zeros are holes, short ones are not',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const size = 8 * HOLE;
        const content = (...parts: [from: number, to: number][]) => {
          const buffer = aligned(native, size);
          for (const [from, to] of parts) buffer.fill(7, from, to);
          return buffer;
        };
        const cases: [name: string, content: Uint8Array, data: number, left: number][] = [
          ['all zeros', content(), 0, size],
          ['none', content([0, size]), size, 0],
          ['at the end', content([0, BLOCK]), BLOCK, size - BLOCK],
          ['at the beginning', content([size - 1, size]), BLOCK, 0],
          ['in the middle', content([0, HOLE], [3 * HOLE, size]), size - 2 * HOLE, 0],
          ['too short', content([0, HOLE], [2 * HOLE - BLOCK, size]), size, 0],
          ['too short at the end', content([0, size - HOLE + BLOCK]), size, 0],
          ['one byte inside', content([0, HOLE], [2 * HOLE - 1, 2 * HOLE], [3 * HOLE, size]), -1, 0],
        ];
        const sparse = writeSparseWorks(native, `${folder}/try`, size);
        for (const [name, piece, data, left] of cases) {
          const path = `${folder}/${name}`;
          assert.equal(writePieces(native, path, [piece]), left, `${name}: left out`);
          assert.ok(same(contentOf(native, path), piece), name);
          if (sparse && data >= 0) assert.equal(dataOf(native, path), data, `${name}: data`);
        }
        // At an offset that is no block's, nothing is left out.
        assert.equal(writePieces(native, `${folder}/odd`, [bytes('x'), content()]), 0, 'odd');
        assert.equal(contentOf(native, `${folder}/odd`).byteLength, size + 1, 'odd size');
      }),
  },
  {
    name: 'bulk: a file that cannot be written says so',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        writeFile(native, `${folder}/f`, 'x');
        const fd = native.open(`${folder}/f`, O_RDONLY, 0);
        const data = pattern(0, DIRECT);
        assert.fails(
          () => native.writeSparse(fd, data, 0),
          { code: 'EBADF', syscall: 'pwrite' },
          'read-only',
        );
        assert.fails(() => native.truncate(fd, 5), { code: 'EINVAL', syscall: 'ftruncate' }, 'nor cut');
        native.close(fd);
      }),
  },
  {
    name: 'bulk: pages go from a file to a pipe, and from a pipe to a file',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const fd = native.open(`${folder}/f`, O_RDWR | O_CREAT, 0o600);
        const size = 200_000;
        native.writeSparse(fd, pattern(0, size), 0);
        const [reader, writer] = native.pipe('both', 1024 * 1024);
        let moved = 0;
        for (let count = 1; count > 0; moved += count) count = native.splice(fd, writer, size);
        assert.equal(moved, size, 'to its end');
        const buffer = new Uint8Array(size);
        for (let at = 0; at < size; ) at += native.read(reader, buffer.subarray(at));
        assert.ok(isPattern(buffer, 0), 'content');
        assert.equal(native.splice(reader, fd, 10), -1, 'an empty pipe would block');
        native.write(writer, bytes('more'));
        assert.equal(native.splice(reader, fd, 10), 4, 'from a pipe');
        native.close(fd);
        assert.equal(text(contentOf(native, `${folder}/f`).subarray(size)), 'more', 'appended');
        const [left, right] = native.socketPair();
        const file = native.open(`${folder}/f`, O_RDWR, 0);
        assert.fails(() => native.splice(file, left, 10), { code: 'EINVAL', syscall: 'splice' }, 'no pipe');
        for (const end of [reader, left, right, file]) native.close(end);
        const again = native.open(`${folder}/f`, O_RDONLY, 0);
        assert.fails(() => native.splice(again, writer, 10), { code: 'EPIPE' }, 'nobody reads');
        native.close(writer);
        native.close(again);
      }),
  },
  {
    name: 'bulk: a small file has everything after one call, and takes the place of what was there',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        const uid = native.getUid();
        const put = (name: string, content: string, mode = 0o640, mtime = 1_500_000_000.5) =>
          native.putFile(dir, name, bytes(content), mode, uid, uid, mtime);
        put('f', 'one', 0o4751);
        const stat = native.stat(`${folder}/f`);
        assert.equal([stat.mode & 0o7777, stat.uid, stat.mtime], [0o4751, uid, 1_500_000_000.5], 'stat');
        writeFile(native, `${folder}/target`, 'kept');
        native.symlink('target', `${folder}/link`);
        put('link', 'a file');
        assert.equal(readFile(native, `${folder}/link`), 'a file', 'in place of a link');
        assert.equal(readFile(native, `${folder}/target`), 'kept', 'which is not followed');
        native.linkAt(dir, 'target', dir, 'other');
        put('other', '');
        assert.equal(readFile(native, `${folder}/target`), 'kept', 'nor are other names of a file changed');
        native.mkdir(`${folder}/d`, 0o755);
        assert.fails(() => put('d', 'x'), { code: 'EISDIR', syscall: 'unlinkat', path: 'd' }, 'a directory');
        assert.fails(() => put('d/f', 'x'), { code: 'EINVAL', path: 'd/f' }, 'a path');
        assert.fails(() => put('../f', 'x'), { code: 'EINVAL' }, 'another');
        assert.fails(() => put('..', 'x'), { code: 'EISDIR' }, 'the parent');
        assert.fails(() => put('f', 'x', 0o600, 1e300), { code: 'EINVAL' }, 'no time');
        assert.fails(() => put('y'.repeat(300), ''), { code: 'ENAMETOOLONG' }, 'too long');
        native.close(dir);
      }),
  },
  {
    name: 'bulk: a small file that cannot be made leaves nothing',
    run(native, assert) {
      needsRoot(native, assert);
      return withFolder(native, (folder) => {
        native.mkdir(`${folder}/full`, 0o755);
        native.mount('t', `${folder}/full`, 'tmpfs', 0, 'size=16k');
        const dir = native.open(`${folder}/full`, O_RDONLY | O_DIRECTORY, 0);
        const put = () => native.putFile(dir, 'f', new Uint8Array(50_000), 0o644, 0, 0, 0);
        assert.fails(put, { code: 'ENOSPC', syscall: 'write', path: 'f' }, 'no room');
        assert.equal(native.readDirectory(dir), [], 'nothing is there');
        native.close(dir);
        native.umount(`${folder}/full`, 2);
      });
    },
  },
  {
    name: 'bulk: the small files of a directory in an archive, and nothing else of it',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        const uid = native.getUid();
        const block = (name: string, flag = '0', size = 3, change: [at: number, text: string][] = []) => {
          const header = new Uint8Array(512);
          const fields: [number, string][] = [
            ...([
              [0, name],
              [100, '0640'],
              [108, uid.toString(8)],
              [116, uid.toString(8)],
            ] as [number, string][]),
            ...([
              [124, size.toString(8)],
              [136, '14243'],
              [156, flag],
              [257, 'ustar\0'],
            ] as [number, string][]),
            ...change,
            [148, '        '],
          ];
          for (const [at, field] of fields) header.set(bytes(field), at);
          const sum = header.reduce((total, byte) => total + byte, 0);
          header.set(bytes(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
          return header;
        };
        const entry = (...args: Parameters<typeof block>) => {
          const whole = new Uint8Array(1024);
          whole.set(block(...args));
          whole.set(bytes(`${args[0].slice(-1)}!\n`), 512);
          return whole;
        };
        const put = (directory: string, ...entries: Uint8Array[]) => {
          const archive = new Uint8Array(entries.reduce((sum, one) => sum + one.byteLength, 0));
          let at = 0;
          for (const one of entries) {
            archive.set(one, at);
            at += one.byteLength;
          }
          return native.putTarFiles(dir, directory, archive);
        };
        assert.equal(put('', entry('a'), entry('b'), new Uint8Array(1024)), [2, 2048], 'up to the end mark');
        assert.equal(
          readFile(native, `${folder}/a`) + readFile(native, `${folder}/b`),
          'a!\nb!\n',
          'content',
        );
        const { mode, mtime } = native.stat(`${folder}/a`);
        assert.equal([mode & 0o7777, mtime], [0o640, 0o14243], 'mode and time');
        assert.equal(put('x/./y', entry('x/./y/c'), entry('x/y/d')), [1, 1024], 'as the archive calls it');
        assert.equal(readFile(native, `${folder}/c`), 'c!\n', 'there');
        for (const [what, one] of Object.entries({
          'another directory': entry('z/e'),
          'one below': entry('x/z/e'),
          'the parent': entry('x/..'),
          itself: entry('x/.'),
          'no name': entry('x/'),
          'the directory': entry('x'),
          'a link': entry('x/e', '2'),
          'a directory': entry('x/e', '5'),
          'an extended header': entry('x/e', 'x'),
          'too large': entry('x/e', '0', 70_000),
          'not all there': entry('x/e', '0', 513),
          'no uid': entry('x/e', '0', 3, [[108, '77777777']]).map((byte, at) => (at === 148 ? 0x78 : byte)),
          'no header': entry('x/e').map((byte, at) => (at === 3 ? byte + 1 : byte)),
          nothing: new Uint8Array(511),
        })) {
          assert.equal(put('x', one), [0, 0], what);
          assert.equal(put('x', entry('x/f'), one), [1, 1024], `${what}, after one that is`);
        }
        native.mkdir(`${folder}/taken`, 0o755);
        assert.equal(put('', entry('g'), entry('taken'), entry('h')), [1, 1024], 'before one that fails');
        const names = native.readDirectory(dir).map(({ name }) => name);
        assert.equal(names.sort(), ['a', 'b', 'c', 'f', 'g', 'taken'], 'nothing else');
        native.close(dir);
      }),
  },
  {
    name: 'bulk: names that are no UTF-8 come and go as they are',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const raw = Uint8Array.from([0x61, 0xff, 0xc3, 0xa4, 0xed, 0xa0, 0x80, 0xf0, 0x9f, 0x98, 0x80, 0xc3]);
        const name = native.decodeName(raw);
        assert.equal(name, 'a\udcffä\udced\udca0\udc80😀\udcc3', 'decoded');
        assert.equal([...native.encodeName(name)], [...raw], 'encoded');
        for (const plain of ['', 'plain', 'ä€😀\ufffd'])
          assert.equal(native.decodeName(native.encodeName(plain)), plain, plain);
        assert.equal(text(native.encodeName('\ud800x\udc00')), '\ufffdx\ufffd', 'no bytes: replaced');
        writeFile(native, `${folder}/${name}`, 'found');
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        assert.equal(native.readDirectory(dir), [{ name, type: 8 }], 'listed');
        assert.equal(native.readText(dir, name, 10), 'found', 'opened');
        native.symlinkAt(name, dir, 'link');
        assert.equal(native.readlinkAt(dir, 'link'), name, 'a target');
        native.unlinkAt(dir, name, false);
        native.close(dir);
      }),
  },
  {
    name: 'bulk: attributes of a file',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const fd = native.open(`${folder}/f`, O_RDWR | O_CREAT, 0o600);
        assert.equal(native.listXattrs(fd), null, 'none');
        try {
          native.setXattr(fd, 'user.one', Uint8Array.from([0, 255]));
        } catch (error) {
          if ((error as { code?: string }).code === 'EOPNOTSUPP') return native.close(fd);
          throw error;
        }
        native.setXattr(fd, 'user.\udcff', new Uint8Array(0));
        assert.equal(native.listXattrs(fd)?.sort(), ['user.one', 'user.\udcff'], 'both');
        assert.equal([...native.getXattr(fd, 'user.one')], [0, 255], 'a value');
        assert.equal(native.getXattr(fd, 'user.\udcff').byteLength, 0, 'an empty one');
        assert.fails(() => native.getXattr(fd, 'user.x'), { code: 'ENODATA', path: 'user.x' }, 'not there');
        assert.fails(() => native.setXattr(fd, 'user.', bytes('')), { code: 'EINVAL' }, 'no name');
        native.close(fd);
      }),
  },
  {
    name: 'bulk: a tar header is read, or said to be none',
    run(native, assert) {
      const block = new Uint8Array(1024);
      assert.equal(native.tarHeader(block, 512), null, 'zeros');
      block.set(bytes('dir/f\0'), 512);
      const number = (at: number, value: string) => block.set(bytes(value), 512 + at);
      number(100, '0000644\0');
      number(108, ' 12 \0');
      number(124, '00000000017\0');
      block.set([0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 512 + 136);
      block.set([0x35], 512 + 156);
      const seal = () => {
        number(148, '        ');
        const sum = block.subarray(512).reduce((total, byte) => total + byte, 0);
        number(148, `${sum.toString(8).padStart(6, '0')}\0 `);
      };
      seal();
      assert.equal(
        native.tarHeader(block, 512),
        [0x35, 'dir/f', '', 0o644, 10, 0, 15, 2 ** 24, 0, 0],
        'all of its fields',
      );
      block[512] = 0x66;
      assert.equal(native.tarHeader(block, 512), 'header with a wrong checksum', 'changed');
      number(124, '00x');
      seal();
      assert.equal(native.tarHeader(block, 512), "damaged number in field 'size'", 'no number');
      for (const offset of [513, 2000, Number.MAX_SAFE_INTEGER])
        assert.rejects(
          () => native.tarHeader(block, offset),
          /a whole block/,
          `beyond the buffer: ${offset}`,
        );
    },
  },
];

/** Whether the file system here has holes at all, at the size of a block. */
function writeSparseWorks(native: Native, path: string, size: number): boolean {
  const fd = native.open(path, O_RDWR | O_CREAT, 0o600);
  native.truncate(fd, size);
  native.close(fd);
  return dataOf(native, path) === 0;
}
