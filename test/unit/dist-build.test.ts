/** The packages: the same bytes each time, with what they must hold. The program itself is a stand-in: it takes a minute. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { buildArchive, buildDebianPackage, checksums } from '../../build/dist/archives.ts';
import { packageFolders } from '../../build/dist/licences.ts';
import { npmComponents, sbomText } from '../../build/dist/sbom.ts';
import { shellFiles } from '../../build/dist/shell-files.ts';
import { sourceDate } from '../../build/dist/steps.ts';
import { allNodes, commandTree } from '../../host/cli/completion-tree.ts';
import { pageName } from '../../host/cli/man-page.ts';
import { sha256 } from '../lib/vm.ts';

/** Where Debian's shells look for them, and their names in the archive. */
const COMPLETIONS = {
  'bash-completion/completions/ya-vm': 'ya-vm.bash',
  'zsh/vendor-completions/_ya-vm': '_ya-vm',
  'fish/vendor_completions.d/ya-vm.fish': 'ya-vm.fish',
};

const top = mkdtempSync(join(tmpdir(), 'yavm-dist-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

interface Built {
  folder: string;
  archive: string;
  debian: string;
}

async function build(name: string, changed: Date): Promise<Built> {
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
    shell: await shellFiles('1.2.3'),
    epoch: 1_700_000_000,
    work: join(folder, 'work'),
  };
  const [archive, debian] = [join(folder, 'a.tar.zst'), join(folder, 'a.deb')];
  await buildArchive(contents, archive);
  await buildDebianPackage(contents, debian);
  return { folder, archive, debian };
}

t.test('two builds are the same', async (t) => {
  const [one, two] = [await build('one', new Date(1e12)), await build('two', new Date())];
  t.equal(sha256(readFileSync(one.archive)), sha256(readFileSync(two.archive)));
  t.equal(sha256(readFileSync(one.debian)), sha256(readFileSync(two.debian)));

  const listed = execFileSync('dpkg-deb', ['--contents', one.debian]).toString();
  t.match(listed, /^-rwxr-xr-x root\/root .* \.\/usr\/bin\/ya-vm$/m);
  t.match(listed, /^-rw-r--r-- root\/root .* \.\/usr\/lib\/yagna\/plugins\/ya-vm\.json$/m);
  const fields = execFileSync('dpkg-deb', ['--field', one.debian]).toString();
  t.match(fields, /^Depends: qemu-system-x86, e2fsprogs,/m);
  t.match(fields, /^Recommends: passt, squashfs-tools,/m);
  const pages = allNodes(await commandTree()).map((node) => `${pageName(node)}.1.gz`);
  const inArchive = execFileSync('tar', ['-tf', one.archive]).toString();
  for (const page of pages) {
    t.ok(listed.includes(` ./usr/share/man/man1/${page}\n`), page);
    t.ok(inArchive.includes(`/man/man1/${page}\n`), `${page} in the archive`);
  }
  for (const [installed, archived] of Object.entries(COMPLETIONS)) {
    t.ok(listed.includes(` ./usr/share/${installed}\n`), installed);
    t.ok(inArchive.includes(`/completions/${archived}\n`), archived);
  }
  const root = join(one.folder, 'root');
  execFileSync('dpkg-deb', ['--extract', one.debian, root]);
  const page = gunzipSync(readFileSync(join(root, 'usr/share/man/man1/ya-vm-run.1.gz'))).toString();
  t.match(page, /^\.TH "YA\\-VM\\-RUN" 1 "" "ya\\-vm 1\.2\.3"/, 'of this version');
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
