/** The guest's files role at both ends of every format of archives: what one tree is read as, another is written from. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ARCHIVE_FORMATS } from '../../host/transfer/archive/index.ts';
import { pack, unpack } from '../lib/archives.ts';
import { ROLE_HOSTS, runRole } from '../lib/files-role.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { rawTar } from '../lib/raw-tar.ts';
import { listTree } from '../lib/tree.ts';

inNamespaces(import.meta.url);
process.umask(0);

const top = ramFolders(t, '256m')();

const root = join(top, 'root');
mkdirSync(join(root, 'tree', 'a', 'empty'), { recursive: true });
writeFileSync(join(root, 'tree', 'a', 'file'), 'content'.repeat(9999), { mode: 0o4750 });
linkSync(join(root, 'tree', 'a', 'file'), join(root, 'tree', 'second name'));
symlinkSync('../a/file', join(root, 'tree', 'a', 'link'));
writeFileSync(join(root, 'tree', 'ünï\n😀'.repeat(12)), '');
execFileSync('mkfifo', [join(root, 'tree', 'pipe')]);
execFileSync('chown', ['1000:1001', join(root, 'tree', 'a', 'file')]);

/** Without what a format has no place for. */
const listed = (path: string, zip: boolean) =>
  listTree(path, { times: zip ? 'not-directories' : 'all' })
    .filter((line) => !line.includes(' fifo'))
    .map((line) => (zip ? line.replace(/ = .*$/s, '') : line));

for (const host of Object.keys(ROLE_HOSTS)) {
  for (const format of ARCHIVE_FORMATS) {
    t.test(`${format}, ${host}`, async (t) => {
      const read = runRole(host, root, ['read', 'tar', '/tree/.']);
      t.equal(read.status, 0, String(read.error?.message));
      const archive = await pack(read.output, { format, tempFolder: top });
      const tar = await unpack(archive, { format, tempFolder: top });
      const target = mkdtempSync(join(top, 'target-'));
      const written = runRole(host, target, ['write', 'tar', '/in'], tar);
      t.equal(written.status, 0, String(written.error?.message));
      const zip = format.startsWith('zip');
      t.same(listed(join(target, 'in'), zip), listed(join(root, 'tree'), zip));
    });
  }

  t.test(`names that are no UTF-8, and attributes, ${host}`, async (t) => {
    const strange = join(top, `strange-${host}`);
    mkdirSync(join(strange, 'tree'), { recursive: true });
    const name = Buffer.concat([Buffer.from(`${strange}/tree/`), Buffer.from([0xff, 0xfe, 0x41])]);
    writeFileSync(name, 'raw');
    writeFileSync(join(strange, 'tree', 'attributed'), 'x');
    const set = 'import os, sys; os.setxattr(sys.argv[1], "user.test", bytes([0, 10, 61, 255]))';
    const python = ['-c', set, join(strange, 'tree', 'attributed')];
    let attributes = true;
    try {
      execFileSync('python3', python, { stdio: 'ignore' });
    } catch {
      // No python3, or a tmpfs without user attributes (Linux before 6.6).
      attributes = false;
    }
    const read = runRole(host, strange, ['read', 'tar', '/tree/.']);
    const tar = await unpack(await pack(read.output, { format: 'tar.gz' }), { format: 'tar.gz' });
    t.equal(tar.includes(Buffer.from('user.test=\0\n=\xff\n', 'latin1')), attributes, 'attributes are kept');
    const target = mkdtempSync(join(top, 'target-'));
    const written = runRole(host, target, ['write', 'tar', '/in'], tar);
    t.equal(written.status, 0, String(written.error?.message));
    const names = (path: string) => readdirSync(path, 'buffer').map((bytes) => bytes.toString('latin1'));
    t.same(names(join(target, 'in')).sort(), names(join(strange, 'tree')).sort());
  });
}

t.test('a full disk', async (t) => {
  const full = join(top, 'full');
  mkdirSync(full);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'yavm-test', full]);
  t.teardown(() => execFileSync('umount', ['-l', full]));
  const small = rawTar({ name: 'small', content: randomBytes(512 * 1024) });
  const large = rawTar({ name: 'large', content: randomBytes(4 * 1024 * 1024) });
  const refusal = { code: 'YAVM_E_ARCHIVE_SPOOL', message: new RegExp(full) };
  await t.rejects(pack(large, { format: 'zip', tempFolder: full }), refusal, 'packing');
  const zip = await pack(large, { format: 'zip', tempFolder: top });
  await t.rejects(unpack(zip, { format: 'zip', tempFolder: full }), refusal, 'unpacking');
  t.ok(
    (await pack(small, { format: 'zip', tempFolder: full })).byteLength > 0,
    'what was kept is gone: there is room again',
  );
  t.same(readdirSync(full), []);
});
