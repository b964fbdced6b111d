/** The packages: the same bytes each time, with what they must hold. The program itself is a stand-in: it takes a minute. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildArchive, buildDebianPackage, checksums } from '../../build/dist/archives.ts';
import { packageFolders } from '../../build/dist/licences.ts';
import { npmComponents, sbomText } from '../../build/dist/sbom.ts';
import { sourceDate } from '../../build/dist/steps.ts';
import { sha256 } from '../lib/vm.ts';

const top = mkdtempSync(join(tmpdir(), 'yavm-dist-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

function build(name: string, changed: Date): { folder: string; archive: string; debian: string } {
  const folder = join(top, name);
  mkdirSync(folder);
  const [program, licences, sbom] = ['ya-vm', 'licences.txt', 'sbom.cdx.json'].map((each) => {
    const path = join(folder, each);
    writeFileSync(path, each);
    utimesSync(path, changed, changed);
    return path;
  }) as [string, string, string];
  const contents = {
    version: '1.2.3',
    program,
    licences,
    sbom,
    epoch: 1_700_000_000,
    work: join(folder, 'work'),
  };
  const [archive, debian] = [join(folder, 'a.tar.zst'), join(folder, 'a.deb')];
  packages.push(async () => {
    await buildArchive(contents, archive);
    await buildDebianPackage(contents, debian);
  });
  return { folder, archive, debian };
}
const packages: (() => Promise<void>)[] = [];

t.test('two builds are the same', async (t) => {
  const [one, two] = [build('one', new Date(1e12)), build('two', new Date())];
  for (const make of packages) await make();
  t.equal(sha256(readFileSync(one.archive)), sha256(readFileSync(two.archive)));
  t.equal(sha256(readFileSync(one.debian)), sha256(readFileSync(two.debian)));

  const listed = execFileSync('dpkg-deb', ['--contents', one.debian]).toString();
  t.match(listed, /^-rwxr-xr-x root\/root .* \.\/usr\/bin\/ya-vm$/m);
  t.match(listed, /^-rw-r--r-- root\/root .* \.\/usr\/lib\/yagna\/plugins\/ya-vm\.json$/m);
  const fields = execFileSync('dpkg-deb', ['--field', one.debian]).toString();
  t.match(fields, /^Depends: qemu-system-x86, e2fsprogs,/m);
  t.match(fields, /^Recommends: passt, squashfs-tools,/m);
  writeFileSync(join(one.folder, 'SHA256SUMS'), checksums([one.archive, one.debian]));
  execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: one.folder });
});

t.test('the bill of materials', async (t) => {
  const folders = packageFolders([
    'host/a.ts',
    'node_modules/pino/b.js',
    'node_modules/@serialport/stream/c.js',
  ]);
  t.same(folders, ['node_modules/@serialport/stream', 'node_modules/pino']);
  const text = sbomText({ name: 'x', version: '1' }, npmComponents(folders, 'package-lock.json'), 0);
  t.match(JSON.parse(text), {
    bomFormat: 'CycloneDX',
    metadata: { timestamp: '1970-01-01T00:00:00.000Z' },
    components: [
      { name: '@serialport/stream', purl: /^pkg:npm\/%40serialport\/stream@/, hashes: [{ alg: 'SHA-512' }] },
      { name: 'pino' },
    ],
  });
  t.throws(() => npmComponents(['node_modules/nobody'], 'package-lock.json'), /lists no/);
});

t.test('the time that packages state', async (t) => {
  t.equal(sourceDate({ SOURCE_DATE_EPOCH: '12' }), 12);
  t.throws(() => sourceDate({ SOURCE_DATE_EPOCH: 'now' }), /no number/);
});
