import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type Entry, packCpio, unpackCpio } from '../../initramfs/cpio.ts';

const ENTRIES: Entry[] = [
  { type: 'file', path: '/init', mode: 0o755, data: Buffer.from('#!/bin/sh\n') },
  { type: 'file', path: '/etc/empty', mode: 0o600, data: Buffer.alloc(0) },
  { type: 'file', path: '/etc/größe', mode: 0o644, data: Buffer.from('abcde') },
  { type: 'symlink', path: '/bin/sh', target: 'busybox' },
  { type: 'directory', path: '/tmp', mode: 0o1777 },
  { type: 'directory', path: '/bin', mode: 0o700 },
  { type: 'directory', path: '/bin-else', mode: 0o755 },
  { type: 'character', path: '/dev/console', mode: 0o600, major: 5, minor: 1 },
  { type: 'block', path: '/dev/vda', mode: 0o660, major: 254, minor: 0 },
];

t.test('what is packed, cpio lists: names, types, modes, sizes, devices, owner root', async (t) => {
  const listing = execFileSync('cpio', ['-itvn', '--quiet'], {
    input: packCpio(ENTRIES, 86400 * 365),
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C.UTF-8' },
  }).toString();
  const lines = listing
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' '));
  t.strictSame(lines, [
    'drwx------ 2 0 0 0 Jan 1 1971 bin',
    'drwxr-xr-x 2 0 0 0 Jan 1 1971 bin-else',
    'lrwxrwxrwx 1 0 0 7 Jan 1 1971 bin/sh -> busybox',
    'drwxr-xr-x 2 0 0 0 Jan 1 1971 dev',
    'crw------- 1 0 0 5, 1 Jan 1 1971 dev/console',
    'brw-rw---- 1 0 0 254, 0 Jan 1 1971 dev/vda',
    'drwxr-xr-x 2 0 0 0 Jan 1 1971 etc',
    '-rw------- 1 0 0 0 Jan 1 1971 etc/empty',
    '-rw-r--r-- 1 0 0 5 Jan 1 1971 etc/größe',
    '-rwxr-xr-x 1 0 0 10 Jan 1 1971 init',
    'drwxrwxrwt 2 0 0 0 Jan 1 1971 tmp',
  ]);
});

t.test('what is packed, cpio unpacks to the same bytes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const plain = ENTRIES.filter(({ type }) => type !== 'character' && type !== 'block');
  execFileSync('cpio', ['-i', '--quiet'], { input: packCpio(plain), cwd: folder });
  t.equal(readFileSync(join(folder, 'init'), 'utf8'), '#!/bin/sh\n');
  t.equal(readFileSync(join(folder, 'etc/größe'), 'utf8'), 'abcde');
  t.equal(readlinkSync(join(folder, 'bin/sh')), 'busybox');
  t.equal(statSync(join(folder, 'tmp')).mode & 0o7777, 0o1777);
});

t.test('unpacking gives back the entries, sorted and with their parents', async (t) => {
  const entries = unpackCpio(packCpio(ENTRIES));
  const parents = ['/dev', '/etc'].map((path): Entry => ({ type: 'directory', path, mode: 0o755 }));
  const sorted = [...ENTRIES, ...parents].sort((a, b) =>
    Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)),
  );
  t.strictSame(entries, sorted);
});

t.test('what GNU cpio packs is read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  execFileSync('sh', ['-c', 'mkdir d; printf abc > d/f; ln -s f d/l; mkfifo p'], { cwd: folder });
  const pack = (names: string) =>
    execFileSync('cpio', ['-o', '-H', 'newc', '--quiet'], { input: names, cwd: folder });
  const entries = unpackCpio(pack('.\nd\nd/f\nd/l\n'));
  t.strictSame(
    entries.map(({ type, path }) => `${type} ${path}`),
    ['directory /.', 'directory /d', 'file /d/f', 'symlink /d/l'],
  );
  t.throws(() => unpackCpio(pack('p\n')), { code: 'YAVM_E_INITRAMFS_ARCHIVE', message: /^\/p: mode 10/ });
});

t.test('the order of entries does not matter, the time does', async (t) => {
  t.ok(packCpio(ENTRIES).equals(packCpio(ENTRIES.toReversed())));
  t.notOk(packCpio(ENTRIES, 1).equals(packCpio(ENTRIES, 2)));
});

t.test('what cannot be packed is refused', async (t) => {
  const file = (path: string): Entry => ({ type: 'file', path, mode: 0o644, data: Buffer.alloc(0) });
  const refuse = (entries: Entry[], message: RegExp) =>
    t.throws(() => packCpio(entries), { code: 'YAVM_E_INITRAMFS_CONTENT', message }, String(message));
  for (const path of ['init', '', '/', '/a//b', '/a/./b', '/a/../b', '/a/', '/a\0b', `/${'x'.repeat(4096)}`])
    refuse([file(path)], /not an absolute, plain path/);
  refuse([file('/a'), file('/a')], /^\/a: is in the initramfs twice/);
  refuse([file('/a'), file('/a/b')], /^\/a\/b: \/a is a file, not a folder/);
  refuse([{ type: 'symlink', path: '/a', target: 'b' }, file('/a/b/c')], /\/a is a symlink/);
});

t.test('damaged archives are refused, cut at any byte', async (t) => {
  const good = packCpio(ENTRIES);
  for (let length = 0; length < good.length - 4; length += 7)
    t.throws(
      () => unpackCpio(good.subarray(0, length)),
      { code: 'YAVM_E_INITRAMFS_ARCHIVE' },
      `${length} bytes`,
    );
  for (const at of [0, 14, 54, 94]) {
    const bad = Buffer.from(good);
    bad[at] = 0x7a;
    t.throws(() => unpackCpio(bad), { code: 'YAVM_E_INITRAMFS_ARCHIVE' }, `byte ${at}`);
  }
});
