/** Unpacking onto a full disk and onto a read-only one. Needs root, for file systems of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { indexOf } from '../../build/dist/payload.ts';
import { unpackedFolder } from '../../host/lib/unpack.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { sha256 } from '../lib/vm.ts';

if (inNamespaces(import.meta.url)) {
  const bytes = Buffer.alloc(3_000_000, 'kernel');
  const file = { name: 'vmlinux', size: bytes.length, sha256: sha256(bytes), zstd: false };
  const packed = { index: indexOf('1.2.3', [file]), read: () => bytes };

  t.test('a full disk', async (t) => {
    const folder = ramFolders(t, '4m')();
    const rest = join(folder, 'rest');
    for (const room of [0, 1_000_000]) {
      const base = join(folder, 'dist');
      writeFileSync(rest, '');
      fill(rest, room);
      t.throws(() => unpackedFolder(base, packed), { code: 'YAVM_E_DIST_FULL', hint: /XDG_CACHE_HOME/ });
      const left = existsSync(base) ? readdirSync(base, { recursive: true }) : [];
      t.same(
        left.filter((name) => name !== packed.index.id),
        [],
        `${room} bytes of room: nothing is left`,
      );
      rmSync(rest);
      unpackedFolder(base, packed);
      t.ok(existsSync(join(base, packed.index.id, 'vmlinux')), 'with room it goes on');
      rmSync(base, { recursive: true });
    }
  });

  t.test('a read-only disk', async (t) => {
    const folder = ramFolders(t, '8m')();
    const used = join(folder, 'used');
    mkdirSync(used);
    const unpacked = unpackedFolder(used, packed);
    rmSync(join(unpacked, 'verified.json'));
    execFileSync('mount', ['-o', 'remount,ro', join(folder, '..')]);
    t.throws(() => unpackedFolder(join(folder, 'new'), packed), {
      code: 'YAVM_E_DIST_FOLDER',
      message: /read-only/,
      hint: /XDG_CACHE_HOME/,
    });
    t.equal(unpackedFolder(used, packed), unpacked, 'what is there, and right, is used');
  });
}

/** Fills the file system but for `room` bytes. */
function fill(path: string, room: number): void {
  const { bavail, bsize } = statfsSync(path);
  writeFileSync(path, Buffer.alloc(Math.max(0, bavail * bsize - room)));
}
