import t from 'tap';
import { findDisksWith } from '../../guest/boot/disks.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';

const SYSFS = '/sys/class/block';

/** A sysfs with disks `name → serial`; a partition has no serial. */
function disks(
  serials: Record<string, string>,
  names = Object.keys(serials),
): Record<string, string | string[]> {
  const files: Record<string, string | string[]> = { [SYSFS]: ['loop0', ...names] };
  for (const [name, serial] of Object.entries(serials)) files[`${SYSFS}/${name}/serial`] = `${serial}\n`;
  return files;
}

t.test('disks are found by serial, whatever order sysfs lists them in', async (t) => {
  const fake = fakeNative(disks({ vdaa: 'last', vdb: 'two', vda: 'one' }, ['vdaa', 'vdb', 'vda', 'vda1']));
  const found = await findDisksWith(fake.native, ['two', 'last', 'one'], SYSFS, 10);
  t.strictSame([...found].sort(), [
    ['last', '/dev/vdaa'],
    ['one', '/dev/vda'],
    ['two', '/dev/vdb'],
  ]);
  t.equal(fake.open.size, 0, 'every descriptor is closed');
});

t.test('placeholders are not asked for their serial once all are found', async (t) => {
  const fake = fakeNative(disks({ vda: 'root', vdb: 'upper', vdc: '', vdd: '' }));
  await findDisksWith(fake.native, ['root', 'upper'], SYSFS, 10);
  const asked = fake.only('readText').map(([, , path]) => path);
  t.strictSame(asked, [`${SYSFS}/vda/serial`, `${SYSFS}/vdb/serial`]);
});

t.test('the first of two disks with one serial counts', async (t) => {
  const fake = fakeNative(disks({ vda: 'x', vdb: 'x', vdc: 'y' }));
  t.equal((await findDisksWith(fake.native, ['x', 'y'], SYSFS, 10)).get('x'), '/dev/vda');
});

t.test('a disk that comes late is waited for', async (t) => {
  const files = disks({ vda: 'one' });
  const fake = fakeNative(files);
  const waiting = findDisksWith(fake.native, ['one', 'two'], SYSFS, 1000);
  setTimeout(() => {
    Object.assign(files, disks({ vda: 'one', vdb: 'two' }));
  }, 20);
  t.equal((await waiting).get('two'), '/dev/vdb');
});

t.test('a disk that never comes: the error names it and what there is', async (t) => {
  const fake = fakeNative(disks({ vda: 'one', vdb: '' }));
  await t.rejects(findDisksWith(fake.native, ['one', 'two', 'three'], SYSFS, 3), {
    code: 'disk-missing',
    message: /'two', 'three' .* there: 'one'$/,
  });
  await t.rejects(findDisksWith(fakeNative().native, ['one'], SYSFS, 3), {
    code: 'disk-missing',
    errno: 'ENOENT',
  });
  t.equal(fake.open.size, 0);
});

t.test('an unreadable serial is an error, a disk that goes away meanwhile is none', async (t) => {
  const refusing = (code: string) =>
    fakeNative(disks({ vda: 'one' }), {
      readText: () => {
        throw systemError(code, 'read');
      },
    });
  await t.rejects(findDisksWith(refusing('EACCES').native, ['one'], SYSFS, 2), {
    code: 'disk-missing',
    errno: 'EACCES',
  });
  await t.rejects(findDisksWith(refusing('EIO').native, ['one'], SYSFS, 2), { message: /there: none/ });
});
