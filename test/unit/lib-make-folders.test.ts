import { mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeFolders } from '../../host/lib/make-folders.ts';

t.test('all that is missing is made, once', async (t) => {
  const top = t.testdir();
  const path = join(top, 'a/b/c');
  makeFolders(path, 0o700);
  for (const each of ['a', 'a/b', 'a/b/c']) t.equal(statSync(join(top, each)).mode & 0o777, 0o700, each);
  makeFolders(path, 0o755);
  t.equal(statSync(path).mode & 0o777, 0o700, 'one that is there stays as it is');
  symlinkSync('a/b', join(top, 'link'));
  makeFolders(join(top, 'link/d'));
  t.ok(statSync(join(top, 'a/b/d')).isDirectory());
  makeFolders(join(top, 'link'));
});

t.test('what cannot be made ends, with the reason', async (t) => {
  const top = t.testdir();
  writeFileSync(join(top, 'file'), '');
  t.throws(() => makeFolders(join(top, 'file')), { code: 'EEXIST' });
  t.throws(() => makeFolders(join(top, 'file/x')), { code: 'ENOTDIR' });
  symlinkSync('nowhere', join(top, 'dangling'));
  t.throws(() => makeFolders(join(top, 'dangling')), { code: 'EEXIST' });
  t.throws(() => makeFolders(join(top, 'dangling/x')), { code: 'EEXIST' });
  t.throws(() => makeFolders('/proc/yavm'), { code: 'ENOENT' }, 'which Node would try for ever');
  t.throws(() => makeFolders('/proc/yavm/x'), { code: 'ENOENT' });
  mkdirSync(join(top, 'there'));
  makeFolders(join(top, 'there'));
});
