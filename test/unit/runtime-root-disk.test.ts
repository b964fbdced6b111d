import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { diskFileSize } from '../../host/runtime/disk-size.ts';
import { makeDisk, mke2fsArguments } from '../../host/runtime/root-disk.ts';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'yavm-disk-'));
t.teardown(() => execFileSync('rm', ['-rf', folder]));
process.env.YAVM_DISK_DIR = folder;

/** The fields of `dumpe2fs -h`. */
function describe(fd: number): Map<string, string> {
  const text = execFileSync('/usr/sbin/dumpe2fs', ['-h', '/proc/self/fd/3'], {
    stdio: ['ignore', 'pipe', 'ignore', fd],
  });
  return new Map(
    text
      .toString()
      .split('\n')
      .map((line) => line.split(/:\s+/, 2) as [string, string]),
  );
}

t.test('the arguments', async (t) => {
  t.equal(
    mke2fsArguments('/x', true).join(' '),
    '-q -F -t ext4 -O none,has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr -b 4096 -m 0 -i 16384 -I 256 -J size=16 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0 /x',
  );
  t.equal(
    mke2fsArguments('/x', false).join(' '),
    '-q -F -t ext4 -O none,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr -b 4096 -m 0 -i 16384 -I 256 -E lazy_itable_init=1,nodiscard,root_owner=0:0 /x',
    'one that nobody keeps has no journal',
  );
});

t.test('the user gets what was asked for, and the file little more', async (t) => {
  const sizes = [16, 17, 100, 128, 500, 1024, 10_000, 102_400, 819_200];
  for (const [mib, keep] of [...sizes.map((size) => [size] as const), [500, join(folder, 'kept')] as const]) {
    const { fd, kept } = await makeDisk({ usable: mib * MIB, keep });
    const fields = describe(fd);
    // What the kernel's driver does not hand out: 2 % of the blocks, at most 4096.
    const heldBack = Math.min(Math.floor(Number(fields.get('Block count')) / 50), 4096);
    const usable = ((Number(fields.get('Free blocks')) - heldBack) * 4096) / MIB;
    t.ok(usable >= mib && usable < mib * 1.01 + 4, `${mib} MiB: ${usable.toFixed(1)} MiB usable`);
    t.ok(fstatSync(fd).blocks * 512 < 20 * MIB, 'sparse');
    t.equal(fstatSync(fd).size, diskFileSize(mib * MIB, kept));
    t.equal(kept, keep !== undefined);
    t.equal(/\bhas_journal\b/.test(fields.get('Filesystem features') ?? ''), kept, 'a journal to keep it');
    if (keep === undefined) t.equal(fstatSync(fd).nlink, 0, 'without a name');
    else rmSync(keep);
    closeSync(fd);
  }
  t.strictSame(readdirSync(folder), []);
});

t.test('room that is reserved is taken at once, and no more than the disk has', async (t) => {
  const { fd } = await makeDisk({ usable: 32 * MIB, preallocate: 24 * MIB });
  t.ok(fstatSync(fd).blocks * 512 >= 24 * MIB);
  t.equal(fstatSync(fd).size, diskFileSize(32 * MIB, false));
  t.equal(describe(fd).get('Filesystem state'), 'clean');
  closeSync(fd);
  const whole = await makeDisk({ usable: 32 * MIB, preallocate: 2 ** 50 });
  t.equal(fstatSync(whole.fd).size, diskFileSize(32 * MIB, false));
  closeSync(whole.fd);
});

t.test('a disk that is kept has a name, and is used again as it is', async (t) => {
  const path = join(folder, 'kept, with a comma.disk');
  const first = await makeDisk({ usable: 64 * MIB, keep: path });
  const id = describe(first.fd).get('Filesystem UUID');
  closeSync(first.fd);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const second = await makeDisk({ usable: 999 * MIB, keep: path });
  t.equal(describe(second.fd).get('Filesystem UUID'), id);
  t.ok(second.kept);
  closeSync(second.fd);
});

t.test('what is no disk of ours is left alone', async (t) => {
  const text = join(folder, 'text');
  writeFileSync(text, 'x'.repeat(5000));
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: text }), {
    code: 'YAVM_E_ROOT_DISK',
    message: /no ext4/,
  });
  t.equal(statSync(text).size, 5000);
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: folder }), { code: 'YAVM_E_ROOT_DISK' });
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: join(folder, 'no', 'where') }), {
    code: 'YAVM_E_ROOT_DISK',
  });
  symlinkSync('/etc/passwd', join(folder, 'link'));
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: join(folder, 'link') }), { code: 'YAVM_E_ROOT_DISK' });
  for (const usable of [0, 16 * MIB - 1, 2 ** 53, Number.NaN]) {
    await t.rejects(makeDisk({ usable }), { code: 'YAVM_E_ROOT_DISK', message: /outside/ });
  }
});

t.test('mke2fs: missing, failing, given up', async (t) => {
  const path = join(folder, 'new.disk');
  t.teardown(() => {
    delete process.env.YAVM_MKE2FS;
  });
  process.env.YAVM_MKE2FS = '/nowhere/mke2fs';
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: path }), {
    code: 'YAVM_E_MKE2FS_MISSING',
    hint: 'sudo apt-get install e2fsprogs',
  });
  process.env.YAVM_MKE2FS = join(folder, 'mke2fs');
  writeFileSync(process.env.YAVM_MKE2FS, '#!/bin/sh\necho "x: No space left on device" >&2\nexit 1\n', {
    mode: 0o755,
  });
  await t.rejects(makeDisk({ usable: 64 * MIB }), { code: 'YAVM_E_DISK_FULL', hint: /YAVM_DISK_DIR/ });
  writeFileSync(process.env.YAVM_MKE2FS, '#!/bin/sh\necho "no luck" >&2\nexit 3\n', { mode: 0o755 });
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: path }), { code: 'YAVM_E_MKE2FS', message: /no luck/ });
  t.notOk(existsSync(path), 'nothing half-made is left');
  writeFileSync(process.env.YAVM_MKE2FS, '#!/bin/sh\nexec sleep 100\n', { mode: 0o755 });
  await t.rejects(makeDisk({ usable: 64 * MIB, keep: path }, AbortSignal.timeout(100)), {
    name: 'TimeoutError',
  });
});
